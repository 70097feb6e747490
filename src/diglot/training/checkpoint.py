"""Checkpoints: one safetensors file that appears whole, with the history in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diglot.training.job import Job
from diglot.training.task import Arrays


def write_checkpoint(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Replace the checkpoint at `path` by a new one, in one step: a kill leaves the old or the new."""
    from safetensors.numpy import save

    part = path.with_name(path.name + ".part")
    part.write_bytes(
        save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata)
    )
    part.replace(path)


def read_checkpoint(path: Path, job: Job) -> tuple[Arrays, dict[str, str]] | None:
    """The checkpoint at `path`, or None where there is none of this very job."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("job") != json.dumps(job.identity(), sort_keys=True):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return None


def below(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose name starts with `prefix`, under the rest of their names."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
