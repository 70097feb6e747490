"""One training run as both frameworks' loops see it: the batches, the history, the checkpoints.

The loops themselves are the frameworks' own (an explicit one in PyTorch, `fit` in Keras); what must be
the same in both is here.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from diglot.errors import BadInput
from diglot.output import write_whole
from diglot.runtime.memory import peak_memory
from diglot.training.job import Job
from diglot.training.task import Arrays, Batch, Data, Task, mapped, total

Tell = Callable[[dict[str, Any]], None]
Predict = Callable[[Arrays], Any]

_WARM_UP_STEPS = 3
_TELL_EVERY = 0.2


@dataclass
class History:
    """The loss of every step, the scores of every finished epoch, and those before the first step."""

    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    before: dict[str, float] = field(default_factory=dict)


class Run:
    """Hands out batches, and keeps what a loop reports."""

    def __init__(self, task: Task, job: Job, tell: Tell) -> None:
        """Read the data. Raises BadInput where the task has none."""
        self.task, self.job, self.tell = task, job, tell
        self.recipe = job.recipe
        self.data: Data = task.data(**job.data)
        self.rows = rows_of(self.data.train)
        self.epoch_steps = math.ceil(self.rows / self.recipe.batch_size)
        self.steps = self.epoch_steps * self.recipe.epochs
        self.last = self.steps if job.limit is None else min(job.limit, self.steps)
        self.history = History()
        self.seconds: list[float] = []
        self.resumed_at = 0
        self._ordered: tuple[int, np.ndarray] | None = None
        self._saved = self._told = self._stepped = time.perf_counter()

    # -- batches --------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """The batch of `step`: the same whenever, and in whatever framework, it is asked for."""
        epoch, index = divmod(step, self.epoch_steps)
        seed = self.recipe.seed
        size = self.recipe.batch_size
        chosen = self._order(epoch)[index * size : (index + 1) * size]
        rows = {name: array[chosen] for name, array in self.data.train.items()}
        return self.cast(self.task.batch(rows, np.random.default_rng([seed, epoch, index])))

    def _order(self, epoch: int) -> np.ndarray:
        """The order of the rows in an epoch, kept until another epoch's is asked for."""
        if self._ordered is None or self._ordered[0] != epoch:
            order = np.random.default_rng([self.recipe.seed, epoch]).permutation(self.rows)
            self._ordered = epoch, order
        return self._ordered[1]

    def cast(self, batch: Batch) -> Batch:
        """The batch with its floating-point arrays in the run's precision."""
        dtype = self.job.dtype

        def wide(array: np.ndarray) -> np.ndarray:
            return array.astype(dtype) if array.dtype.kind == "f" else array

        weights = mapped(lambda array: array.astype(dtype), batch.weights)
        return Batch(mapped(wide, batch.inputs), mapped(wide, batch.targets), weights)

    def in_order(self, rows: Arrays) -> Iterator[Batch]:
        """The batches of a part that is only looked at, in the order in which it lies."""
        size = self.recipe.batch_size
        for start in range(0, rows_of(rows), size):
            part = {name: array[start : start + size] for name, array in rows.items()}
            yield self.cast(self.task.batch(part, np.random.default_rng([self.recipe.seed, start])))

    def score(self, predict: Predict, rows: Arrays) -> dict[str, float]:
        """The task's scores over all rows of a part."""
        batches = self.in_order(rows)
        parts = [self.task.score(predict(batch.inputs), batch) for batch in batches]
        return self.task.complete(total(parts))

    # -- where it stands ------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of steps done."""
        return len(self.history.losses)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.last or self._patience_is_out()

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.recipe.rate(step, self.steps)

    def begin(self, predict: Predict, metadata: dict[str, str] | None) -> None:
        """Start, or go on where a checkpoint with `metadata` stands."""
        if metadata is not None:
            self.history = History(**json.loads(metadata["history"]))
        elif self.task.scored_before and self.job.scored:
            self.history.before = self._validation(predict)
        self.resumed_at = self.step
        self._saved = self._stepped = time.perf_counter()

    def metadata(self) -> dict[str, str]:
        """What a checkpoint says beside its arrays."""
        identity = json.dumps(self.job.identity(), sort_keys=True)
        return {"history": json.dumps(asdict(self.history)), "job": identity}

    # -- what a loop reports --------------------------------------------------------------------

    def after_step(self, loss: float, save: Callable[[], None]) -> None:
        """Keep a step's loss; calls `save` when a checkpoint is due. Raises BadInput for a loss that
        is no number."""
        now = time.perf_counter()
        self.seconds.append(now - self._stepped)
        if not math.isfinite(loss):
            raise BadInput(
                f"The loss of step {self.step + 1} is {loss}: training has diverged.",
                where=f"{self.job.framework}, {self.job.task}",
                hint="lower the learning rate",
            )
        self.history.losses.append(float(loss))
        if now - self._told > _TELL_EVERY or self.step == self.last:
            self._told = now
            self.tell({"kind": "step", "step": self.step, "steps": self.last, "loss": loss})
        if now - self._saved > self.job.checkpoint_seconds:
            save()
            self._saved = time.perf_counter()
        self._stepped = time.perf_counter()

    def after_epoch(self, predict: Predict, save: Callable[[], None]) -> None:
        """Score an epoch on the validation rows, and save."""
        losses = self.history.losses[-self.epoch_steps :]
        scores = {"train_loss": statistics.fmean(losses)}
        if self.job.scored:
            scores |= self._validation(predict)
        self.history.epochs.append(scores)
        self.tell({"kind": "epoch", "epoch": len(self.history.epochs), "scores": scores})
        save()
        self._saved = self._stepped = time.perf_counter()

    def _validation(self, predict: Predict) -> dict[str, float]:
        found = self.score(predict, self.data.validation)
        return {f"validation_{name}": value for name, value in found.items()}

    def at_epoch_end(self) -> bool:
        """Whether the last step was an epoch's last one and the epoch has not been scored yet."""
        return self.step == (len(self.history.epochs) + 1) * self.epoch_steps

    def _patience_is_out(self) -> bool:
        patience = self.recipe.patience
        if patience is None or not self.job.scored:
            return False
        losses = [scores["validation_loss"] for scores in self.history.epochs]
        return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])

    def result(self, predict: Predict, model: Any, parameters: int) -> dict[str, Any]:
        """Score the trained model on the test rows, write history.json and give all figures.

        "epoch_seconds" is the time of an epoch's steps, without the first step of all and without
        validation; "peak_mib" what the process had in memory until the end of training.
        """
        steady, later = self.seconds[_WARM_UP_STEPS:], self.seconds[1:]
        result: dict[str, Any] = {
            "framework": self.job.framework,
            "parameters": parameters,
            "steps": self.step,
            "epoch_steps": self.epoch_steps,
            "resumed_at": self.resumed_at,
            "first_step_seconds": self.seconds[0] if self.seconds else None,
            "step_seconds": statistics.median(steady) if steady else None,
            "epoch_seconds": statistics.fmean(later) * self.epoch_steps if later else None,
            "peak_mib": peak_memory(),
            "data": self.data.about,
        }
        if self.job.scored:
            result["test"] = self.score(predict, self.data.test)
        if self.job.scored and self.job.extras:
            result["extras"] = self.task.extras(predict, model, self.job)
        history = asdict(self.history)
        write_whole(self.job.folder / "history.json", json.dumps(history) + "\n")
        return {**result, "history": history}


def rows_of(part: Arrays) -> int:
    """The number of examples in a part. Raises BadInput where there is none."""
    count = min((len(array) for array in part.values()), default=0)
    if not count:
        raise BadInput("There is not one example to learn from or to be judged by.")
    return count
