"""Ways to do one thing, each in a process of its own: `python -m diglot.zoo.ways FD`.

Speaks as the proof's worker does (see `runtime.process`).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from diglot.runtime.keras_worker import Answer, Arrays, serve
from diglot.runtime.process import Reply, WorkerProcess


class Commands:
    """What such a process does."""

    def call(self, arrays: Arrays, way: str, **parameters: Any) -> Answer:
        """Call the function `way` ("module:name") with arrays and parameters; it gives a dict of
        JSON-ready values and a dict of arrays."""
        if os.environ.get("DIGLOT_WIDTH"):
            from diglot.runtime.keras_exact import set_width

            set_width(os.environ["DIGLOT_WIDTH"])
        module, _, name = way.partition(":")
        return getattr(importlib.import_module(module), name)(arrays, **parameters)


def call_way(
    way: str,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    backend: str | None = None,
    width: str | None = None,
    **parameters: Any,
) -> Reply:
    """Call `way` in a fresh process: with Keras on `backend` where one is given, computing in `width`.

    Raises MissingExtra where a framework is not installed, and WorkerFailed.
    """
    environment = {
        "KERAS_BACKEND": backend or "tensorflow",
        "DIGLOT_WIDTH": width if backend and width else "",
        # JAX computes in float32 unless it is told otherwise before it starts.
        "JAX_ENABLE_X64": "1" if width == "float64" else "0",
    }
    with WorkerProcess("diglot.zoo.ways", environment) as process:
        return process.call("call", dict(arrays or {}), way=way, **parameters)


def main() -> None:
    """Serve on standard input and the file descriptor that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(sys.stdin, os.fdopen(int(sys.argv[1]), "w", encoding="utf-8"), Commands)


if __name__ == "__main__":
    main()
