"""Training processes, seen from the process that starts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diglot.errors import BadInput
from diglot.runtime.process import Reply, WorkerProcess
from diglot.training.job import FRAMEWORKS, Job

Tell = Callable[[dict[str, Any]], None]

_SILENCE = 3600.0


class TrainingProcess(WorkerProcess):
    """One framework in a process of its own; `tell` hears how far it is."""

    def __init__(self, framework: str, tell: Tell | None = None) -> None:
        """Start the process. Raises BadInput for an unknown framework."""
        if framework not in FRAMEWORKS:
            raise BadInput(
                "No such framework.", expected=" or ".join(FRAMEWORKS), received=framework
            )
        self._tell: Tell = tell or (lambda event: None)
        super().__init__("diglot.training.worker", {"DIGLOT_FRAMEWORK": framework})

    def train(self, job: Job) -> dict[str, Any]:
        """Train a job, or finish it where a checkpoint of it stands, and give its figures.

        Raises BadInput for what the data or the recipe make impossible, and WorkerFailed where the
        process ends; its last checkpoint then stays for the next time.
        """
        job.folder.mkdir(parents=True, exist_ok=True)
        job.save()
        return self.call("train", job=job.to_dict(), timeout=_SILENCE).result

    def perform(
        self, task: str, function: str, arrays: Mapping[str, np.ndarray], **arguments: Any
    ) -> Reply:
        """Call a function of a task's in this process (see `worker.Commands.perform`).

        Raises BadInput and MissingExtra as it does, and WorkerFailed where the process ends.
        """
        return self.call(
            "perform", arrays, timeout=_SILENCE, task=task, function=function, arguments=arguments
        )

    def _read_line(self, timeout: float) -> bytes:
        while True:
            line = super()._read_line(timeout)
            event = json.loads(line).get("event")
            if event is None:
                return line
            self._tell(event)
