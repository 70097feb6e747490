"""The Keras side, inside its own process: one translated model at a time, driven with arrays.

Everything here runs in the worker. Arrays come and go in the source's layout for inputs, outputs
and their gradients, and by target path for weights.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap, resolve, settle
from diglot.errors import BadInput
from diglot.runtime import capture
from diglot.runtime.calling import call_model
from diglot.runtime.capture import describe_layer
from diglot.runtime.engines import value_and_gradients
from diglot.runtime.exchange import cotangent, read_arrays
from diglot.runtime.nests import follow
from diglot.runtime.original import Original
from diglot.runtime.program import Program


class KerasSession:
    """One translation, read from its folder, as a live Keras model in one float width."""

    def __init__(self, live: Any = None) -> None:
        """`live`: the Keras model of a translation to PyTorch, where it lives in this process."""
        self.directory = Path()
        self.model: Any = None
        self.weight_map = WeightMap()
        self.variables: dict[str, Any] = {}
        self.problems: dict[str, str] = {}
        self._layers: dict[str, Any] = {}
        self._program = Program()
        self._original = Original(live)
        self.maker: Program | Original = self._program

    def close(self) -> None:
        """Give back a model that was lent, as it was."""
        self._original.close()

    # -- building and saving --------------------------------------------------------------------

    def load(
        self,
        directory: str,
        floatx: str = "float32",
        weights: bool = True,
        search: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Build the model of `directory` in `floatx` and, with `weights`, read its weight file:
        model.py, or for a translation to PyTorch the Keras model that it was made of (whose modules
        are looked for in `search`, too). Answers with what does not fit the weight map, in words, by
        target path."""
        self.directory = Path(directory)
        sys.path += [place for place in search if place not in sys.path]
        self.weight_map = WeightMap.load(self.directory / "weight_map.json")
        self.maker = self._original if self.weight_map.to_torch else self._program
        self.model = self.maker.model(self.directory, floatx, weights)
        self._resolve()
        return {"problems": self.problems, "extra": self._unfilled(), "class": self._class_name()}

    def _resolve(self) -> None:
        """Find every mapped variable and every watched layer in the live model."""
        root = self.weight_map.root_layer(self.model)
        self.variables, self.problems, self._layers = {}, {}, {}
        for entry in self.weight_map.entries:
            try:
                variable = resolve(root, entry.target)
            except BadInput as error:
                self.problems[entry.target] = error.message
                continue
            if variable is None or not hasattr(variable, "assign"):
                self.problems[entry.target] = f"{entry.target} is {variable!r}, not a weight"
            elif tuple(variable.shape) != tuple(entry.shape):
                self.problems[entry.target] = (
                    f"the map gives shape {list(entry.shape)}, the model has {list(variable.shape)}"
                )
            else:
                self.variables[entry.target] = variable
        self._untracked()
        for pair in self.weight_map.modules:
            # A module that the target does not have is reported by the parent: it gets no outputs.
            with contextlib.suppress(BadInput):
                self._layers[pair.target] = resolve(root, pair.target)

    def _untracked(self) -> None:
        """Fill the variables of TensorFlow's own that layers hold, which no file of Keras's has."""
        found = {t: v for t, v in self.variables.items() if callable(getattr(v, "value", None))}
        if not found:
            return
        arrays = self.weight_map.apply(read_arrays(self.directory / "model.safetensors"))
        for target, variable in found.items():
            variable.assign(arrays[target])
            self.variables[target] = _Untracked(variable)

    def _unfilled(self) -> list[dict[str, Any]]:
        """The model's variables that no weight of the other side is for, and that the map does not
        list as such; seed states left out."""
        known = {id(variable) for variable in self.variables.values()}
        if self.weight_map.to_torch:
            for item in self.weight_map.unmapped:
                with contextlib.suppress(BadInput):
                    known.add(id(resolve(self.model, item["source"])))
        return [
            {"path": variable.path, "trainable": bool(variable.trainable)}
            for variable in self.model.variables
            if id(variable) not in known and "seed_generator" not in variable.path
        ]

    def _class_name(self) -> str:
        return type(self.weight_map.root_layer(self.model)).__name__

    def save(self) -> dict[str, Any]:
        """Write model.weights.h5 and model.keras beside model.py, each whole or not at all."""
        sizes = {}
        for name, write in (
            ("model.weights.h5", self.model.save_weights),
            ("model.keras", self.model.save),
        ):
            temporary = self.directory / f".part-{os.getpid()}-{name}"
            try:
                write(str(temporary))
                temporary.replace(self.directory / name)
            except OSError as error:
                raise BadInput(
                    f"{name} could not be written: {error.strerror or error}.",
                    where=str(self.directory),
                    hint="make room there, or name another output folder",
                ) from error
            finally:
                temporary.unlink(missing_ok=True)
            sizes[name] = (self.directory / name).stat().st_size
        return sizes

    # -- weights --------------------------------------------------------------------------------

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Assign arrays to variables, by target path; unknown paths raise BadInput."""
        for path, array in arrays.items():
            if path not in self.variables:
                raise BadInput(
                    f"The Keras model has no weight {path}: {self.problems.get(path, 'unknown')}.",
                    hint="translate again: the model and the weight map do not belong together",
                )
            self.variables[path].assign(array)
        if hasattr(self.model, "_flatten_layers"):
            settle(self.model)

    def get_weights(self, changing_only: bool = False) -> dict[str, np.ndarray]:
        """The variables' values by target path; of those alone that a call may change, where wanted."""
        from keras import ops

        return {
            entry.target: np.array(ops.convert_to_numpy(self.variables[entry.target].value))
            for entry in self.weight_map.entries
            if entry.target in self.variables and (entry.changes or not changing_only)
        }

    # -- running --------------------------------------------------------------------------------

    def _call(self, tensors: list[Any], training: bool) -> Any:
        """Call the model on tensors in the source's layout, in the order of the map's inputs."""
        from keras import ops

        values = [
            tensor if spec.perm is None else ops.transpose(tensor, spec.perm)
            for tensor, spec in zip(tensors, self.weight_map.inputs, strict=True)
        ]
        way = self.weight_map.structure["inputs"]
        if self.maker is self._original:
            way, values = self._original.arguments(values)
        elif way not in ("single", "dict"):
            way = "list"
        names = [spec.name for spec in self.weight_map.inputs]
        return call_model(self.model, way, names, values, training=training)

    def _outputs(self, returned: Any) -> list[Any]:
        """The mapped outputs, in the source's layout."""
        from keras import ops

        outputs = []
        for spec in self.weight_map.outputs:
            value = follow(returned, tuple(spec.path))
            if spec.perm is not None:
                value = ops.transpose(value, [int(i) for i in np.argsort(spec.perm)])
            outputs.append(value)
        return outputs

    def _trained(self) -> dict[str, Any]:
        """The variables to differentiate by, by target path, each once."""
        found: dict[int, tuple[str, Any]] = {}
        for entry in self.weight_map.entries:
            variable = self.variables.get(entry.target)
            if entry.trainable and entry.kind == "parameter" and variable is not None:
                found.setdefault(id(variable), (entry.target, variable))
        return dict(found.values())

    def run(
        self,
        inputs: list[np.ndarray],
        *,
        training: bool,
        seed: int,
        gradients: bool = True,
        modules: bool = True,
        module_inputs: bool = False,
    ) -> dict[str, np.ndarray]:
        """One call, and its gradients where wanted.

        Answers arrays named `output:I`, `grad:TARGET`, `input_grad:I`, `buffer:TARGET` (in
        evaluation mode of those that the call wrote; the model itself gets its old ones back), and in the
        target's layout
        `module:PATH:CALL:I` and `module_input:PATH:CALL:I`. The order in which modules returned is
        in `order`, one index into the map's modules for each call.
        """
        from keras import ops

        trained = self._trained()
        watched = self._layers if modules else {}
        others = {id(v): v for v in self.model.non_trainable_variables} if training else {}
        # The states of a recurrent layer are no weights of the model, and written in either mode.
        changing = {e.target for e in self.weight_map.entries if e.changes}
        others |= {id(v): v for n, v in self.variables.items() if n in changing}
        # Copies: a backend may hand out its own memory, which the call then writes to.
        kept = [(variable, np.array(_numpy(variable.value))) for variable in others.values()]
        wanted = {pair.target: pair.paths for pair in self.weight_map.modules}
        # What is generated returns nothing but what is read.
        wanted = wanted if self.weight_map.to_torch else {}
        with _given_back(kept), capture.recording(watched, wanted) as recorder:

            def forward(tensors: Any) -> tuple[Any, Any]:
                outputs = self._outputs(self._call(list(tensors), training))
                # Tensors only: JAX must see them to give their values back.
                seen = [(call.inputs, call.outputs) for call in recorder.calls]
                return self._loss(outputs, seed), (outputs, seen)

            if gradients:
                (outputs, seen), by_variable, by_input = value_and_gradients(
                    self.model, forward, inputs, list(trained.values())
                )
                paths = [call.path for call in recorder.calls]
                calls = [capture.Call(p, *held) for p, held in zip(paths, seen, strict=True)]
            else:
                tensors = [ops.convert_to_tensor(array) for array in inputs]
                outputs = self._outputs(self._call(tensors, training))
                calls, by_variable, by_input = recorder.calls, [], []
            arrays = {f"output:{i}": _numpy(output) for i, output in enumerate(outputs)}
            arrays |= {f"grad:{n}": g for n, g in zip(trained, by_variable, strict=False)}
            arrays |= {f"input_grad:{i}": g for i, g in enumerate(by_input) if g is not None}
            before = {id(variable): value for variable, value in kept}
            for name, array in self.get_weights(changing_only=True).items():
                if training or not np.array_equal(array, before[id(self.variables[name])]):
                    arrays[f"buffer:{name}"] = array
        return arrays | self._module_arrays(calls, module_inputs)

    def _module_arrays(self, calls: list[Any], module_inputs: bool) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        index = {pair.target: i for i, pair in enumerate(self.weight_map.modules)}
        counts: Counter[str] = Counter()
        for call in calls:
            key = f"{call.path}:{counts[call.path]}"
            counts[call.path] += 1
            for i, tensor in enumerate(call.outputs):
                arrays[f"module:{key}:{i}"] = _numpy(tensor)
            for i, tensor in enumerate(call.inputs if module_inputs else []):
                arrays[f"module_input:{key}:{i}"] = _numpy(tensor)
        arrays["order"] = np.array([index[call.path] for call in calls], np.int64)
        return arrays

    def _loss(self, outputs: list[Any], seed: int) -> Any:
        """sum(output * cotangent) over the float outputs."""
        import keras
        from keras import ops

        total: Any = 0.0
        for i, output in enumerate(outputs):
            if "float" in str(output.dtype):
                weights = cotangent(seed, i, tuple(output.shape))
                dtype = keras.backend.standardize_dtype(output.dtype)
                total = total + ops.sum(output * ops.convert_to_tensor(weights, dtype=dtype))
        return total

    def train(
        self,
        inputs: list[np.ndarray],
        *,
        steps: int,
        rate: float,
        seed: int,
        factors: Mapping[str, float],
    ) -> dict[str, np.ndarray]:
        """`steps` steps of plain gradient descent in training mode, w -= rate * factor * gradient;
        the loss of step k has the cotangents of seed + k. Answers the weights afterwards."""
        for step in range(steps):
            self._descend(inputs, rate, seed + step, factors)
        return self.get_weights()

    def _descend(
        self, inputs: list[np.ndarray], rate: float, seed: int, factors: Mapping[str, float]
    ) -> None:
        def forward(tensors: Any) -> tuple[Any, Any]:
            return self._loss(self._outputs(self._call(list(tensors), True)), seed), ()

        trained = self._trained()
        _, gradients, _ = value_and_gradients(self.model, forward, inputs, list(trained.values()))
        for (path, variable), gradient in zip(trained.items(), gradients, strict=True):
            change = rate * factors.get(path, 1.0) * gradient
            variable.assign(_numpy(variable.value) - change)

    def graph_ops(self, training: bool = False) -> Counter[str]:
        """How many TensorFlow ops of each type the traced model holds, function bodies included.

        Raises BadInput on another backend than TensorFlow, which has no such graph.
        """
        import keras

        if keras.backend.backend() != "tensorflow":
            raise BadInput("Graph ops are counted on the TensorFlow backend only.")
        import tensorflow as tf

        def signature(tensor: Any) -> Any:
            return tf.TensorSpec(tensor.shape, tensor.dtype)

        traced = tf.function(lambda x: self.model(x, training=training))
        specs = tf.nest.map_structure(signature, self.model.input)
        graph = traced.get_concrete_function(specs).graph.as_graph_def()
        counts = Counter(node.op for node in graph.node)
        for function in graph.library.function:
            counts.update(node.op for node in function.node_def)
        return counts

    def describe(self, path: str) -> dict[str, Any]:
        """Class and settings of the layer at a target path, as far as JSON can hold them."""
        layer = self._layers.get(path)
        return {} if layer is None else describe_layer(layer)


@contextlib.contextmanager
def _given_back(kept: list[tuple[Any, np.ndarray]]) -> Iterator[None]:
    """Variables get their values back after a call, also after one that came to an end midway."""
    try:
        yield
    finally:
        for variable, value in kept:
            variable.assign(value)


class _Untracked:
    """A variable of TensorFlow's own that a layer holds, used as Keras's variables are. Keras does not train it."""

    trainable = False

    def __init__(self, variable: Any) -> None:
        self._variable = variable
        self.shape, self.path = tuple(variable.shape), variable.name
        self.dtype = variable.dtype.name

    @property
    def value(self) -> Any:
        return self._variable.read_value()

    def assign(self, value: Any) -> None:
        self._variable.assign(value)


def _numpy(tensor: Any) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(tensor))


def inputs_from(arrays: Mapping[str, np.ndarray], specs: list[TensorSpec]) -> list[np.ndarray]:
    """The inputs, in the map's order, from arrays named `input:I`; floats in the model's width,
    since the gradient of a narrower input would be rounded."""
    import keras

    width = keras.config.floatx()
    inputs = [arrays[f"input:{i}"] for i in range(len(specs))]
    return [array.astype(width) if array.dtype.kind == "f" else array for array in inputs]
