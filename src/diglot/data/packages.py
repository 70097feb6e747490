"""Data that come inside packages of the Python package index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from diglot.errors import MissingExtra


def package_folder(package: str, needed_for: str) -> Path:
    """The folder of an installed package, which is not imported (one of them prints when it is).

    Raises MissingExtra, which begins with `needed_for`, where it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(package.replace("_", "-"), needed_for=needed_for)
    return Path(next(iter(found.submodule_search_locations)))
