"""Arrays between processes: a dict of numpy arrays as one safetensors file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diglot.errors import BadInput


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` (any shape; bool, integer or float) to `path`.

    Raises BadInput where the disk has no room or the folder cannot be written to.
    """
    from safetensors.numpy import save

    # safetensors writes the bytes of a strided array as they lie, without a word: order="C".
    data = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise BadInput(
            f"{len(data) / 1e6:.0f} MB of arrays could not be written: {error.strerror}.",
            where=str(path),
            hint="make room there, or set TMPDIR to a folder on a disk that has some",
        ) from error


def read_arrays(path: str | os.PathLike[str], *, remove: bool = False) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; with `remove` the file is deleted afterwards."""
    from safetensors.numpy import load_file

    arrays = load_file(os.fspath(path))
    if remove:
        Path(path).unlink()
    return arrays


def cotangent(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """The fixed random weights (float64, the source's layout) of output `index` in the loss."""
    return np.random.default_rng([seed, index]).standard_normal(shape)
