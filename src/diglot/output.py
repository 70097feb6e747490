"""The output folder: appears whole or not at all, and never takes the place of anything else."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diglot.errors import BadInput, UsageError

MARK = "NOT-PROVEN.txt"
FILES = frozenset(
    {
        "model.py",
        "model.weights.h5",
        "model.keras",
        "weight_map.json",
        "translation.json",
        "proof.json",
        "pages.html",
        "source.pt2",
        "model.safetensors",
        "source.keras",
        "source.weights.h5",
        MARK,
    }
)


def is_translation(directory: Path) -> bool:
    """Whether the folder is one that ``diglot translate`` wrote."""
    try:
        info = json.loads((directory / "translation.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and str(info.get("created_by", "")).startswith("diglot")


def check_output(directory: Path, force: bool = False) -> None:
    """Refuse an output folder that holds something else than an earlier translation.

    With ``force`` such a folder is no obstacle: :func:`staged` then moves it aside, whole.
    Raises :class:`UsageError`.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise UsageError(
            f"{directory} exists and is no folder.", hint="choose another -o; it was left alone"
        )
    existing = _existing_parent(directory)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"{existing} cannot be written to.", hint="choose another -o")
    if force or not directory.exists():
        return
    foreign = sorted(_foreign(directory))
    if foreign:
        listed = ", ".join(foreign[:5]) + (", …" if len(foreign) > 5 else "")
        raise UsageError(
            f"{directory} holds something else than an earlier translation; nothing was touched.",
            received=listed,
            hint=f"choose another -o, or add --force, which moves the folder to {directory}.old-1",
        )


def _existing_parent(directory: Path) -> Path:
    return next(p for p in directory.absolute().parents if p.exists())


def _foreign(directory: Path) -> Iterator[str]:
    """Names in the folder that a new translation would not bring back."""
    ours = is_translation(directory)
    for path in directory.iterdir():
        known = path.name in FILES or path.name == "__pycache__"
        if not (ours and known):
            yield path.name + ("/" if path.is_dir() else "")


def write_whole(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


@contextlib.contextmanager
def staged(directory: Path, force: bool = False) -> Iterator[Path]:
    """Yield an empty sibling folder that takes the place of ``directory`` if all goes well.

    On any error, an interruption included, it is removed and ``directory`` is as it was. A full
    disk, or a place that cannot be written to, becomes one :class:`BadInput`.
    """
    check_output(directory, force)
    directory = directory.absolute()
    with _disk_errors(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{directory.name}.diglot-", dir=directory.parent))
    try:
        with _disk_errors(directory):
            stage.chmod(0o777 & ~_umask())  # mkdtemp makes it private; a result is as public as any
            yield stage
            check_output(directory, force)  # minutes have passed
            _take_place(stage, directory)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _take_place(stage: Path, directory: Path) -> None:
    if not directory.exists():
        stage.rename(directory)
        return
    foreign = any(_foreign(directory))
    if foreign:
        number = 1
        while (old := directory.with_name(f"{directory.name}.old-{number}")).exists():
            number += 1
    else:
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.gone-", dir=directory.parent))
        old.rmdir()
    directory.rename(old)
    try:
        stage.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    if not foreign:
        shutil.rmtree(old, ignore_errors=True)


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk; h5py tells so in its text only."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(seen) or "Disk quota exceeded" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextlib.contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if is_full_disk(error):
            raise BadInput(
                f"The disk is full; nothing was written to {directory}.",
                hint="make room, or choose an -o on another disk",
            ) from error
        if isinstance(error, PermissionError):
            raise BadInput(
                f"{error.filename or directory} cannot be written to.", hint="choose another -o"
            ) from error
        raise


def mark(directory: Path, proof: Mapping[str, Any]) -> None:
    """Leave a note in the folder of a translation that is not proven; take it out of others."""
    path = directory / MARK
    if proof.get("verdict") == "proven":
        path.unlink(missing_ok=True)
        return
    lines = [
        f"This translation is not proven: the verdict is {proof.get('verdict')!r}.",
        "Do not use it as the same function as its source before you have read proof.json.",
    ]
    lines += [text for _, text in divergence_lines(proof)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def divergence_lines(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, sentence) pairs that say where a proof failed and why."""
    lines: list[tuple[str, str]] = []
    first = proof.get("first_divergence") or {}
    if first:
        place = first.get("module") or "the model's outputs"
        if first.get("file"):
            place += f" ({first['file']}:{first.get('line')})"
        lines.append(("diverges first", f"The first difference is in {place}."))
        if first.get("likely_cause"):
            lines.append(("likely cause", f"Likely cause: {first['likely_cause']}"))
    reason = proof.get("reason")
    if reason:
        lines.append(("reason", str(reason)))
    return lines
