"""Which model a model was translated from: its names, so that a translation back has them again.

A model that a translation has built in this process is remembered with its weight map; one whose classes were read
from a translation's folder (its ``model.py``) finds the map beside them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from diglot.codegen.names import common_start
from diglot.codegen.weights import (
    KerasModel,
    TensorSpec,
    WeightMap,
    WeightMapError,
    resolve,
)
from diglot.frontends.keras_tracing.automatic import is_automatic
from diglot.frontends.keras_tracing.original_names import Boundary, Names
from diglot.ir.hub import InnerModel
from diglot.ir.kept_layer import KeptLayer

if TYPE_CHECKING:
    from diglot.translation import Translation


@dataclasses.dataclass(frozen=True)
class Origin:
    """A translation's weight map, and the arrays, by their names in PyTorch, of which Keras has only the sums."""

    weight_map: WeightMap
    shares: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layers:
    """A Keras model that a PyTorch model was translated from; where it is not ``known``, there was none.

    ``names`` are those of its layers, by the paths of their modules; ``automatic`` those that Keras gave to layers of
    a model of classes; ``root`` that of its only layer, where the program is that layer; ``name`` its own, where its
    author gave it one. ``functional`` says that it is a Functional or Sequential model, ``is_sequence`` that it is a
    Sequential one; ``own`` are the modules of its layers that are of the user's own classes. ``inputs`` and
    ``outputs`` are as in the weight map; ``shapes`` are those of weights in Keras by their names in PyTorch.
    ``models`` are the layers that are models, by the paths of their modules; ``kept`` those that PyTorch has none for.
    ``built`` are the weights that their layers made in ``build``, ``weights`` the names that these gave them.
    ``reverses``: the second weight of an untied ReversibleEmbedding, by the name of its first in PyTorch.
    """

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    name: str = ""
    functional: bool = False
    is_sequence: bool = False
    automatic: dict[str, str] = dataclasses.field(default_factory=dict)
    root: str = ""
    known: bool = False
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    models: Mapping[str, InnerModel] = dataclasses.field(default_factory=dict)
    kept: Sequence[KeptLayer] = ()
    own: Sequence[str] = ()
    built: Collection[str] = ()
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reverses: Mapping[str, str] = dataclasses.field(default_factory=dict)


_AUTOMATIC_WEIGHT = re.compile(r"variable(_\d+)?")
_BUILT: weakref.WeakKeyDictionary[Any, Origin] = weakref.WeakKeyDictionary()
_LAYERS: weakref.WeakKeyDictionary[Any, Layers] = weakref.WeakKeyDictionary()
_REVERSE = ".reverse_embeddings"
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
    classes = weight_map.classes
    return Names(layers, variables, origin.shares, weight_map.ties, boundary, classes)


