"""Which model a model was translated from: its names, so that a translation back has them again.

A model that a translation has built in this process is remembered with its weight map; one whose classes were read
from a translation's folder (its ``model.py``) finds the map beside them.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from diglot.codegen.names import common_start
from diglot.codegen.weights import WeightMap, WeightMapError, name_of_layer, resolve
from diglot.frontends.keras_tracing.original_names import Boundary, Names

if TYPE_CHECKING:
    from diglot.translation import Translation


@dataclasses.dataclass(frozen=True)
class Origin:
    """A translation's weight map, and the arrays, by their names in PyTorch, of which Keras has only the sums."""

    weight_map: WeightMap
    shares: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layers:
    """A Keras model that a PyTorch model was translated from.

    ``names`` are those of its layers, by the paths of their modules; ``name`` is its own, where its author gave it
    one; ``functional`` says that it is a Functional or Sequential model of nothing but Keras's own layers, for inputs
    of fixed sizes.
    """

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    name: str = ""
    functional: bool = False


_BUILT: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()
_LAYERS: weakref.WeakKeyDictionary[Any, Layers] = weakref.WeakKeyDictionary()
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def remember(model: Any, translation: Translation) -> None:
    """Note that a translation has built a Keras model."""
    _BUILT[model] = _origin(translation)


def names(model: Any) -> Names | None:
    """What a Keras model's layers and weights are called in PyTorch; None where it was not translated from there,
    or is no longer what the translation made."""
    origin = _BUILT.get(model) or _beside(model)
    if origin is None:
        return None
    weight_map = origin.weight_map
    try:
        root = weight_map.root_layer(model)
        layers = [(resolve(root, pair.target), pair.source) for pair in weight_map.modules]
        variables = [(resolve(root, entry.target), entry) for entry in weight_map.entries]
    except (WeightMapError, ValueError):
        return None
    if any(tuple(v.shape) != tuple(e.shape) for v, e in variables):
        return None
    boundary = Boundary(
        [(spec.name, _undone(spec.perm)) for spec in weight_map.inputs],
        [(tuple(spec.path), _undone(spec.perm)) for spec in weight_map.outputs],
    )
    return Names(layers, variables, origin.shares, weight_map.ties, boundary)


def _undone(perm: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if perm is None else tuple(int(i) for i in np.argsort(perm))


def remember_layers(module: nn.Module, translation: Translation) -> None:
    """Note what the layers of a Keras model are called that a translation has built a PyTorch model of."""
    model = translation.source_model
    names = _named(module, translation.weight_map, model)
    if model is None or not hasattr(model, "layers"):  # a graph, or a layer
        _LAYERS[module] = Layers(names)
        return
    automatic = re.fullmatch(rf"{_snake(type(model).__name__)}(_\d+)?", model.name)
    functional = _of_keras(model) and all(None not in t.shape[1:] for t in model.inputs)
    _LAYERS[module] = Layers(names, "" if automatic else model.name, functional)


def _snake(name: str) -> str:
    """A class's name as Keras makes a layer's of it."""
    from keras.src.utils.naming import to_snake_case

    return to_snake_case(name)


def _of_keras(model: Any) -> bool:
    """Whether a model, and every model in it, is a graph of Keras's own layers."""
    from keras import Sequential
    from keras.src.models.functional import Functional

    if not isinstance(model, (Functional, Sequential)):
        return False
    inner = [part for part in model.layers if hasattr(part, "layers")]
    own = [part for part in model.layers if not hasattr(part, "layers")]
    stock = all(type(part).__module__.startswith("keras.") for part in own)
    return stock and all(_of_keras(part) for part in inner)


def style_of(module: nn.Module) -> str:
    """How a model is written in Keras where nobody says: as the Keras model was that it comes from."""
    known = _LAYERS.get(module)
    return "functional" if known is not None and known.functional else "layers"


def layers_of(module: nn.Module) -> Layers:
    """What the Keras model and its layers were called that a PyTorch model was translated from; nothing where it was
    not."""
    known = _LAYERS.get(module)
    if known is not None:
        return known
    held = sys.modules.get(type(module).__module__)
    path = Path(getattr(held, "__file__", None) or "")
    if path.name != "model.py" or not (path.parent / "weight_map.json").is_file():
        return Layers()
    try:
        weight_map = WeightMap.load(path.parent / "weight_map.json")
    except (WeightMapError, OSError):
        return Layers()
    return Layers(_named(module, weight_map, None))


def _named(module: nn.Module, weight_map: WeightMap, model: Any) -> dict[str, str]:
    if not weight_map.to_torch:
        return {}
    targets: dict[str, list[list[str]]] = {}
    for entry in weight_map.entries:
        for path in {_layer_of(module, source) for source in entry.sources} - {None}:
            targets.setdefault(str(path), []).append(entry.target.split(".")[:-1])
    found = {}
    for path, owners in targets.items():
        common = common_start(owners)
        if common[-1:] == ["cell"] and isinstance(module.get_submodule(path), nn.RNNBase):
            common.pop()
        name = name_of_layer(model, common) if model is not None else "".join(common[:1])
        if name and (model is not None or len(common) == 1):
            found[path] = name
    return found


def _layer_of(module: nn.Module, weight: str) -> str | None:
    """The path of the outermost layer of ``torch.nn`` that holds a weight."""
    parts = weight.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        held = module.get_submodule(path)
        if type(held).__module__.startswith("torch.nn.") and not isinstance(held, _CONTAINERS):
            return path
    return None


def _origin(translation: Translation) -> Origin:
    weight_map = translation.weight_map
    added = {name for e in weight_map.entries if e.combine == "sum" for name in e.sources}
    state = translation.state() if added else {}
    return Origin(weight_map, {name: np.array(state[name]) for name in added if name in state})


def _beside(model: Any) -> Origin | None:
    """The origin of a model whose classes are a translation's ``model.py``, with the map beside it."""
    for layer in getattr(model, "layers", ()):
        module = sys.modules.get(type(layer).__module__)
        path = Path(getattr(module, "__file__", None) or "")
        if path.name == "model.py" and (path.parent / "weight_map.json").is_file():
            return _read(path.parent)
    return None


def _read(folder: Path) -> Origin | None:
    from diglot.errors import DiglotError
    from diglot.translation import load

    try:
        weight_map = WeightMap.load(folder / "weight_map.json")
        if weight_map.to_torch:
            return None
        added = any(entry.combine == "sum" for entry in weight_map.entries)
        return _origin(load(folder)) if added else Origin(weight_map, {})
    except (DiglotError, OSError):
        return None
