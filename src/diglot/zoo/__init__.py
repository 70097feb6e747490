"""The zoo: systems written by hand in both languages, trained on real data, and compared.

Each pair lies in a folder of its own: torch_model.py, keras_model.py, pair.py and its page, README.md.
A study compares ways to do one thing, and has study.py in place of a pair.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from diglot.errors import BadInput, UsageError
from diglot.zoo.pair import Exhibit, Options, Pair, read_changes

PAIRS = (
    "mnist-mlp",
    "decoder-only",
    "dna-tagger",
    "dna-seq2seq",
    "encoder-only",
    "encoder-decoder",
    "doc-classifier",
    "resnet",
)
STUDIES = ("static-graph", "training-steps")

__all__ = [
    "PAIRS",
    "STUDIES",
    "Exhibit",
    "Options",
    "Pair",
    "find_exhibit",
    "find_pair",
    "find_run",
    "read_changes",
]


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


def find_run(folder: Path) -> Pair:
    """The pair that was run in `folder`; raises BadInput where none was run to its end."""
    path = folder / "result.json"
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["pair"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(
            f"{folder} is not the folder of a finished run.",
            expected="a folder with the result.json that diglot zoo run writes at its end",
            received="no such file" if isinstance(error, OSError) else "another file of that name",
        ) from error
    return find_pair(name)
