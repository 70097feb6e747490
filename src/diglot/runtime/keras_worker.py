"""The Keras worker's main program: `python -m diglot.runtime.keras_worker FD`.

Reads one JSON command a line from standard input, answers one JSON line each on file descriptor FD,
and ends when its input does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from diglot.errors import DiglotError
from diglot.runtime.exchange import read_arrays, write_arrays

Arrays = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Arrays]

_TRACE_LINES = 12


class Commands:
    """The commands of the worker: each takes its parameters and arrays, and gives both back."""

    def __init__(self, live: Any = None) -> None:
        """Import Keras with the backend that KERAS_BACKEND names. `live`: see KerasSession."""
        from diglot.runtime.keras_session import KerasSession

        self.session = KerasSession(live)
        self.opened: Any = None

    def ping(self, arrays: Arrays) -> Answer:
        """Versions of everything that the proof depends on."""
        import keras

        backend = keras.backend.backend()
        versions = {
            "keras": keras.__version__,
            "backend": backend,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
            backend: getattr(sys.modules.get(backend), "__version__", None),
        }
        return versions, {}

    def load(
        self, arrays: Arrays, directory: str, floatx: str = "float32", **options: Any
    ) -> Answer:
        """See KerasSession.load."""
        return self.session.load(directory, floatx, **options), {}

    def materialise(self, arrays: Arrays, directory: str) -> Answer:
        """Build in float32, take `arrays` by target path as weights, save both files."""
        from diglot.errors import BadInput

        loaded = self.session.load(directory, "float32", weights=False)
        problems = loaded["problems"]
        if problems:
            lines = "".join(f"\n  {path}: {text}" for path, text in problems.items())
            raise BadInput(f"model.py and the weight map do not fit each other:{lines}")
        self.session.set_weights(arrays)
        return {"files": self.session.save(), **loaded}, {}

    def set(self, arrays: Arrays) -> Answer:
        """Assign weights by target path."""
        self.session.set_weights(arrays)
        return {}, {}

    def get(self, arrays: Arrays) -> Answer:
        """Every mapped weight by target path."""
        return {}, self.session.get_weights()

    def run(self, arrays: Arrays, dropout: bool = False, **options: Any) -> Answer:
        """See KerasSession.run; inputs are named `input:I`. Answers under "exact" how often what
        was made exact (see keras_exact)."""
        from diglot.runtime.keras_exact import exact, no_dropout
        from diglot.runtime.keras_session import inputs_from

        inputs = inputs_from(arrays, self.session.weight_map.inputs)
        model = None if dropout else self.session.model
        with no_dropout(model), self.session.maker.computing(), exact() as used:
            answer = self.session.run(inputs, **options)
        return {"exact": dict(used)}, answer

    def train(self, arrays: Arrays, **options: Any) -> Answer:
        """See KerasSession.train."""
        from diglot.runtime.keras_exact import exact, no_dropout
        from diglot.runtime.keras_session import inputs_from

        inputs = inputs_from(arrays, self.session.weight_map.inputs)
        with no_dropout(self.session.model), self.session.maker.computing(), exact():
            return {}, self.session.train(inputs, **options)

    def graph_ops(self, arrays: Arrays, training: bool = False) -> Answer:
        """See KerasSession.graph_ops."""
        return dict(self.session.graph_ops(training)), {}

    def open(self, arrays: Arrays, source: str) -> Answer:
        """Load the model that `source` names (see keras_sources), for `observe`."""
        from diglot.runtime.keras_sources import load_model

        self.opened = load_model(source, self.session)
        return {"class": type(self.opened).__name__}, {}

    def observe(self, arrays: Arrays, names: list[str]) -> Answer:
        """Call what `open` loaded on inputs named `input:I` (see observing.observe)."""
        from diglot.factories import TheirCode
        from diglot.runtime.observing import observe

        inputs = [arrays[f"input:{i}"] for i in range(len(names))]
        hint = "the inputs must be those that both models take"
        with TheirCode("The Keras model, called with these inputs,", hint):
            return observe(self.opened, names, inputs).pack()

    def describe(self, arrays: Arrays, path: str) -> Answer:
        """See KerasSession.describe."""
        return self.session.describe(path), {}


class Reported:
    """Turns whatever a command raises into an error to send back, so that the worker lives on."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.error: dict[str, Any] | None = None

    def __enter__(self) -> Reported:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        lines = "".join(traceback.format_exception(error)).splitlines()
        self.error = {
            "command": self.command,
            "type": type(error).__name__,
            "message": str(error),
            "name": getattr(error, "name", None),
            "traceback": lines[-_TRACE_LINES:],
        }
        if isinstance(error, DiglotError):
            names = ("message", "expected", "received", "where", "hint")
            self.error["type"] = "BadInput"
            self.error["fields"] = {name: getattr(error, name) for name in names}
        return True


def _answer(commands: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one request; the arrays of the answer go into a file beside the request's."""
    start = time.perf_counter()
    name = request["command"]
    with Reported(name) as reported:
        arrays = read_arrays(request["arrays"], remove=True) if request["arrays"] else {}
        command: Callable[..., Answer] = getattr(commands, name)
        result, out = command(arrays, **request["parameters"])
        path = None
        if out:
            path = str(Path(request["folder"]) / f"from-{request['id']}.safetensors")
            write_arrays(path, out)
        seconds = time.perf_counter() - start
        return {"id": request["id"], "result": result, "arrays": path, "seconds": seconds}
    return {"id": request["id"], "error": reported.error}


def serve(requests: IO[str], replies: IO[str], make: Callable[[], Any] = Commands) -> None:
    """Answer every line of `requests` on `replies`, until there are no more, with the methods of
    what `make` gives: each takes arrays and parameters, and gives a result and arrays."""
    commands: Any = None
    for line in requests:
        request = json.loads(line)
        with Reported("start") as reported:
            if commands is None:
                commands = make()
        reply = (
            _answer(commands, request)
            if commands is not None
            else {"id": request["id"], "error": reported.error}
        )
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _prepare() -> None:
    """Import the framework before the first command comes, so that the wait overlaps."""
    with Reported("start"):
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_tensor_float_32_execution(False)
        elif keras.backend.backend() == "jax":
            import jax

            jax.config.update("jax_enable_x64", True)


def main() -> None:
    """Serve on standard input and the file descriptor that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8")
    _prepare()
    # Each program that is built collects the garbage of the one before (`clear_session`): that need not look
    # through a million objects of the framework's own every time.
    gc.freeze()
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
