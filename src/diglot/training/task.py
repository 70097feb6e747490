"""What is trained: the data, the two models, and how well their outputs do.

Nothing here imports a framework: each training process imports the one that it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diglot.codegen.weights import WeightMap
from diglot.errors import BadInput

if TYPE_CHECKING:
    from types import ModuleType

Arrays = dict[str, np.ndarray]
Scores = dict[str, tuple[float, float]]
"""Sums and what to divide them by, so that the scores of batches add up: {"accuracy": (91.0, 100.0)}."""


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    ``inputs`` by the name of the forward's parameter, in PyTorch's layout; ``targets``, an array of any shape;
    ``weights`` (the targets' shape, or its beginning) says how much each target counts, 0 for padding.
    Where a model returns a dict, targets and weights are dicts of the same keys.
    """

    inputs: Arrays
    targets: Any
    weights: Any = None


@dataclass(frozen=True)
class Data:
    """Rows for training, validation and test: every array of a part has one row per example.

    ``about`` says in a few words what they are, for the report.
    """

    train: Arrays
    validation: Arrays
    test: Arrays
    about: dict[str, Any] = field(default_factory=dict)


class Task:
    """Something to learn, with a model for it in each framework.

    A subclass names its ``inputs`` and the modules of its two models, and gives data, weight map and
    scores. The module of a PyTorch model holds ``build_model(**sizes) -> nn.Module`` and
    ``loss_function(outputs, targets, weights) -> Tensor``; that of a Keras one
    ``build_model(**sizes) -> keras.Model`` and ``compile_model(model, optimizer)``.
    """

    inputs: ClassVar[tuple[str, ...]]
    torch_module: ClassVar[str]
    keras_module: ClassVar[str]
    keras_layout: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    """How PyTorch's axes go to Keras, by input: (0, 2, 3, 1) for images."""
    scored_before: ClassVar[bool] = False
    """Whether validation is scored before the first step, too: what training starts from."""

    def data(self, **options: Any) -> Data:
        """The rows to learn from and to be judged by. Raises BadInput where they cannot be had."""
        raise NotImplementedError

    def batch(self, rows: Arrays, rng: np.random.Generator) -> Batch:
        """One batch of ``rows``; ``rng`` is for what is drawn anew each time (masked words)."""
        return Batch(
            {name: rows[name] for name in self.inputs}, rows["targets"], rows.get("weights")
        )

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Which Keras weight holds which of PyTorch's, and the inputs' and outputs' layouts."""
        raise NotImplementedError

    def score(self, outputs: Any, batch: Batch) -> Scores:
        """How well ``outputs`` (as the models return them, as arrays) do; "loss" is one of them.

        By default cross-entropy and accuracy of logits (…, classes) for targets (…), by the weights
        where there are any.
        """
        return {
            "loss": cross_entropy(outputs, batch.targets, batch.weights),
            "accuracy": accuracy(outputs, batch.targets, batch.weights),
        }

    def complete(self, scores: dict[str, float]) -> dict[str, float]:
        """The scores of all rows together, and what follows from them but is no mean (perplexity)."""
        return scores

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Any) -> dict[str, Any]:
        """What else to find out after training, as JSON-ready values; files go into ``job.folder``.

        ``predict`` maps input arrays to output arrays in evaluation mode; ``model`` is live and of
        ``job.framework``. Pages show "figures" (values by name) and "texts" (texts by title).
        """
        return {}

    def torch(self) -> ModuleType:
        """The module of the PyTorch model."""
        return importlib.import_module(self.torch_module)

    def keras(self) -> ModuleType:
        """The module of the Keras model."""
        return importlib.import_module(self.keras_module)


def find_task(name: str) -> Task:
    """The task that ``package.module:NAME`` names. Raises BadInput where there is none."""
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, Task):
        raise BadInput(f"{name} is no training task.", expected="an object of diglot.training.Task")
    return found


def mapped(function: Callable[[np.ndarray], Any], value: Any) -> Any:
    """`function` of an array, of every array of a dict, or None of None."""
    if isinstance(value, dict):
        return {name: mapped(function, item) for name, item in value.items()}
    return None if value is None else function(value)


def total(parts: list[Scores]) -> dict[str, float]:
    """The scores of all batches together; NaN where there was nothing to divide by."""
    names = dict.fromkeys(name for part in parts for name in part)
    result = {}
    for name in names:
        sums = [part[name] for part in parts if name in part]
        weight = sum(weight for _, weight in sums)
        result[name] = float(sum(value for value, _ in sums) / weight) if weight else float("nan")
    return result


def cross_entropy(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Sum and weight of -log softmax(logits)[target]: ``logits`` (…, classes), ``targets`` (…)."""
    high = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - high).sum(axis=-1, dtype=np.float64)) + high[..., 0]
    chosen = np.take_along_axis(logits, targets[..., None].astype(np.int64), axis=-1)[..., 0]
    losses = log_sum - chosen
    counts = np.ones(losses.shape) if weights is None else np.broadcast_to(weights, losses.shape)
    return float((losses * counts).sum()), float(counts.sum())


def accuracy(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Sum and weight of the targets that have the highest score: ``scores`` (…, classes)."""
    right = scores.argmax(axis=-1) == targets
    counts = np.ones(right.shape) if weights is None else np.broadcast_to(weights, right.shape)
    return float((right * counts).sum()), float(counts.sum())
