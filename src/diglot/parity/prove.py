"""Proving that a translation is the same function as its source, has its gradients, and trains
the same way."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import BadInput, WorkerFailed
from diglot.parity.proof import Proof
from diglot.runtime import graph_files, original

if TYPE_CHECKING:
    from diglot.runtime import KerasWorker

Progress = Callable[[str], None]

__all__ = ["Proof", "prove"]


def prove(
    translation: Any,
    *,
    sizes: list[dict[str, int]] | None = None,
    seed: int = 0,
    steps: int = 3,
    progress: Progress | None = None,
    backend: str = "tensorflow",
    worker: KerasWorker | None = None,
    thorough: bool | None = None,
) -> Proof:
    """Compare a translation's files with its source, in float64 and by every figure there is.

    The Keras side is read from `translation.directory` (from a temporary folder where it has none)
    into a process of its own; the source runs here, as a copy. `sizes` gives values for the dynamic
    sizes, by symbol, in place of those chosen; `steps` is the number of training steps; `progress`
    hears, in a few words, what is being done. `thorough` compares all combinations of sizes, modes
    and weights (True) or each at least once (False); None leaves it to the size of the model.
    Raises BadInput where there is nothing to run, and WorkerFailed where the Keras process ends; a
    model that differs raises nothing.
    """
    from diglot.parity.prover import Prover
    from diglot.parity.torch_modes import half_the_threads

    start = time.perf_counter()
    tell: Progress = progress or (lambda text: None)
    with (
        _files(translation) as directory,
        _keras_side(translation, directory, backend, worker) as (keras, note),
        half_the_threads(),
    ):
        prover = Prover(translation, directory, keras, seed=seed, tell=tell, thorough=thorough)
        proof = prover.prove(sizes, steps)
        proof.explained += note
        proof.hashes = _hashes(directory)
        proof.versions = {**_versions(), **keras.call("ping").result}
    proof.seed, proof.steps = seed, steps
    proof.created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    proof.seconds = round(time.perf_counter() - start, 2)
    return proof


@contextlib.contextmanager
def _keras_side(
    translation: Any, directory: Path, backend: str, worker: KerasWorker | None
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """A worker process; or, for a Keras source that no other process can build, this one, with what
    the proof says of that.

    A live source at hand is run here only where it must be: in a process of its own nothing that was
    done to it in this one can count.
    """
    from diglot.runtime import borrow_worker
    from diglot.runtime.local import LocalKeras

    live = translation.source_model if translation.weight_map.to_torch else None
    if is_graph(translation.info):  # which no other backend runs
        live, backend = None, "tensorflow"
    why = "its classes cannot be imported elsewhere, or cannot be saved"
    if live is None or original.read_record(directory)["kind"] != "live":
        with borrow_worker(backend, worker) as keras:
            try:
                if live is not None:
                    keras.load(directory, "float32")
            except (BadInput, WorkerFailed) as error:
                if isinstance(error, WorkerFailed) and not keras.alive:
                    raise
                why = next(iter(str(error).splitlines()), "")
            else:
                yield keras, []
                return
    what = "where the Keras model ran"
    text = "in the process that made the translation, its weights widened to float64 and put back"
    with LocalKeras(live) as here:
        yield here, [{"what": what, "why": f"{text}, since it could not be built afresh: {why}"}]


def is_graph(info: Mapping[str, Any]) -> bool:
    """Tell whether the source is a TensorFlow graph, by what translation.json says."""
    return (info.get("original") or {}).get("kind") == "graph"


@contextlib.contextmanager
def _files(translation: Any) -> Iterator[Path]:
    """The folder to prove: the translation's own, or a temporary copy of it."""
    directory = getattr(translation, "directory", None)
    if directory is not None:
        if not (Path(directory) / "model.py").exists():
            raise BadInput(
                "The translation's folder holds no model.py any more.",
                where=str(directory),
                hint="save the translation again",
            )
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory(prefix="diglot-proof-") as name:
        try:
            translation.save(name)
            yield Path(name)
        finally:
            if getattr(translation, "directory", None) is not None:
                translation.directory = None


def _hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of the files that the proof is about."""
    names = ("model.py", "model.weights.h5", "model.safetensors", "weight_map.json")
    names += (original.ARCHIVE, original.WEIGHTS, graph_files.FROZEN)
    paths = [directory / name for name in names]
    paths += sorted((directory / graph_files.FOLDER).rglob("*"))
    found = {}
    for path in paths:
        if path.is_file():
            with path.open("rb") as stream:
                found[path.relative_to(directory).as_posix()] = hashlib.file_digest(
                    stream, "sha256"
                ).hexdigest()
    return found


def _versions() -> dict[str, Any]:
    import importlib.metadata

    import torch

    versions: dict[str, Any] = {"torch": torch.__version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["diglot"] = importlib.metadata.version("diglot")
    return versions


def read_info(translation: Any, directory: Path) -> dict[str, Any]:
    """translation.json, from the object or else from the folder ({} where there is none)."""
    info = getattr(translation, "info", None)
    if info:
        return info
    path = directory / "translation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
