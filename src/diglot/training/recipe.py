"""How a model is trained, said once for both frameworks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from diglot.errors import BadInput

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Recipe:
    """The optimizer, its learning rate, and how long.

    ``schedule`` "cosine" falls from ``learning_rate`` to a tenth of it over all steps, after
    ``warmup`` steps that rise from zero. ``patience`` is the number of epochs without a lower
    validation loss after which training stops (None: never). ``epsilon`` is Adam's: the two
    frameworks' defaults differ (PyTorch 1e-8, Keras 1e-7), so it is always given.
    """

    batch_size: int
    epochs: int
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.0
    epsilon: float = 1e-8
    schedule: str = "constant"
    warmup: int = 0
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers; raises BadInput, in one sentence, for the first that cannot be."""
        for name in ("batch_size", "epochs"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise BadInput(
                    f"Training needs at least one {'epoch' if name == 'epochs' else 'row a batch'}.",
                    expected=f"{name} of 1 or more",
                    received=str(value),
                )
        if self.optimizer not in OPTIMIZERS:
            raise BadInput(
                "No such optimizer.", expected=", ".join(OPTIMIZERS), received=self.optimizer
            )
        if self.schedule not in SCHEDULES:
            raise BadInput(
                "No such schedule.", expected=", ".join(SCHEDULES), received=self.schedule
            )
        if self.weight_decay and self.optimizer != "adamw":
            # PyTorch adds it to the gradient (L2), Keras takes it off the weight: only AdamW agrees.
            raise BadInput("Weight decay needs the optimizer adamw.", received=self.optimizer)
        if not 0 < self.learning_rate < math.inf:
            raise BadInput(
                "The learning rate is no positive number.", received=str(self.learning_rate)
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of ``step`` (from 0) of ``steps`` in all."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(steps - self.warmup, 1)
        return self.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return asdict(self)
