"""Runs a TensorFlow graph from its file, in a process of its own: ``python -m diglot.runtime.graph_runner``.

Takes the graph's ``origin`` as JSON, an npz file with ``input:0``, … and the name of the one to write, with
``output:0``, …
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diglot.errors import WorkerFailed
from diglot.runtime.process import worker_environment


def run_graph(origin: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What TensorFlow makes of the inputs, in the graph's own dtypes. Raises WorkerFailed."""
    with tempfile.TemporaryDirectory(prefix="diglot-graph-") as name:
        given, made = Path(name) / "in.npz", Path(name) / "out.npz"
        _save(given, "input", inputs)
        command = [sys.executable, "-m", __name__, json.dumps(dict(origin)), str(given), str(made)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=worker_environment({})
        )
        if done.returncode or not made.exists():
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise WorkerFailed("TensorFlow could not run the graph.", received=lines[-1][:400])
        with np.load(made) as arrays:
            return [arrays[f"output:{i}"] for i in range(len(arrays.files))]


def main(origin: Mapping[str, Any], given: Path, made: Path) -> None:
    """Run the graph once."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with np.load(given) as arrays:
        inputs = [arrays[f"input:{i}"] for i in range(len(arrays.files))]
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        if origin["tags"] is not None:
            v1.saved_model.loader.load(session, origin["tags"], origin["path"])
        else:
            definition = v1.GraphDef()
            definition.ParseFromString(Path(origin["path"]).read_bytes())
            v1.import_graph_def(definition, name="")
        tensors = [graph.get_tensor_by_name(_tensor(name)) for name in origin["inputs"]]
        fed = {
            tensor: array.astype(tensor.dtype.as_numpy_dtype)
            for tensor, array in zip(tensors, inputs, strict=True)
        }
        outputs = session.run([_tensor(name) for name in origin["outputs"]], fed)
    _save(made, "output", outputs)


def _save(path: Path, kind: str, values: Sequence[Any]) -> None:
    named: dict[str, Any] = {f"{kind}:{i}": np.asarray(value) for i, value in enumerate(values)}
    np.savez(path, **named)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
