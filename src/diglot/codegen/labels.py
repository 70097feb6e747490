"""What the layers of a Functional program are called: by their paths, or as the Keras model called them that the
source was translated from.

A function's layers are named ``f"{name}_conv1"``: a repeated block can have its old names only where those are made
that way, alike in all blocks of its class.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from diglot.codegen import names
from diglot.ir.hub import Call, Hub


class Labels:
    """The label of every member of a program: of a layer its name, of a block what its layers' names begin with."""

    def __init__(self, hub: Hub) -> None:
        self._given = dict(hub.layer_names)
        self._inputs = {names.local(n) for n in hub.input_names}
        self._below: dict[tuple[str, str], str] = {}
        blocks = [c for c in hub.root.walk() if c is not hub.root]
        unlike = named_apart(hub)
        if unlike:  # kept all the same, where nothing else can be written
            self._given = {
                p: n
                for p, n in self._given.items()
                if not any(_is_below(p, b.path) for b in unlike)
            }
        repeated = {n for n, count in Counter(self._given.values()).items() if count > 1}
        self._given = {p: n for p, n in self._given.items() if n not in repeated}
        wholes = {c.path: _stem(list(_inside(self._given, c.path).values())) for c in blocks}
        parents = ["", *wholes]
        for path, name in {**self._given, **wholes}.items():
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


def named_apart(hub: Hub) -> list[Call]:
    """The blocks whose layers' names in Keras are not made alike in all blocks of their class."""
    kinds: dict[Any, list[Call]] = {}
    for block in hub.root.walk():
        if block is not hub.root:
            kinds.setdefault(block.cls or block.class_name, []).append(block)
    found: list[Call] = []
    for alike in kinds.values():
        made: dict[str, set[str]] = {}
        inside = [_inside(hub.layer_names, b.path) for b in alike]
        stems = [_stem(list(names_of.values())) for names_of in inside]
        for names_of, stem in zip(inside, stems, strict=True):
            for rest, name in names_of.items():
                made.setdefault(rest, set()).add(name.removeprefix(f"{stem}_"))
        one = all(len(labels) == 1 for labels in made.values())
        if made and not (one and all(stems) and len(set(stems)) == len(stems)):
            found += alike
    return found


def part(path: str) -> str:
    """The key of a module in the region that holds it."""
    return names.identifier(path.replace(".", "_"))


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


__all__ = ["Labels", "named_apart", "part"]
