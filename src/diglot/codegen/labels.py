"""What the layers of a Functional program are called: by their paths, or as the Keras model called them that the
source was translated from.

A function's layers are named ``f"{name}_conv1"``: a repeated block can have its old names only where those are made
that way, alike in all blocks of its class.
"""

from __future__ import annotations

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
        self._set_apart(blocks)
        wholes = {c.path: _stem(list(self._inside(c.path).values())) for c in blocks}
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

    def _inside(self, path: str) -> dict[str, str]:
        return {p.removeprefix(f"{path}."): n for p, n in self._given.items() if _is_below(p, path)}

    def _set_apart(self, blocks: list[Call]) -> None:
        """Forget the names in blocks of one class that are not made alike, and names that are not one layer's."""
        kinds: dict[Any, list[Call]] = {}
        for block in blocks:
            kinds.setdefault(block.cls or block.class_name, []).append(block)
        for alike in kinds.values():
            made: dict[str, set[str]] = {}
            stems = [_stem(list(self._inside(b.path).values())) for b in alike]
            for block, stem in zip(alike, stems, strict=True):
                for rest, name in self._inside(block.path).items():
                    made.setdefault(rest, set()).add(name.removeprefix(f"{stem}_"))
            one = all(len(found) == 1 for found in made.values())
            if not (one and all(stems) and len(set(stems)) == len(stems)):
                for block in alike:
                    self._forget(self._inside(block.path), block.path)
        names_given = list(self._given.values())
        repeated = {n for n in names_given if names_given.count(n) > 1}
        self._given = {p: n for p, n in self._given.items() if n not in repeated}

    def _forget(self, inside: dict[str, str], path: str) -> None:
        for rest in inside:
            self._given.pop(f"{path}.{rest}", None)


def part(path: str) -> str:
    """The key of a module in the region that holds it."""
    return names.identifier(path.replace(".", "_"))


def _is_below(path: str, parent: str) -> bool:
    return not parent or path.startswith(f"{parent}.")


def _stem(given: list[str]) -> str:
    """What all names begin with, up to an underscore; empty where that is nothing."""
    if not given:
        return ""
    common = names.common_start([f"{n}_" if len(given) == 1 else n for n in given])
    return common.rpartition("_")[0]


__all__ = ["Labels", "part"]
