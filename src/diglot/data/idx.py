"""The IDX file format: a magic number, the sizes, then the numbers, all big-endian."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from diglot.errors import BadInput

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_bytes(path: Path) -> bytes:
    """The content of `path`, decompressed where it is gzip (told by its first bytes, not its name).

    Raises BadInput when the file cannot be read or its compressed data is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP_MAGIC) else content
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadInput(
            f"The compressed file {path} is damaged or cut short ({error}).",
            hint="delete it and fetch it again",
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(f"The file {path} cannot be read: {reason}.") from error


def parse_idx(content: bytes, name: str) -> np.ndarray:
    """An array of uint8 with the sizes that the header declares.

    `name` is what error messages call the data. Raises BadInput when the header is not that of
    an IDX file of unsigned bytes, or when the data is not as long as it says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise BadInput(
            f"{name} is not an IDX file of unsigned bytes.",
            expected="a header that begins with 00 00 08",
            received=content[:3].hex(" ") or "an empty file",
        )
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise BadInput(f"{name} ends inside its header.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=rank, offset=4))
    expected = int(np.prod(shape, dtype=np.int64))
    if len(content) - start != expected:
        raise BadInput(
            f"{name} is not as long as its header says.",
            expected=f"{expected} bytes for the shape {shape}",
            received=f"{len(content) - start} bytes",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_idx(path: Path) -> np.ndarray:
    """The array in the IDX file `path`, gzip or plain: uint8. Raises BadInput."""
    return parse_idx(read_bytes(path), str(path))


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write `array` (uint8, any rank) as gzip IDX; the same array always gives the same bytes."""
    if array.dtype != np.uint8:
        raise TypeError(f"an IDX file of unsigned bytes needs uint8, not {array.dtype}")
    header = bytes([0, 0, _UNSIGNED_BYTE, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    # mtime=0: gzip would otherwise store the time of writing.
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))
