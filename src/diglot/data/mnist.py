"""MNIST: a real subset that comes with the package, and the full set from a folder or a mirror."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diglot.data.idx import parse_idx, read_bytes, read_idx
from diglot.errors import BadInput

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
FOLDER_VARIABLE = "DIGLOT_DATA"

# SHA-256 of the decompressed content: the same whoever compressed the file, and however well.
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILES = tuple(CHECKSUMS)

_SUBSET = Path(__file__).parent / "mnist_subset"
_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 30

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Mnist:
    """Images (n, 28, 28) and labels (n,), uint8: images 0 to 255, labels 0 to 9."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def mnist_subset() -> Mnist:
    """The subset that comes with the package: 12,000 training and 4,000 test images.

    They are evenly spaced over the full set: its test images get easier after the first half, so
    the first ones would not be a fair sample.
    """
    return Mnist(*(read_idx(_SUBSET / f"{name}.gz") for name in FILES))


def load_mnist(
    folder: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> Mnist:
    """The full set: 60,000 training and 10,000 test images, every file checked by its SHA-256.

    It is read from `folder`, or else from the folder that the environment variable DIGLOT_DATA
    names (the files may lie in it or in `mnist/` below it), or else from the user's cache, into
    which it is downloaded once. Files may be gzip or plain. A folder that was named is only
    read, never written to.

    Args:
        folder: where the four IDX files are.
        progress: called with (file name, bytes so far, bytes in all or None) while downloading.

    Raises:
        BadInput: a file is missing, damaged or not MNIST's, or no mirror can be reached.
    """
    named = folder if folder is not None else os.environ.get(FOLDER_VARIABLE)
    if not named:
        return _read(download_mnist(progress=progress))
    root = Path(named).expanduser()
    for place in (root, root / "mnist"):
        if any(_find(place, name) for name in FILES):
            return _read(place)
    origin = "" if folder is not None else f", which {FOLDER_VARIABLE} names,"
    raise BadInput(
        f"The folder {root}{origin} holds no MNIST file.",
        expected=", ".join(f"{name}.gz" for name in FILES),
        hint=f"fetch the files from {MIRRORS[0]}/",
    )


def download_mnist(
    folder: str | os.PathLike[str] | None = None, *, progress: Progress | None = None
) -> Path:
    """Fetch whichever of the four files `folder` (the user's cache by default) lacks.

    A file appears under its name only when it is whole and its checksum is right: stopping half
    way leaves nothing behind that a later call could trip over.

    Returns the folder. Raises BadInput when no mirror can be reached or the disk is full.
    """
    target = Path(folder).expanduser() if folder is not None else _cache_folder()
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            if _find(target, name) is None:
                _download(name, target, progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadInput(
            f"MNIST cannot be written to {target}: {reason}.",
            hint="free some space (12 MB), or name a folder that can be written to",
        ) from error
    return target


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "diglot" / "mnist"


def _find(folder: Path, name: str) -> Path | None:
    """The file called `name` in `folder`, compressed or not."""
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    return None


def _read(folder: Path) -> Mnist:
    """The four files of `folder`, each checked."""
    arrays = []
    for name in FILES:
        path = _find(folder, name)
        if path is None:
            raise BadInput(
                f"The MNIST file {name}.gz is missing from {folder}.",
                hint=f"fetch it from {MIRRORS[0]}/{name}.gz",
            )
        content = read_bytes(path)
        _check(content, name, path)
        arrays.append(parse_idx(content, str(path)))
    return Mnist(*arrays)


def _check(content: bytes, name: str, where: Path | str) -> None:
    """Raise BadInput unless `content` (decompressed) is the published file `name`."""
    found = hashlib.sha256(content).hexdigest()
    if found != CHECKSUMS[name]:
        raise BadInput(
            f"{where} is not the MNIST file {name}: its checksum differs.",
            expected=f"SHA-256 {CHECKSUMS[name]} of the decompressed content",
            received=found,
            hint="delete it and fetch it again",
        )


def _download(name: str, folder: Path, progress: Progress | None) -> None:
    """Put `name`.gz into `folder` from the first mirror that delivers it whole."""
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}/{name}.gz"
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                _fetch(url, name, file.write, progress)
            _check(read_bytes(Path(temporary)), name, url)
            Path(temporary).replace(folder / f"{name}.gz")
            return
        except _Unreachable as error:
            failures.append(f"{url}: {error}")
        except BadInput as error:  # damaged on the way: the other mirror may do better
            failures.append(error.message)
        finally:
            Path(temporary).unlink(missing_ok=True)
    raise BadInput(
        f"MNIST cannot be downloaded ({'; '.join(failures)}).",
        hint=f"put the four IDX files into a folder and name it in {FOLDER_VARIABLE} or as an "
        "argument; diglot.data.mnist_subset() needs no download",
    )


class _Unreachable(Exception):
    """A mirror did not deliver. Kept apart from OSError, which here means the disk."""


def _fetch(
    url: str, name: str, write: Callable[[bytes], object], progress: Progress | None
) -> None:
    """Copy `url` to `write`, block by block. Raises _Unreachable for any failure of the network."""
    try:
        response = urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Unreachable(str(getattr(error, "reason", None) or error)) from error
    with response:
        length = response.headers.get("Content-Length")
        total = int(length) if length else None
        done = 0
        while True:
            try:
                block = response.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Unreachable(f"the connection broke: {error}") from error
            if not block:
                break
            write(block)
            done += len(block)
            if progress is not None:
                progress(f"{name}.gz", done, total)
    if total is not None and done < total:
        raise _Unreachable(f"the connection ended after {done} of {total} bytes")
