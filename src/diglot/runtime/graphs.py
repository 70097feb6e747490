"""A TensorFlow graph as a model of a Keras session: with variables, called on tensors, differentiable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diglot.graph_ends import returned
from diglot.graph_loops import functional
from diglot.runtime.graph_eager import Interpreter
from diglot.runtime.graph_files import GraphFile


class GraphModel:
    """A graph of a translation's folder.

    In float64 it is run op by op; in float32 TensorFlow runs the file as it is, with the weights in it.
    ``named_weights`` holds its variables by their names in the weight map.
    """

    def __init__(self, record: Mapping[str, Any], folder: Path, floatx: str) -> None:
        """Read file and variables. Raises BadInput where they are gone or damaged."""
        import keras
        import tensorflow as tf

        self.record = record
        self.file = GraphFile(record, folder)
        self.floatx = floatx
        definition = functional(self.file.definition)
        held: dict[str, Any] = {}
        values = self.file.variables(record["fetches"])
        nodes = {node.name: node for node in definition.node}
        for function in definition.library.function:
            nodes |= {f"{function.signature.name}:{n.name}": n for n in function.node_def}
        for key in record["weights"].values():
            if key in nodes and nodes[key].op == "Const":
                values[key] = tf.make_ndarray(nodes[key].attr["value"].tensor)
        for key, value in values.items():
            dtype = floatx if value.dtype == np.float32 else value.dtype.name
            held[key] = keras.Variable(value, dtype=dtype, name="weight")
        self.named_weights = {
            name: held[key] for name, key in record["weights"].items() if key in held
        }
        self._interpreter = Interpreter(definition, held)

    @property
    def variables(self) -> list[Any]:
        """The variables that the weight map names."""
        return list(self.named_weights.values())

    non_trainable_variables: tuple[Any, ...] = ()
    """A graph changes none of its variables."""

    def _flatten_layers(self) -> list[Any]:
        """The layers within: a graph has none."""
        return []

    def __call__(self, inputs: list[Any], training: bool = False) -> Any:
        """What the graph makes of tensors. It has one mode only, the one that it was saved in."""
        import tensorflow as tf

        feeds, fetches = self.record["feeds"], self.record["fetches"]
        if self.floatx == "float64":
            results = self._interpreter.run(dict(zip(feeds, inputs, strict=True)), fetches)
        else:
            arrays = [np.asarray(value) for value in inputs]
            results = [tf.constant(array) for array in self.file.run(feeds, fetches, arrays)]
        return returned(self.record["structure"], results)
