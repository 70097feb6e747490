"""Runs a TensorFlow graph from its file, inside the Keras worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def run_graph(origin: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What TensorFlow makes of the inputs, in the graph's own dtypes; ``origin`` is a GraphSource's."""
    import tensorflow as tf

    v1 = tf.compat.v1
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
        return session.run([_tensor(name) for name in origin["outputs"]], fed)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
