"""The training process's main program: `python -m diglot.training.worker FD`, with DIGLOT_FRAMEWORK set.

Speaks as the proof's worker does (see `runtime.process`); between a command and its reply it also
writes lines {"event": …}, which say how far training is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import IO, Any

from diglot.runtime.keras_worker import Answer, Arrays, serve
from diglot.runtime.memory import peak_memory
from diglot.training.job import Job
from diglot.training.run import Run
from diglot.training.task import find_task


class Commands:
    """What a training process does."""

    def __init__(self, framework: str, replies: IO[str]) -> None:
        """Import the framework."""
        if framework == "torch":
            from diglot.training import torch_loop as loop
        else:
            from diglot.training import keras_loop as loop
        self.framework, self.loop, self.replies = framework, loop, replies
        self.imported = peak_memory()

    def tell(self, event: Mapping[str, Any]) -> None:
        """Send an event to the parent."""
        self.replies.write(json.dumps({"event": event}) + "\n")
        self.replies.flush()

    def train(self, arrays: Arrays, job: dict[str, Any]) -> Answer:
        """Train a `Job`; gives the figures of `Run.result`, and "imported_mib", the memory that
        the framework takes by itself."""
        wanted = Job.from_dict(job)
        run = Run(find_task(wanted.task), wanted, self.tell)
        return {**self.loop.train(run), "imported_mib": self.imported}, {}

    def perform(
        self, arrays: Arrays, task: str, function: str, arguments: dict[str, Any]
    ) -> Answer:
        """Call a function of a task's in this process, where the framework is; it takes arrays, the
        framework's name and `tell`, and gives a result and arrays."""
        called = getattr(find_task(task), function)
        return called(arrays, self.framework, self.tell, **arguments)


def main() -> None:
    """Serve on standard input and the file descriptor that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    framework = os.environ["DIGLOT_FRAMEWORK"]
    serve(sys.stdin, replies, lambda: Commands(framework, replies))


if __name__ == "__main__":
    main()
