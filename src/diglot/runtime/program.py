"""A generated Keras program, built from its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diglot.errors import BadInput
from diglot.runtime.afresh import import_afresh
from diglot.runtime.building import traced_once
from diglot.runtime.keras_exact import set_width


class Program:
    """model.py with its weight file, as a live model; the last one is kept."""

    def __init__(self) -> None:
        """Nothing is built yet."""
        self._model: Any = None
        # The program and the float width that the model was built from.
        self._built: tuple[bytes, str] | None = None

    def model(self, directory: Path, floatx: str, weights: bool) -> Any:
        """Build it in `floatx` and, with `weights`, read its weight file. Where the very same program
        was built last, in the same width, the weight file alone is read."""
        import keras

        file = str(directory / "model.weights.h5")
        program = self._read(directory)
        if weights and self._built == (program, floatx):
            self._model.load_weights(file)
        else:
            self._built = None
            keras.utils.clear_session()
            set_width(floatx)
            build_model = import_afresh(directory / "model.py").build_model
            with traced_once():
                self._model = build_model(file) if weights else build_model()
            self._built = (program, floatx)
        return self._model

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """A generated program computes in the width that it was built in."""
        yield

    def _read(self, directory: Path) -> bytes:
        path = directory / "model.py"
        if not path.exists():
            raise BadInput(
                "There is no model.py.", where=str(path), hint="translate again, into this folder"
            )
        return path.read_bytes()
