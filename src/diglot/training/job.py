"""One training run of one framework: what to train, how, and where its files go."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diglot.output import write_whole
from diglot.training.recipe import Recipe

FRAMEWORK_NAMES = {"torch": "PyTorch", "keras": "Keras"}
FRAMEWORKS = tuple(FRAMEWORK_NAMES)


@dataclass(frozen=True)
class Job:
    """Everything that a training process must know.

    ``task`` names a `diglot.training.Task` ("package.module:NAME").
    ``directory`` takes its checkpoint, history, weights and logs; ``start`` is the file of the
    weights to start from (PyTorch's names, safetensors). ``model`` and ``data`` are the arguments of
    the task's models and data. ``dtype`` is "float32" or "float64"; ``limit`` ends
    training after that many steps (the schedule still counts all of them); ``checkpoint_seconds``
    is the time between two checkpoints; ``logs`` writes TensorBoard's files, ``scored``
    says whether validation and test scores are computed, and ``extras`` whether the task's are, too.
    """

    task: str
    framework: str
    directory: str
    start: str
    model: dict[str, Any]
    data: dict[str, Any]
    recipe: Recipe
    dtype: str = "float32"
    limit: int | None = None
    checkpoint_seconds: float = 15.0
    logs: bool = True
    scored: bool = True
    extras: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The job as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Job:
        """The job that `to_dict` wrote."""
        return cls(**{**values, "recipe": Recipe(**values["recipe"])})

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return Path(self.directory)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint belongs to: all but the places and the pace."""
        values = self.to_dict()
        for name in ("directory", "start", "checkpoint_seconds", "logs", "extras"):
            del values[name]
        return values

    def save(self) -> None:
        """Write job.json beside the run's other files."""
        write_whole(self.folder / "job.json", json.dumps(self.to_dict(), indent=1) + "\n")
