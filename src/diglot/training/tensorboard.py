"""TensorBoard's event files, written without a framework, so that both are logged alike."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from pathlib import Path

from diglot.errors import MissingExtra
from diglot.training.run import Run


def open_log(run: Run) -> Log | NoLog:
    """The log of a run, below its folder, or none where the run wants none. A context manager.

    Raises MissingExtra where tensorboard is not installed.
    """
    return Log(run.job.folder / "tensorboard") if run.job.logs else NoLog()


class NoLog(contextlib.AbstractContextManager["NoLog"]):
    """Logs nothing."""

    def step(self, run: Run) -> None:
        """After a step."""

    def epoch(self, run: Run) -> None:
        """After an epoch."""

    def __exit__(self, *exception: object) -> None:
        return None


class Log(NoLog):
    """Scalars `loss`, `learning_rate` by step and every score by epoch, under one folder."""

    def __init__(self, folder: Path) -> None:
        """Open a new event file. Raises MissingExtra where tensorboard is not installed."""
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra("tensorboard", "zoo", needed_for="Logging a training run")
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def step(self, run: Run) -> None:
        """The loss and the learning rate of the last step."""
        values = {"loss": run.history.losses[-1], "learning_rate": run.rate(run.step - 1)}
        self._add(values, run.step)

    def epoch(self, run: Run) -> None:
        """The scores of the last epoch."""
        scores = run.history.epochs[-1]
        self._add({f"epoch/{name}": value for name, value in scores.items()}, run.step)

    def _add(self, values: dict[str, float], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=scalars))
        self._writer.add_event(event)

    def __exit__(self, *exception: object) -> None:
        self._writer.close()
