"""Which PyTorch model a Keras model was translated from: its names, so that a translation back has them again.

A model that a translation has built in this process is remembered with its weight map; one whose classes were read
from a translation's folder (its ``model.py``) finds the map beside them.
"""

from __future__ import annotations

import dataclasses
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import WeightMap, WeightMapError, resolve
from diglot.frontends.keras_tracing.original_names import Names

if TYPE_CHECKING:
    from diglot.translation import Translation


@dataclasses.dataclass(frozen=True)
class Origin:
    """A translation's weight map, and the arrays, by their names in PyTorch, of which Keras has only the sums."""

    weight_map: WeightMap
    shares: dict[str, np.ndarray]


_BUILT: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()


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
    return Names(layers, variables, origin.shares, weight_map.ties)


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
