"""PyTorch -> Keras -> PyTorch: the PyTorch models of the tests and the zoo, and what must come back of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from randomise import seeded
from styles import MODELS as STYLES

from diglot.zoo import PAIRS, find_pair

Factory = Callable[[], tuple[Any, Any]]

FILES = Path(__file__).resolve().parent.parent / "models"


def _of_tests() -> dict[str, Factory]:
    """Every ``make*`` of tests/models but those that are refused."""
    found = {}
    for file in sorted(FILES.glob("*.py")):
        if file.stem in ("refused", "randomise", "tutorial_transformer"):  # the last is Keras's
            continue
        for name, factory in vars(importlib.import_module(file.stem)).items():
            if name.startswith("make") and callable(factory):
                found[f"{file.stem}.{name}"] = factory
    return found


def _of_zoo(name: str) -> Factory:
    def make() -> tuple[Any, Any]:
        pair = find_pair(name)
        sizes = pair.setting("fast").model
        inputs = pair.example(sizes, np.random.default_rng(0))
        given = {key: torch.from_numpy(array) for key, array in inputs.items()}
        return pair.torch().build_model(**sizes), given

    return make


MODELS: dict[str, Factory] = {
    **_of_tests(),
    **{f"zoo.{name}": _of_zoo(name) for name in PAIRS},
    **{f"styles.{name}": seeded(factory) for name, factory in STYLES.items()},
}
