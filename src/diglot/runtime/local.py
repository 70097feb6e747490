"""The Keras side in this very process, for a model that no other process could build."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from diglot.errors import WorkerFailed
from diglot.runtime.process import Reply, failure


class LocalKeras:
    """Answers what a `KerasWorker` does, with a live model that it gives back as it was, once it is
    closed. Commands are carried out when their reply is collected."""

    alive = True

    def __init__(self, model: Any) -> None:
        """Borrow a live Keras model."""
        import keras

        from diglot.runtime.keras_worker import Commands

        self.backend = keras.backend.backend()
        self._commands = Commands(model)
        self._pending: deque[tuple[str, dict[str, np.ndarray], dict[str, Any]]] = deque()

    def call(
        self, command: str, arrays: Mapping[str, np.ndarray] | None = None, **parameters: Any
    ) -> Reply:
        """See WorkerProcess.call."""
        self.submit(command, arrays, **parameters)
        return self.collect()

    def submit(
        self, command: str, arrays: Mapping[str, np.ndarray] | None = None, **parameters: Any
    ) -> None:
        """See WorkerProcess.submit."""
        # A backend may go on using the memory that it is given.
        copies = {name: np.array(array) for name, array in (arrays or {}).items()}
        self._pending.append((command, copies, parameters))

    def collect(self, timeout: float = 0.0) -> Reply:
        """See WorkerProcess.collect; there is no timeout."""
        from diglot.runtime.keras_worker import Reported

        if not self._pending:
            raise WorkerFailed("No command is waiting for a reply.")
        command, arrays, parameters = self._pending.popleft()
        with Reported(command) as reported:
            return Reply(*getattr(self._commands, command)(arrays, **parameters))
        raise failure(reported.error or {})

    def discard(self) -> None:
        """Forget the commands that were not carried out."""
        self._pending.clear()

    def load(
        self, directory: str | os.PathLike[str], floatx: str = "float32", *, weights: bool = True
    ) -> dict[str, Any]:
        """See KerasWorker.load."""
        self.submit_load(directory, floatx, weights=weights)
        return self.collect().result

    def submit_load(
        self, directory: str | os.PathLike[str], floatx: str, *, weights: bool = True
    ) -> None:
        """See KerasWorker.submit_load."""
        self.submit("load", directory=str(directory), floatx=floatx, weights=weights)

    def close(self) -> None:
        """Give the model back."""
        self.discard()
        self._commands.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
