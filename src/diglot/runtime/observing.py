"""One Keras model, called once: what it returns, and what each of its innermost layers takes and gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diglot.errors import BadInput
from diglot.runtime import capture
from diglot.runtime.nests import tensors


@dataclass(frozen=True)
class LayerCall:
    """One call of one layer (its `path`, its class `kind`, which of its calls): the layer's weights,
    what went in and what came out."""

    path: str
    kind: str
    index: int
    weights: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]


@dataclass
class Observation:
    """What one call of a model gave: its outputs, the calls of its innermost layers in the order in
    which they returned, what `describe_layer` says of these, by path, and the model's float width."""

    outputs: list[np.ndarray] = field(default_factory=list)
    calls: list[LayerCall] = field(default_factory=list)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    width: str = "float32"

    def pack(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """As JSON-ready values and arrays by name, for another process."""
        arrays = {f"output:{i}": array for i, array in enumerate(self.outputs)}
        calls = []
        for number, call in enumerate(self.calls):
            calls.append({"path": call.path, "kind": call.kind, "index": call.index})
            for part in ("weights", "inputs", "outputs"):
                for i, array in enumerate(getattr(call, part)):
                    arrays[f"{number}:{part}:{i}"] = array
        return {"calls": calls, "layers": self.layers, "width": self.width}, arrays

    @classmethod
    def unpack(cls, result: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Observation:
        """What `pack` packed."""
        calls = []
        for number, call in enumerate(result["calls"]):
            parts = ("weights", "inputs", "outputs")
            held = [tuple(_numbered(arrays, f"{number}:{part}")) for part in parts]
            calls.append(LayerCall(call["path"], call["kind"], call["index"], *held))
        return cls(_numbered(arrays, "output"), calls, result["layers"], result["width"])


def _numbered(arrays: Mapping[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    while (name := f"{prefix}:{len(found)}") in arrays:
        found.append(arrays[name])
    return found


def observe(model: Any, names: Sequence[str], arrays: Sequence[np.ndarray]) -> Observation:
    """Call a live Keras model on `arrays`, in evaluation mode.

    `names` are the arrays' names on the PyTorch side; the model gets them by name or in order, with
    the channels last where it says so. Raises BadInput where they do not fit.
    """
    layers = _layers(model)
    with capture.recording(layers) as recorder:
        returned = model(_model_inputs(model, names, arrays), training=False)
    called = {id(layers[call.path]) for call in recorder.calls}
    inner = {path: _inside(layer) for path, layer in layers.items()}
    hidden = set().union(*(inner[path] for path, layer in layers.items() if _is_whole(layer)))
    found = Observation(_arrays(tensors(returned)), width=_width(model))
    counts: Counter[str] = Counter()
    for call in recorder.calls:
        layer = layers[call.path]
        index = counts[call.path]
        counts[call.path] += 1
        if id(layer) in hidden or (inner[call.path] & called and not _is_whole(layer)):
            continue
        weights = _arrays(v.value for v in layer.variables if "float" in str(v.dtype))
        inputs, outputs = _arrays(call.inputs), _arrays(call.outputs)
        kind = type(layer).__name__
        found.calls.append(
            LayerCall(call.path, kind, index, tuple(weights), tuple(inputs), tuple(outputs))
        )
        found.layers[call.path] = capture.describe_layer(layer)
    return found


def _arrays(values: Any) -> list[np.ndarray]:
    """Tensors as arrays; safetensors has no bfloat16 of NumPy's."""
    import keras

    found = [np.asarray(keras.ops.convert_to_numpy(value)) for value in values]
    return [a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in found]


def _layers(model: Any) -> dict[str, Any]:
    """Every layer of a Keras model by path; the model itself is left out."""
    found: dict[str, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        path = getattr(layer, "path", None) or layer.name
        while path in found:
            path += "'"
        found[path.replace("/", ".")] = layer
    return found


def _inside(layer: Any) -> set[int]:
    """The identities of the layers that a layer is made of."""
    return {id(item) for item in layer._flatten_layers(include_self=False)}


def _is_whole(layer: Any) -> bool:
    """Whether a layer is one of Keras's own that is one layer to its users, whatever it is made of."""
    own = type(layer).__module__.startswith("keras.src.layers")
    return own and type(layer).__name__ not in ("TimeDistributed", "Wrapper")


def _width(model: Any) -> str:
    """The float width that a Keras model computes in."""
    return str(getattr(model, "compute_dtype", "float32"))


def _model_inputs(model: Any, names: Sequence[str], arrays: Sequence[np.ndarray]) -> Any:
    """The inputs as the Keras model takes them: by name or in order, channels last where it says
    so."""
    wanted = getattr(model, "inputs", None)
    if not wanted:
        return arrays[0] if len(arrays) == 1 else list(arrays)
    by_name = dict(zip(names, arrays, strict=True))
    keys = [tensor.name for tensor in wanted]
    given = [by_name[k] for k in keys] if set(keys) == set(by_name) else list(arrays)
    if len(given) != len(wanted):
        raise BadInput(
            "The two models take different numbers of inputs.",
            expected=f"{len(wanted)} for Keras",
            received=str(len(given)),
        )
    laid_out = [_laid_out(array, tensor.shape) for array, tensor in zip(given, wanted, strict=True)]
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, Mapping):
        by_tensor = {id(tensor): array for tensor, array in zip(wanted, laid_out, strict=True)}
        return {key: by_tensor[id(tensor)] for key, tensor in structure.items()}
    return laid_out[0] if len(laid_out) == 1 else laid_out


def _laid_out(array: np.ndarray, shape: Any) -> np.ndarray:
    """`array` with its channels moved to the end where only that fits the Keras input's shape."""

    def fits(candidate: np.ndarray) -> bool:
        return len(shape) == candidate.ndim and all(
            size in (None, own) for size, own in zip(shape, candidate.shape, strict=True)
        )

    moved = np.moveaxis(array, 1, -1) if array.ndim >= 3 else array
    if fits(array):
        return array
    if not fits(moved):
        raise BadInput(
            "An input does not fit the Keras model.",
            expected=str(tuple(shape)),
            received=f"{array.shape}"
            + (f" (or {moved.shape} with the channels last)" if array.ndim >= 3 else ""),
        )
    return np.ascontiguousarray(moved)
