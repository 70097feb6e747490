"""The files of a translation, read for the report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from diglot.errors import BadInput


def read_report(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Contents of translation.json and of proof.json (None where nothing has been proved).

    Raises:
        BadInput: translation.json is missing, or one of the files is not JSON.
    """
    folder = Path(directory)
    proof = folder / "proof.json"
    info = read_json(folder / "translation.json")
    return info, read_json(proof) if proof.exists() else None


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise BadInput(
            f"{path.parent} holds no translation: {path.name} is missing.",
            expected="a folder written by `diglot translate`",
            hint="run `diglot translate SOURCE -o FOLDER` first",
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not a text file.", received=str(error)) from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(
            f"{path} is not valid JSON.",
            received=str(error),
            hint="translate again: `diglot translate SOURCE -o FOLDER`",
        ) from error
    if not isinstance(value, dict):
        raise BadInput(
            f"{path} holds something else than Diglot writes there.",
            expected="a JSON object",
            received=type(value).__name__,
        )
    return value
