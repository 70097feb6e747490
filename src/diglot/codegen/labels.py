"""What the layers of a Functional program are called: by their paths, or as the Keras model called them that the
source was translated from.

A function's layers are named ``f"{name}_conv1"``: a repeated block can have its old names only where those are made
that way, alike in all blocks of its class. A model that is a layer of another has names of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from diglot.codegen import names
from diglot.ir.hub import Call, Hub, is_own


class Labels:
    """The label of every member of a program: of a layer its name, of a block what its layers' names begin with."""

    def __init__(self, hub: Hub) -> None:
        self._inputs = {names.local(n) for n in hub.input_names}
        self._below: dict[tuple[str, str], str] = {}
        self._models = model_paths(hub)
        regions = {c.path: c for c in hub.root.walk() if c is not hub.root}
        own = {path for path, region in regions.items() if is_own(hub, region)}
        blocks = [path for path in regions if path not in self._models and path not in own]
        given = _known_names(hub, self._models)
        unlike = [b.path for b in named_apart(hub)]
        # Kept all the same, where nothing else can be written.
        given = {p: n for p, n in given.items() if not any(_is_below(p, b) for b in unlike)}
        for model in self._models:
            own = {p: n for p, n in given.items() if _model_of(p, self._models) == model}
            self._add(model, own, [b for b in blocks if _model_of(b, self._models) == model])

    def _add(self, model: str, given: dict[str, str], blocks: list[str]) -> None:
        repeated = {n for n, count in Counter(given.values()).items() if count > 1}
        given = {p: n for p, n in given.items() if n not in repeated}
        wholes = {path: _stem(list(_inside(given, path).values())) for path in blocks}
        parents = [model, *wholes]
        for path, name in {**given, **wholes}.items():
            parent = max((p for p in parents if p != path and _is_below(path, p)), key=len)
            before = wholes.get(parent, "")
            rest = path.removeprefix(f"{parent}.")
            if name:
                label = name.removeprefix(f"{before}_") if before else name
                self._below[parent, part(rest)] = label

    def of(self, region: str, key: str) -> str:
        """The label of a member, by the path of the region that holds it and its key there."""
        label = self._below.get((region, key), key)
        return label if region else names.unique(label, self._inputs)


def model_paths(hub: Hub) -> list[str]:
    """The paths of a program's models: "", the whole, and those that are layers of others."""
    present = {c.path for c in hub.root.walk()}
    return ["", *(path for path in hub.inner_models if path in present)]


def named_apart(hub: Hub) -> list[Call]:
    """The blocks whose layers' names in Keras are not made alike in all blocks of their class."""
    models = model_paths(hub)
    given = _known_names(hub, models)
    kinds: dict[Any, dict[str, Call]] = {}
    for block in hub.root.walk():
        if block.path not in models and not is_own(hub, block):
            kinds.setdefault(block.cls or block.class_name, {})[block.path] = block
    found: list[Call] = []
    for alike in kinds.values():
        made: dict[str, set[str]] = {}
        inside = [_inside(given, path) for path in alike]
        stems = [_stem(list(names_of.values())) for names_of in inside]
        for names_of, stem in zip(inside, stems, strict=True):
            for rest, name in names_of.items():
                made.setdefault(rest, set()).add(name.removeprefix(f"{stem}_"))
        one = all(len(labels) == 1 for labels in made.values())
        told = {(_model_of(path, models), stem) for path, stem in zip(alike, stems, strict=True)}
        if made and not (one and all(stems) and len(told) == len(stems)):
            found += alike.values()
    return found


def part(path: str) -> str:
    """The key of a module in the region that holds it."""
    return names.identifier(path.replace(".", "_"))


def _known_names(hub: Hub, models: Iterable[str]) -> dict[str, str]:
    """The names of a graph's layers in Keras by path, those of the models among them too; not what is in a layer."""
    given = {p: n for p, n in hub.layer_names.items() if not _is_in_layer(p, hub.own_layers)}
    return {**given, **{p: hub.inner_models[p].name for p in models if p}}


def _is_in_layer(path: str, layers: Iterable[str]) -> bool:
    return any(path.startswith(f"{layer}.") for layer in layers)


def _model_of(path: str, models: Iterable[str]) -> str:
    """The path of the model that holds a layer."""
    return max((m for m in models if m != path and _is_below(path, m)), key=len)


def _inside(given: dict[str, str], path: str) -> dict[str, str]:
    return {p.removeprefix(f"{path}."): n for p, n in given.items() if _is_below(p, path)}


def _is_below(path: str, parent: str) -> bool:
    return not parent or path.startswith(f"{parent}.")


def _stem(given: list[str]) -> str:
    """What all names begin with, up to an underscore; empty where that is nothing."""
    if not given:
        return ""
    common = names.common_start([f"{n}_" if len(given) == 1 else n for n in given])
    return common.rpartition("_")[0]


__all__ = ["Labels", "model_paths", "named_apart", "part"]
