"""Round trips: PyTorch -> Keras -> PyTorch, and Keras -> PyTorch -> Keras."""

from __future__ import annotations

import collections
import re
from typing import Any

import numpy as np
import torch

import diglot
from diglot.frontends.keras_tracing.automatic import is_automatic
from diglot.parity.torch_modes import computing, copy_model


def keras_inputs(translation: Any, inputs: Any) -> Any:
    """A PyTorch model's inputs as its Keras translation is called with them."""
    weight_map = translation.weight_map
    if isinstance(inputs, dict):
        values = list(inputs.values())
    else:
        values = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    arrays = []
    for value, spec in zip(values, weight_map.inputs, strict=True):
        array = value.detach().numpy()
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        arrays.append(spec.to_target(array))
    if weight_map.structure["inputs"] == "dict":
        return dict(zip([s.name for s in weight_map.inputs], arrays, strict=True))
    return arrays[0] if len(arrays) == 1 else arrays


def to_keras_and_back(model: torch.nn.Module, inputs: Any, style: str = "layers") -> Any:
    """The translation back to PyTorch of a model's translation to Keras."""
    there = diglot.translate(model.eval(), inputs, style=style)
    return diglot.translate(there.model, keras_inputs(there, inputs), to="torch")


def outputs(model: torch.nn.Module, inputs: Any) -> list[np.ndarray]:
    """What a PyTorch model gives in float64, in evaluation mode, as flat arrays."""
    exact = copy_model(model.eval(), torch.float64)
    wide = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs
    )
    with torch.no_grad(), computing(torch.float64):
        if isinstance(wide, dict):
            found = exact(**wide)
        else:
            found = exact(*wide) if isinstance(wide, tuple) else exact(wide)
    return [v.numpy() for v in torch.utils._pytree.tree_leaves(found) if torch.is_tensor(v)]


def state_differences(model: torch.nn.Module, back: torch.nn.Module) -> list[str]:
    """What of a model's state dict has not come back: missing, added or reshaped names, values of other bits."""
    before, after = model.state_dict(), back.state_dict()
    found = [f"-{name}" for name in before if name not in after]
    found += [f"+{name}" for name in after if name not in before]
    for name in before.keys() & after.keys():
        if before[name].shape != after[name].shape:
            found.append(f"{name} {list(before[name].shape)} -> {list(after[name].shape)}")
        elif not name.endswith("num_batches_tracked") and not torch.equal(
            before[name], after[name]
        ):
            found.append(f"{name} has other values")
    return found


def largest_gap(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference of outputs, relative to the largest value of each; infinite where a shape differs."""
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        return float("inf")
    gaps = [
        float(np.abs(a.astype(float) - b.astype(float)).max() / (np.abs(a).max() + 1e-12))
        for a, b in zip(ours, theirs, strict=True)
        if a.size
    ]
    return max(gaps, default=0.0)


def arrays(inputs: Any) -> list[np.ndarray]:
    """A Keras model's inputs, in the order in which they are given."""
    if isinstance(inputs, dict):
        return list(inputs.values())
    return list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]


def keras_examples(translation: Any) -> Any:
    """Inputs for the Keras model that a translation to PyTorch is of: what its examples describe."""
    rng, found = np.random.default_rng(0), []
    for spec, example in zip(
        translation.weight_map.inputs, translation.info["example_inputs"], strict=True
    ):
        if "float" in example["dtype"]:
            value = rng.normal(size=example["shape"]).astype(example["dtype"])
        else:
            value = rng.integers(0, 1 + int(example["max"] or 1), example["shape"])
        found.append(spec.to_target(value))
    return found[0] if len(found) == 1 else found


def to_torch_and_back(
    model: Any, inputs: Any = None, style: str | None = None
) -> tuple[Any, Any, Any]:
    """The translations of a Keras model to PyTorch and back, and the inputs that it was given.

    The names that Keras gives by itself start anew, as they do in another process.
    """
    import keras

    there = diglot.translate(model, inputs, to="torch")
    inputs = keras_examples(there) if inputs is None else inputs
    specs = there.weight_map.inputs
    named = dict(zip([s.name for s in specs], arrays(inputs), strict=True))
    if isinstance(inputs, dict):
        named = {s.name: inputs[s.name] for s in specs}
    given = {s.name: _in_torch(named[s.name], s) for s in specs}
    values = list(given.values())
    example = values[0] if len(values) == 1 else tuple(values)
    back = diglot.translate(
        there.model.eval(), given if isinstance(inputs, dict) else example, style=style
    )
    keras.backend.clear_session()
    return there, back, inputs


