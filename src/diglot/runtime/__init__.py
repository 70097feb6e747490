"""Worker processes, one for each framework: arrays in, arrays out.

Importing this imports no framework, and neither does starting a worker.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diglot.errors import UsageError
from diglot.runtime.observing import Observation
from diglot.runtime.process import Reply, WorkerProcess

__all__ = [
    "KerasWorker",
    "Reply",
    "WorkerProcess",
    "borrow_worker",
    "materialise",
    "start_worker",
]

BACKENDS = ("tensorflow", "jax", "torch")


class KerasWorker(WorkerProcess):
    """A process that holds Keras and one translated model; see `keras_worker.Commands`."""

    def __init__(self, backend: str = "tensorflow") -> None:
        """Start it (returns at once). Raises UsageError for a backend that Keras does not have."""
        if backend not in BACKENDS:
            raise UsageError(
                f"Keras has no backend {backend!r}.", expected="one of " + ", ".join(BACKENDS)
            )
        self.backend = backend
        super().__init__(
            "diglot.runtime.keras_worker",
            {
                "KERAS_BACKEND": backend,
                # A proof must not take the whole GPU from whoever else uses it.
                "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            },
        )

    def load(
        self, directory: str | os.PathLike[str], floatx: str = "float32", *, weights: bool = True
    ) -> dict[str, Any]:
        """Build `directory`/model.py in `floatx`, with the weights of its weight file.

        Answers {"problems": {target: text}, "extra": [{"path", "trainable"}], "class": name}.
        """
        self.submit_load(directory, floatx, weights=weights)
        return self.collect().result

    def submit_load(
        self, directory: str | os.PathLike[str], floatx: str, *, weights: bool = True
    ) -> None:
        """`load`, without waiting for it: `collect` gives what it answers."""
        path = str(Path(directory).resolve())
        # A Keras model that is the source may need modules that this process was told to find.
        options = {"weights": weights, "search": [place for place in sys.path if place]}
        self.submit("load", directory=path, floatx=floatx, **options)

    def observe(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> Observation:
        """Call the model that the command "open" loaded: see `observing.observe`."""
        inputs = {f"input:{i}": array for i, array in enumerate(arrays)}
        reply = self.call("observe", inputs, names=list(names))
        return Observation.unpack(reply.result, reply.arrays)

    def graph_ops(self, training: bool = False) -> Counter[str]:
        """How many TensorFlow ops of each type the loaded model's graph holds."""
        return Counter(self.call("graph_ops", training=training).result)


_spare: list[KerasWorker] = []


def start_worker(backend: str = "tensorflow") -> KerasWorker:
    """Start a Keras worker and return at once; its imports go on while the caller works.

    Until it is closed, whatever needs a worker and is given none uses this one. Closing is the
    caller's business.
    """
    worker = KerasWorker(backend)
    _spare.append(worker)
    return worker


@contextlib.contextmanager
def borrow_worker(
    backend: str = "tensorflow", worker: KerasWorker | None = None
) -> Iterator[KerasWorker]:
    """`worker`, or the one that `start_worker` started, or one of its own, closed at the end.

    Answers that nobody took, because of an error, are thrown away when it is given back.
    """
    _spare[:] = [spare for spare in _spare if spare.alive]
    ready = [spare for spare in _spare if spare.backend == backend]
    if worker is not None or ready:
        lent = worker or ready[-1]
        try:
            yield lent
        finally:
            lent.discard()
        return
    with KerasWorker(backend) as own:
        yield own


def materialise(
    directory: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    worker: KerasWorker | None = None,
) -> dict[str, Any]:
    """Give `directory`/model.py its weights: write model.weights.h5 and model.keras there.

    `arrays` holds every weight by target path (see weight_map.json). Each file is written whole or
    not at all. Answers what `KerasWorker.load` does, and the sizes under "files". Raises BadInput
    where model.py and the map do not fit, or the disk is full; WorkerFailed where model.py fails.
    """
    path = str(Path(directory).resolve())
    with borrow_worker(worker=worker) as keras:
        return keras.call("materialise", dict(arrays), directory=path).result
