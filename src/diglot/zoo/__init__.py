"""The zoo: systems written by hand in both languages, trained on real data, and compared.

Each pair lies in a folder of its own: torch_model.py, keras_model.py, pair.py and its page, README.md.
A study compares ways to do one thing, and has study.py in place of a pair.
"""

from __future__ import annotations

import importlib

from diglot.errors import UsageError
from diglot.zoo.pair import Exhibit, Options, Pair

PAIRS = (
    "mnist-mlp",
    "decoder-only",
    "dna-tagger",
    "dna-seq2seq",
    "encoder-only",
    "encoder-decoder",
)
STUDIES = ("static-graph", "training-steps")

__all__ = ["PAIRS", "STUDIES", "Exhibit", "Options", "Pair", "find_exhibit", "find_pair"]


def find_exhibit(name: str) -> Exhibit:
    """The pair or study of that name; raises UsageError where there is none."""
    if name not in PAIRS + STUDIES:
        raise UsageError(
            f"The zoo has no {name!r}.",
            expected=", ".join(PAIRS + STUDIES),
            hint="see: diglot zoo list",
        )
    module = f"diglot.zoo.{name.replace('-', '_')}"
    if name in PAIRS:
        return importlib.import_module(f"{module}.pair").PAIR
    return importlib.import_module(f"{module}.study").STUDY


def find_pair(name: str) -> Pair:
    """The pair of that name; raises UsageError where there is none."""
    found = find_exhibit(name)
    if not isinstance(found, Pair):
        raise UsageError(f"{name} is no pair of trained models.", expected=", ".join(PAIRS))
    return found
