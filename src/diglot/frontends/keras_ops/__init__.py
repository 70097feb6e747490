"""Functions of Keras's backend (``numpy.sum``, ``nn.softmax``) on torch tensors, one file for each namespace.

What has no function here is taken from the rules, read from Keras to PyTorch, and else from Keras's own torch
backend, which covers every op but writes more steps than a person would.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable
from typing import Any

from diglot.frontends.keras_ops.table import OPERATIONS, OPS, find_refusal

_REGULAR = re.compile(r"ops\.(\w+)\((\w+(?:, \w+)*)\)")


@functools.cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


@functools.cache
def reversed_rules() -> dict[str, Callable]:
    """Return the torch functions of the rules that are data only, by the name in ``keras.ops``."""
    import torch

    from diglot.rules.registry import registry

    found: dict[str, Callable] = {}
    for name, rule in registry().items():
        match = _REGULAR.fullmatch(rule.keras) if isinstance(rule.keras, str) else None
        if match is None:
            continue
        space, op, overload = name.split(".")
        target = getattr(getattr(getattr(torch.ops, space), op), overload)
        arguments = [a.name for a in target._schema.arguments]
        if match[2].split(", ") == arguments[: match[2].count(",") + 1]:
            found.setdefault(match[1], target)
    return found


def operation(name: str) -> Callable[..., Any] | None:
    """Return what computes an op of ``keras.ops`` (by its class's name) in fewer steps than Keras does, if anything.

    It is called with the op and torch tensors, and gives None for settings that it does not cover.
    """
    _load()
    return OPERATIONS.get(name)


@functools.cache
def find(name: str) -> Callable[..., Any]:
    """Return the function on torch tensors for one of Keras's backend (``"numpy.sum"``).

    Raises :class:`diglot.errors.Unsupported`, when called, for an op that has no form in PyTorch.
    """
    _load()
    refusal = find_refusal(name)
    if refusal is not None:
        return refusal
    if name in OPS:
        return OPS[name]
    space, _, attribute = name.partition(".")
    if attribute in reversed_rules() and space in ("numpy", "nn", "math"):
        return reversed_rules()[attribute]
    module = importlib.import_module(f"keras.src.backend.torch.{space}")
    return getattr(module, attribute)
