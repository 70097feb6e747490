"""The rules: one file for each family of ops."""

from __future__ import annotations

import importlib
import pkgutil

from diglot.rules.registry import Rule, Sample, registry

__all__ = ["Rule", "Sample", "load", "registry"]


def load() -> None:
    """Import every family, which registers its rules."""
    for module in pkgutil.iter_modules(__path__):
        if module.name != "registry":
            importlib.import_module(f"{__name__}.{module.name}")
