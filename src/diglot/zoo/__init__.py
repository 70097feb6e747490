"""The zoo: systems written by hand in both languages, trained on real data, and compared.

Each pair lies in a folder of its own: torch_model.py, keras_model.py, pair.py and its page, README.md.
"""

from __future__ import annotations

import importlib

from diglot.errors import UsageError
from diglot.zoo.pair import Pair

PAIRS = ("mnist-mlp",)

__all__ = ["PAIRS", "Pair", "find_pair"]


def find_pair(name: str) -> Pair:
    """The pair of that name; raises UsageError where there is none."""
    if name not in PAIRS:
        raise UsageError(
            f"The zoo has no pair {name!r}.", expected=", ".join(PAIRS), hint="see: diglot zoo list"
        )
    return importlib.import_module(f"diglot.zoo.{name.replace('-', '_')}.pair").PAIR
