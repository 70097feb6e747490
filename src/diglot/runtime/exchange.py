"""Arrays between processes: a dict of numpy arrays as one safetensors file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diglot.errors import BadInput

_CODES = {
    "bool": "BOOL",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "complex64": "C64",
    # safetensors has no name for it: it goes between processes, which read with `remove`, alone.
    "complex128": "C128",
}
_DTYPES = {code: np.dtype(name) for name, code in _CODES.items()}


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` (any shape; bool, integer, float or complex) to `path`, one after the other:
    no more than one of them is in memory twice.

    Raises BadInput where the disk has no room or the folder cannot be written to, and for another
    dtype.
    """
    header, size = {}, 0
    # The widest first, so that each lies at a multiple of its width.
    ordered = [(name, np.asarray(array)) for name, array in arrays.items()]
    ordered.sort(key=lambda item: -item[1].dtype.itemsize)
    for name, array in ordered:
        if array.dtype.name not in _CODES:
            raise BadInput(
                f"An array of {array.dtype.name} cannot be handed from one process to another.",
                where=name,
            )
        offsets = [size, size + array.nbytes]
        code = _CODES[array.dtype.name]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": offsets}
        size += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    try:
        with Path(path).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, array in ordered:
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    except OSError as error:
        raise BadInput(
            f"{size / 1e6:.0f} MB of arrays could not be written: {error.strerror}.",
            where=str(path),
            hint="make room there, or set TMPDIR to a folder on a disk that has some",
        ) from error


def read_arrays(path: str | os.PathLike[str], *, remove: bool = False) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote. With `remove` the file is deleted at once; the arrays are then
    read from the disk as they are used, and its room is free again when they are."""
    if not remove:
        from safetensors.numpy import load_file

        return load_file(os.fspath(path))
    content = np.asarray(np.memmap(path, np.uint8, "c"))
    Path(path).unlink()
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    content = content[start:]
    return {
        name: content[slice(*item["data_offsets"])]
        .view(_DTYPES[item["dtype"]])
        .reshape(item["shape"])
        for name, item in header.items()
    }


def on_disk(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays in a temporary file that goes with them: they take memory only while there is
    enough of it. Raises BadInput where the disk has no room."""
    with tempfile.TemporaryDirectory(prefix="diglot-") as folder:
        path = Path(folder) / "arrays.safetensors"
        write_arrays(path, arrays)
        return read_arrays(path, remove=True)


def cotangent(seed: int, index: int, shape: tuple[int, ...]) -> np.ndarray:
    """The fixed random weights (float64, the source's layout) of output `index` in the loss."""
    return np.random.default_rng([seed, index]).standard_normal(shape)