def _undone(perm: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if perm is None else tuple(int(i) for i in np.argsort(perm))


def described(model: Any, weight_map: WeightMap, modules: Mapping[str, Any]) -> KerasModel:
    """What a Keras model that was translated to PyTorch is called, and its layers, and how it is written.

    ``modules`` are layers by the paths of the modules that stand for them.
    """
    import keras

    if not hasattr(model, "layers"):  # it is a layer
        return KerasModel()
    paths = {pair.target for pair in weight_map.modules}
    for entry in weight_map.entries:
        parts = entry.target.split(".")
        paths.update(".".join(parts[:length]) for length in range(1, len(parts)))
    layers, automatic = {}, []
    for path in sorted(paths):
        with contextlib.suppress(WeightMapError):
            found = resolve(model, path)
            if isinstance(found, keras.Layer):
                layers[path] = found.name
                automatic += [path] if is_automatic(found) else []
    root = _only_layer(weight_map, layers)
    own = {id(layer) for layer in _own_layers(model)}
    # Where the program is a layer of the user's own, so is the Keras program.
    functional = bool(_kind_of_model(model)) and not (own and root)
    sequence = isinstance(model, keras.Sequential)  # whose name its weights' paths begin with
    name = "" if is_automatic(model) and not sequence else model.name
    style = "functional" if functional else "layers"
    inner = [
        {"module": module, "name": layer.name, "kind": kind}
        for module, layer in modules.items()
        if (kind := _kind_of_model(layer))
    ]
    classes = [module for module, layer in modules.items() if functional and id(layer) in own]
    weights, built = _own_weights(model, weight_map)
    return KerasModel(
        style,
        name,
        sequence,
        layers,
        automatic,
        root,
        inner,
        own=classes,
        built=built,
        weights=weights,
    )


def _own_weights(model: Any, weight_map: WeightMap) -> tuple[dict[str, str], list[str]]:
    """The weights, by their names in PyTorch, that layers of the user's own hold: what they are called, "" where Keras
    calls them that, and which were made in ``build``, as the path tells of one in a layer within another."""
    import keras

    names: dict[str, str] = {}
    built = []
    for entry in weight_map.entries:
        with contextlib.suppress(WeightMapError):
            layer = resolve(model, entry.target.rpartition(".")[0])
            variable = resolve(model, entry.target)
            of_keras = isinstance(variable, keras.Variable)  # TensorFlow's own have no path
            own = isinstance(layer, keras.Layer) and not _is_public(layer) and of_keras
            if not own or len(entry.sources) > 1:
                continue
            automatic = _AUTOMATIC_WEIGHT.fullmatch(variable.name)
            names[entry.sources[0]] = "" if automatic else variable.name
            path = getattr(layer, "path", None) or ""
            if "/" in path and variable.path.startswith(f"{path}/"):
                built.append(entry.sources[0])
    return names, built


def _kind_of_model(layer: Any) -> str:
    """What a layer is, where it is a model whose layers it knows by name: "functional" or "sequential"."""
    from keras import Sequential
    from keras.src.models.functional import Functional

    if isinstance(layer, Sequential):
        return "sequential"
    return "functional" if isinstance(layer, Functional) else ""


def _only_layer(weight_map: WeightMap, layers: Mapping[str, str]) -> str:
    """The name of a model's only layer with weights, where PyTorch's names of its weights begin below it."""
    first = {entry.target.partition(".")[0] for entry in weight_map.entries}
    paths = {path for path in layers if "." not in path}
    if len(first) != 1 or first != paths or len(weight_map.entries) < 2:
        return ""
    depth = min(entry.target.count(".") for entry in weight_map.entries)
    above = min(name.count(".") for entry in weight_map.entries for name in entry.sources)
    return layers[first.pop()] if above < depth else ""


def _own_layers(model: Any) -> Iterator[Any]:
    """The layers of a graph, and of the models among them, that are of no class of ``keras.layers``."""
    for layer in model.layers:
        if _kind_of_model(layer):
            yield from _own_layers(layer)
        elif not _is_public(layer):
            yield layer


def _is_public(layer: Any) -> bool:
    """Whether a program can name a layer's class (``layers.Dense``); not so those of keras.applications' own."""
    from keras import layers

    return getattr(layers, type(layer).__name__, None) is type(layer)


def remember_layers(module: nn.Module, weight_map: WeightMap) -> None:
    """Note of which Keras model a PyTorch model was built."""
    _LAYERS[module] = _layers(module, weight_map)


def _layers(module: nn.Module, weight_map: WeightMap) -> Layers:
    known = weight_map.keras
    functional = known.style == "functional"
    names, automatic = _named(module, weight_map)
    return Layers(
        names, known.name, functional, known.is_sequence, automatic, known.root, True,
        weight_map.inputs, weight_map.outputs,
        {e.sources[0]: tuple(e.shape) for e in weight_map.entries if e.combine is None},
        _models(weight_map),
        known.kept,
        known.own,
        known.built,
        known.weights,
        _reverses(weight_map),
    )  # fmt: skip


def _reverses(weight_map: WeightMap) -> dict[str, str]:
    """The pairs of weights, by their names in PyTorch, that one untied ReversibleEmbedding holds."""
    held = {entry.target: entry.sources[0] for entry in weight_map.entries}
    layers = [t.removesuffix(_REVERSE) for t in held if t.endswith(_REVERSE)]
    found = {layer: held.get(f"{layer}.embeddings") for layer in layers}
    return {name: held[f"{layer}{_REVERSE}"] for layer, name in found.items() if name}


def _models(weight_map: WeightMap) -> dict[str, InnerModel]:
    """The models among a model's layers, by the paths of their modules."""
    return {
        model["module"]: InnerModel(model["name"], model["kind"] == "sequential")
        for model in weight_map.keras.models
    }


def style_of(module: nn.Module) -> str:
    """How a model is written in Keras where nobody says: as the Keras model was that it comes from."""
    return "functional" if layers_of(module).functional else "layers"


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
    if not weight_map.to_torch:
        return Layers()
    remember_layers(module, weight_map)
    return _LAYERS[module]


def _named(module: nn.Module, weight_map: WeightMap) -> tuple[dict[str, str], dict[str, str]]:
    """The names of a Keras model's layers by the paths of the modules that stand for them: those that count, and those
    that Keras gave to the layers of a model of classes.
    """
    known = weight_map.keras
    targets: dict[str, list[list[str]]] = {}
    for entry in weight_map.entries:
        if entry.target.endswith(_REVERSE):
            continue  # the layer's name is the embedding's
        for path in {_layer_of(module, source) for source in entry.sources} - {None}:
            targets.setdefault(str(path), []).append(entry.target.split(".")[:-1])
    found: dict[str, str] = {}
    automatic: dict[str, str] = {}
    inside = tuple(f"{path}." for path in known.own)

    def name(path: str, layer: str) -> None:
        counts = known.style == "functional" and not path.startswith(inside)
        names = found if counts or layer not in known.automatic else automatic
        names[path] = known.layers[layer]

    for pair in weight_map.modules:
        own = pair.source in known.own or pair.source.startswith(inside)
        if pair.target in known.layers and (own or known.style != "functional"):
            name(pair.source, pair.target)
    for path, owners in targets.items():
        common = common_start(owners)
        if common[-1:] == ["cell"] and isinstance(module.get_submodule(path), nn.RNNBase):
            common.pop()
        if ".".join(common) in known.layers:
            name(path, ".".join(common))
    for layer in sorted(known.kept, key=lambda k: -k.target.count(".")):  # wrappers last
        if layer.target in known.layers:
            name(layer.path, layer.target)
    return found, automatic


def _layer_of(module: nn.Module, weight: str) -> str | None:
    """The path of the outermost layer of ``torch.nn`` that holds a weight, or of the module without parts that does."""
    parts = weight.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        path = ".".join(parts[:length])
        held = module.get_submodule(path)
        if type(held).__module__.startswith("torch.nn.") and not isinstance(held, _CONTAINERS):
            return path
    own = ".".join(parts)
    return own if own and not list(module.get_submodule(own).children()) else None


def _origin(translation: Translation) -> Origin:
    weight_map = translation.weight_map
    added = {name for e in weight_map.entries if e.combine == "sum" for name in e.sources}
    state = translation.state() if added else {}
    return Origin(weight_map, {name: np.array(state[name]) for name in added if name in state})


def remember_file(model: Any, path: Path) -> None:
    """Note that a Keras model was read from a file, which may be a translation's, with the map beside it."""
    if (path.parent / "model.py").is_file() and (path.parent / "weight_map.json").is_file():
        origin = _read(path.parent)
        if origin is not None:
            _BUILT[model] = origin


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