def _in_torch(array: Any, spec: Any) -> torch.Tensor:
    value = torch.from_numpy(np.array(spec.to_source(np.asarray(array)), order="C"))
    return value if value.dtype == torch.bool else value.to(getattr(torch, spec.dtype))


def keras_outputs(model: Any, inputs: Any) -> list[np.ndarray]:
    """What a Keras model gives in evaluation mode, as flat arrays."""
    from keras import tree

    values = list(inputs) if isinstance(inputs, tuple) else inputs
    return [np.asarray(value) for value in tree.flatten(model(values, training=False))]


def keras_differences(model: Any, back: Any) -> list[str]:
    """What of a Keras model has not come back: layers, by name, paths of weights, values of other bits."""
    ours, theirs = _layers(model), _layers(back)
    found = [f"-layer {name}" for name in ours if name not in theirs]
    found += [f"+layer {name}" for name in theirs if name not in ours]
    found += [
        f"{name} is a {_kind(theirs[name])}, was a {_kind(ours[name])}"
        for name in ours.keys() & theirs.keys()
        if _kind(ours[name]) != _kind(theirs[name])
    ]
    # Keras counts its own names through a process: they agree as they are, or each as the first of its process.
    ways = [
        _weight_differences(_by_path(model, anew), _by_path(back, anew)) for anew in (True, False)
    ]
    return found + min(ways, key=len)


def _weight_differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found = [f"-{path}" for path in before if path not in after]
    found += [f"+{path}" for path in after if path not in before]
    for path in before.keys() & after.keys():
        a, b = np.asarray(before[path]), np.asarray(after[path])
        if a.shape != b.shape or a.dtype != b.dtype:
            found.append(f"{path} {a.dtype}{list(a.shape)} -> {b.dtype}{list(b.shape)}")
        elif not np.array_equal(a, b):
            found.append(f"{path} has other values")
        if before[path].trainable != after[path].trainable:
            found.append(f"{path} is {'' if after[path].trainable else 'not '}trained")
    return found


def _kind(layer: Any) -> str:
    """The name of a layer's class; of one that Keras has not, and of a model, none: what was one may be the other."""
    import keras

    own = getattr(keras.layers, type(layer).__name__, None) is not type(layer)
    return "layer" if own else type(layer).__name__


def _layers(model: Any) -> dict[str, Any]:
    """The layers of a model that have weights, by name; those that it holds in others, too.

    Where the whole model is one layer of others, as it is in a program of classes, its name may be the model's.
    """
    top = [part for part in model.layers if part.weights]
    root = top[0] if len(top) == 1 and hasattr(top[0], "_flatten_layers") else model
    return {part.name: part for part in root._flatten_layers(include_self=False) if part.weights}


def _paths(layer: Any) -> dict[str, str]:
    """The paths of layers within layers of the author's own, as they would be in a process that built only these.

    Keras counts the layers of a class through a whole process: the same source has other numbers in the next.
    """
    found: dict[str, str] = {}
    counts: collections.Counter[str] = collections.Counter()
    own = not _kind_of_model(layer) and _kind(layer) == "layer"
    for part in layer._flatten_layers(include_self=False, recursive=False):
        name = part.name
        if own and is_automatic(part):
            base = re.sub(r"_\d+$", "", name)
            counts[base] += 1
            name = f"{base}#{counts[base]}"
        path = getattr(part, "path", None) or part.name
        head = path.rpartition("/")[0]
        found[path] = f"{head}/{name}" if head else name
        for inner, shown in _paths(part).items():
            found[inner] = shown.replace(path, found[path], 1)
    return found


def _kind_of_model(layer: Any) -> bool:
    """Whether a layer is a Functional or Sequential model, in which a name is its author's to count on."""
    from keras import Sequential
    from keras.src.models.functional import Functional

    return isinstance(layer, (Functional, Sequential))


def _by_path(model: Any, anew: bool) -> dict[str, Any]:
    known = _paths(model) if anew else {}
    held: dict[str, list[Any]] = {}
    for variable in model.weights:
        head, _, name = variable.path.rpartition("/")
        held.setdefault(f"{known.get(head, head)}/{name}", []).append(variable)
    return {f"{p}#{i}" if i else p: v for p, group in held.items() for i, v in enumerate(group)}
