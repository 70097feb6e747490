"""Example inputs for a Keras model: the user's, or made of the shapes that the model declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from keras import KerasTensor, Layer, Sequential, tree
from keras.layers import Embedding, Rescaling
from keras.src.models.functional import Functional
from keras.src.ops.numpy import NotEqual

from diglot.errors import BadInput, Problem, Unsupported
from diglot.frontends.keras_tracing.classes import input_names
from diglot.frontends.keras_tracing.tensor import constant, torch_dtype
from diglot.runtime.calling import call_model, how_called, tensor_parameters

#: Sizes that stand for the ones that may vary, by the rank of the input.
_BATCH, _LENGTH, _SIDE = 2, 7, 32
_LARGEST_SCALE = 1 << 16


def as_inputs(model: Layer, given: Any) -> tuple[list[str], list[torch.Tensor], str]:
    """Return the inputs' names, values and structure (``single``, ``list`` or ``dict``), and build the model.

    Raises :class:`BadInput` where a model of the author's class says nothing of its inputs and none were given.
    """
    if isinstance(model, Sequential) and model._functional is not None:
        names, values, structure = _declared(model, model._functional.inputs, ["input"], given)
    elif isinstance(model, Functional):
        names, values, structure = _declared(model, model.inputs, input_names(model), given)
        if isinstance(model._inputs_struct, dict):
            structure = "dict"
    else:
        names, values, structure = _undeclared(model, given)
    if not model.built:
        _build(model, values, structure, names)
    return names, values, structure


def declared_sizes(model: Layer, names: list[str]) -> dict[str, dict[int, bool]] | None:
    """The sizes that a model leaves open, by the input's place and its axis; None for a model that declares no inputs.

    By place, since the module that runs may call its input by another name than the model does.
    """
    declared = getattr(getattr(model, "_functional", None) or model, "inputs", None)
    if not declared or len(declared) != len(names):
        return None
    return {
        str(place): {axis: True for axis, size in enumerate(tensor.shape) if size is None}
        for place, tensor in enumerate(declared)
    }


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        made = value.detach()
        return made.to(torch.int64) if made.dtype in (torch.int32, torch.uint32) else made
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        raise _strings()
    return constant(array)


def _strings() -> Unsupported:
    why = (
        "PyTorch has no tensors of text: take the text layer out (TextVectorization, StringLookup: their vocabulary "
        "makes ids in Python) and translate the rest of the model, which takes ids"
    )
    return Unsupported([Problem("an input of text", "", "", why)])


def _declared(
    model: Layer, inputs: list[Any], names: list[str], given: Any
) -> tuple[list[str], list[Any], str]:
    if given is None:
        bound, scale = _smallest_vocabulary(model), _fitting_scale(model, inputs)
        values = [
            _made(t.shape, "int32" if looked_up(t) else t.dtype, bound, _largest(t), scale)
            for t in inputs
        ]
    elif isinstance(given, Mapping):
        own = [t._keras_history.operation.name for t in inputs]
        keys = own if all(k in given for k in own) else list(given)
        struct = getattr(model, "_inputs_struct", None)
        if isinstance(struct, dict):
            values = [_tensor(v) for v in tree.flatten({k: given[k] for k in struct})]
        else:
            values = [_tensor(given[k]) for k in keys]
    else:
        values = [_tensor(v) for v in (given if isinstance(given, (list, tuple)) else [given])]
    if len(values) != len(inputs):
        raise BadInput(
            f"the model {model.name} takes {len(inputs)} inputs",
            expected=", ".join(names),
            received=f"{len(values)} example inputs",
        )
    return names, values, "single" if len(values) == 1 else "list"


def _smallest_vocabulary(model: Layer) -> int:
    """A bound on ids that every embedding of the model knows."""
    sizes = [layer.input_dim for layer in model._flatten_layers() if hasattr(layer, "input_dim")]
    return min((s for s in sizes if isinstance(s, int)), default=2)


def looked_up(tensor: Any) -> bool:
    """Tell whether an input is nothing but ids: ``Input((20,))`` says float32, but an Embedding reads it, or a model
    that wants whole numbers."""
    readers = [node.operation for node in tensor._keras_history.operation._outbound_nodes]
    layers = [o for o in readers if not isinstance(o, NotEqual)]  # of ``mask_zero``
    return bool(layers) and all(map(_looks_up, layers))


def _looks_up(layer: Any) -> bool:
    if isinstance(layer, Sequential):
        return bool(layer.layers) and _looks_up(layer.layers[0])
    if isinstance(layer, Functional):
        wanted = layer.inputs[0]
        return len(layer.inputs) == 1 and (wanted.dtype.startswith("int") or looked_up(wanted))
    return isinstance(layer, Embedding)


def _largest(tensor: Any) -> float:
    """The largest number to expect in an input: what a Rescaling layer that reads it takes to 1 (255, mostly)."""
    nodes = tensor._keras_history.operation._outbound_nodes
    scales = [node.operation.scale for node in nodes if isinstance(node.operation, Rescaling)]
    return max([1.0, *(1 / float(np.max(np.abs(scale))) for scale in scales if np.any(scale))])


def _fitting_scale(model: Layer, inputs: list[Any]) -> int:
    """By how much the usual sizes must grow until no layer is left with nothing: what it crops, say, is longer.

    Nor with a size of 1 that longer inputs make longer: it would be broadcast, which nothing else is.
    """
    graph = getattr(model, "_functional", None) or model
    open_ = any(size is None for tensor in inputs for size in tensor.shape[1:])
    scale, found = 1, _shapes(graph, inputs, 1) if open_ else []
    while scale <= _LARGEST_SCALE:
        longer = _shapes(graph, inputs, 2 * scale) if open_ else []
        if found is not None and (longer is None or not _is_short(found, longer)):
            return scale
        scale, found = 2 * scale, longer
    return 1  # whatever fails then says what it is


def _is_short(found: list[tuple], longer: list[tuple]) -> bool:
    pairs = zip(found, longer, strict=False)
    return any(n == 1 and m != 1 for a, b in pairs for n, m in zip(a, b, strict=False))


def _shapes(graph: Functional, inputs: list[Any], scale: int) -> list[tuple] | None:
    """The shapes of what every layer gives for inputs of these sizes; ``None`` where one gives nothing."""
    found: list[tuple] = []

    def checked(operation: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            made = operation.compute_output_spec(*args, **kwargs)
            found.extend(tensor.shape for tensor in tree.flatten(made))
            if any(size is not None and size < 1 for t in tree.flatten(made) for size in t.shape):
                raise ValueError(f"{operation.name} gives nothing")
            return made

        return run

    specs = [KerasTensor(_sizes(t.shape, scale), dtype=t.dtype) for t in inputs]
    try:
        graph._run_through_graph(specs, operation_fn=checked)
    except (ValueError, TypeError, RuntimeError):
        return None
    return found


def _sizes(shape: tuple, scale: int) -> list[int]:
    side = (_SIDE if len(shape) >= 4 else _LENGTH) * scale
    return [s if s is not None else (_BATCH if i == 0 else side) for i, s in enumerate(shape)]


def _made(
    shape: tuple, dtype: Any, bound: int, largest: float = 1.0, scale: int = 1
) -> torch.Tensor:
    if dtype == "string":
        raise _strings()
    sizes = _sizes(shape, scale)
    kind = torch_dtype(dtype)
    generator = torch.Generator().manual_seed(0)
    if kind == torch.bool:
        return torch.rand(sizes, generator=generator) < 0.5
    if not kind.is_floating_point:
        return torch.randint(0, bound, sizes, generator=generator).to(kind)
    return (torch.rand(sizes, generator=generator) * largest).to(kind)


def _undeclared(model: Layer, given: Any) -> tuple[list[str], list[Any], str]:
    parameters = tensor_parameters(model) or ["inputs"]
    if given is None:
        return _as_built(model, parameters)
    if isinstance(given, Mapping):
        return list(given), [_tensor(v) for v in given.values()], "dict"
    if isinstance(given, (list, tuple)):
        values = [_tensor(v) for v in given]
        if len(values) > 1 and how_called(model, given) == "list":
            parameters = [f"{parameters[0]}_{i}" for i in range(len(values))]
        return parameters[: len(values)], values, "list" if len(values) > 1 else "single"
    return parameters[:1], [_tensor(given)], "single"


def _as_built(model: Layer, parameters: list[str]) -> tuple[list[str], list[Any], str]:
    """Inputs of the shapes that a model of the author's was built with."""
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    found: list[tuple[str, tuple]] = []
    for name, shape in shapes.items():
        plain = name.removesuffix("_shape")
        if isinstance(shape, dict):
            found += [(k, tuple(v)) for k, v in shape.items()]
        elif isinstance(shape, (list, tuple)) and shape and isinstance(shape[0], (list, tuple)):
            found += [(f"{plain}_{i}", tuple(s)) for i, s in enumerate(shape)]
        elif isinstance(shape, (list, tuple)):
            found.append((plain, tuple(shape)))
    if not found:
        raise BadInput(
            f"the model {model.name} does not say what it is called with",
            hint="pass example_inputs: what you would call it with",
        )
    embeds = any(hasattr(layer, "input_dim") for layer in model._flatten_layers())
    bound = _smallest_vocabulary(model)
    values = [_made(s, "int32" if embeds and len(s) == 2 else "float32", bound) for _, s in found]
    if len(found) == 1:
        return parameters[:1], values, "single"
    kind = "dict" if any(isinstance(s, dict) for s in shapes.values()) else "list"
    return [n for n, _ in found], values, kind


def _build(model: Layer, values: list[Any], structure: str, names: list[str]) -> None:
    """Make the weights of a model that was never called, by shapes alone."""
    from diglot.frontends.keras_tracing.tensor import keras_name

    specs: list[Any] = [
        KerasTensor((None, *v.shape[1:]), dtype=keras_name(v.dtype)) for v in values
    ]
    given = specs[0] if structure == "single" else specs
    given = dict(zip(names, specs, strict=True)) if structure == "dict" else given
    call_model(model, how_called(model, given), names, specs)
