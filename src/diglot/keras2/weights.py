"""Weights of Keras 2's files, given to the layers of a model in Keras 3 by name.

Keras 3 goes by the order of the layers, which the two do not always share; and two layers of one shape, taken for
each other, raise no error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from diglot.errors import BadInput
from diglot.keras2.building import MODELS, allowed

_CHUNKS = range(10_000)


def load_h5(model: Any, config: Mapping[str, Any], weights: Any) -> None:
    """Give a model the weights of the group ``model_weights`` of an HDF5 file.

    ``config`` is what it was built of. Raises BadInput where a layer has other weights than the file has for it.
    """
    by_name = {layer.name: layer for layer in model.layers}
    for entry in _entries(config):
        name = entry["config"]["name"]
        if allowed(name) not in by_name or name not in weights:
            continue
        stored = {n: np.asarray(weights[name][n]) for n in _names(weights[name])}
        _give(by_name[allowed(name)], entry, stored)


def _entries(config: Mapping[str, Any]) -> list[Any]:
    inner = config["config"]
    return inner if isinstance(inner, list) else inner["layers"]


def _names(group: Any) -> list[str]:
    """The names of a layer's arrays in order; where there are very many, in several attributes."""
    whole = group.attrs.get("weight_names")
    if whole is None:
        parts = [
            group.attrs.get(f"weight_names{i}")
            for i in _CHUNKS
            if f"weight_names{i}" in group.attrs
        ]
        whole = np.concatenate(parts) if parts else []
    return [n.decode() if isinstance(n, bytes) else str(n) for n in whole]


def _give(layer: Any, entry: Mapping[str, Any], stored: dict[str, np.ndarray]) -> None:
    """Give a layer, or each layer of a model, its arrays."""
    if entry["class_name"] in MODELS and hasattr(layer, "layers"):
        inner = {one.name: one for one in layer.layers}
        parts = [e for e in _entries(entry) if allowed(e["config"]["name"]) in inner]
        taken = {e["config"]["name"]: _of(e["config"]["name"], stored) for e in parts}
        if sum(map(len, taken.values())) == len(stored):
            for part in parts:
                name = part["config"]["name"]
                _give(inner[allowed(name)], part, taken[name])
            return
    _assign(layer, _converted(entry, list(stored.values())), list(stored))


def _of(name: str, stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {path: array for path, array in stored.items() if name in path.split("/")[:-1]}


def _assign(layer: Any, arrays: list[np.ndarray], names: list[str]) -> None:
    """Give the variables of a layer their arrays: trained ones first, as both Keras order them."""
    variables = [*layer.trainable_weights, *layer.non_trainable_weights]
    shapes = [tuple(v.shape) for v in variables]
    if shapes != [a.shape for a in arrays]:
        raise BadInput(
            f"The weights of the layer {layer.name} are not those of the file.",
            expected=", ".join(f"{v.name} {s}" for v, s in zip(variables, shapes, strict=True))
            or "none",
            received=", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
            or "none",
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()


# --- cells of cuDNN's ------------------------------------------------------------------------------------


def _converted(entry: Mapping[str, Any], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays as the class of Keras 3 holds them: cuDNN's cells transpose each gate and have two biases."""
    name, config = entry["class_name"], entry["config"]
    if name == "Bidirectional" and arrays:
        half, inner = len(arrays) // 2, config["layer"]
        return [*_converted(inner, arrays[:half]), *_converted(inner, arrays[half:])]
    if not name.startswith("CuDNN") or len(arrays) != 3:
        return arrays
    gates = 4 if name == "CuDNNLSTM" else 3
    kernel, recurrent, bias = arrays
    turned = [gate.T.reshape(gate.shape, order="F") for gate in np.split(kernel, gates, axis=1)]
    back = [gate.T for gate in np.split(recurrent, gates, axis=1)]
    both = bias.reshape(2, -1)
    return [np.hstack(turned), np.hstack(back), both.sum(0) if gates == 4 else both]


# --- archives ----------------------------------------------------------------------------------------------


def load_archive(model: Any, config: Mapping[str, Any], weights: Any) -> None:
    """Give a model the weights of ``model.weights.h5`` of a ``.keras`` archive, an open HDF5 file.

    Its layers go by their classes there: ``layers/dense_1/vars/0`` is the kernel of the second Dense.
    """
    _load(model, config, weights)


def _load(layer: Any, entry: Mapping[str, Any] | None, group: Any) -> None:
    numbered = group.get("vars")
    if numbered is not None and len(numbered):
        layer.load_own_variables(numbered)
    for name in group:
        if name == "vars" or not _holds_any(group[name]):
            continue
        if name in _CONTAINERS and entry is not None and entry["class_name"] in MODELS:
            classes = [part["class_name"] for part in _entries(entry)]
            by_name = {one.name: one for one in layer.layers}
            for part, stored in zip(_entries(entry), _numbered(classes, group[name]), strict=True):
                if stored is not None:
                    _load(by_name[allowed(part["config"]["name"])], part, stored)
            continue
        held = getattr(layer, name, None)
        if held is None:
            raise BadInput(f"The layer {layer.name} has no {name}, of which the file has weights.")
        if isinstance(held, (list, tuple)):
            classes = [type(one).__name__ for one in held]
            for one, stored in zip(held, _numbered(classes, group[name]), strict=True):
                if stored is not None:
                    _load(one, None, stored)
        else:
            inner = (entry or {}).get("config", {}).get(name)
            described = inner if isinstance(inner, Mapping) and "class_name" in inner else None
            _load(held, described, group[name])


_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")


def _holds_any(group: Any) -> bool:
    """Whether there is any array in a group, however deep."""
    found = group.visititems(lambda _, item: True if hasattr(item, "shape") else None)
    return bool(found)


def _numbered(classes: Sequence[str], group: Any) -> Iterator[Any]:
    """The groups of several layers, which are named by class and number, where they hold arrays; else None."""
    count: dict[str, int] = {}
    for each in classes:
        name = to_snake_case(each)
        number = count.get(name, 0)
        count[name] = number + 1
        stored = group.get(f"{name}_{number}" if number else name)
        yield stored if stored is not None and _holds_any(stored) else None
