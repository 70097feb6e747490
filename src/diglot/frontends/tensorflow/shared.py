"""Runs of one module: scopes that TensorFlow numbered anew, since the model calls the module again.

A model that calls ``encoder`` on two inputs has its layers in the scopes ``encoder`` and ``encoder_1``, with the same
variables. A run after the first is the first's path with the run's number at the parts that were numbered anew
(``("encoder#1", "dense")``), so that :mod:`tree` arranges it as a place of its own; all runs that compute the same
become one module (see :func:`unequal`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.tree import Path, Place, entering

_SIGN = "#"


def plain(path: Path) -> Path:
    """A path without the numbers of its runs."""
    return tuple(part.partition(_SIGN)[0] for part in path)


class Runs:
    """Which scopes are runs of which: those that call the same layers, each as often."""

    def __init__(self, calls: Iterable[tuple[Path, Any]]) -> None:
        """``calls``: the scope and the identity of each layer that is called, in order."""
        held: dict[Path, list[Any]] = {}
        for scope, layer in calls:
            for size in range(1, len(scope) + 1):
                held.setdefault(scope[:size], []).append(layer)
        first: dict[tuple, tuple[Path, int]] = {}
        self._first: dict[Path, tuple[Path, int]] = {}
        for scope, layers in held.items():
            like = (len(scope), frozenset((layer, layers.count(layer)) for layer in set(layers)))
            found, count = first.setdefault(like, (scope, 0))
            if found != scope:
                count += 1
                first[like] = (found, count)
                self._first[scope] = (found, count)

    def first(self, scope: Path) -> tuple[Path, list[int]]:
        """The scope of the first run, and for each of its parts which run the given one is (0: the first)."""
        found: Path = ()
        numbers = []
        for size in range(1, len(scope) + 1):
            found, number = self._first.get(scope[:size], ((*found, scope[size - 1]), 0))
            numbers.append(number)
        return found, numbers


def numbered(path: Path, numbers: Sequence[int]) -> Path:
    """A path of modules with the numbers of their runs."""
    return tuple(
        f"{part}{_SIGN}{n}" if n else part for part, n in zip_longest(path, numbers[: len(path)])
    )


def unequal(root: Place, key: Any) -> set[Path]:
    """Let all runs of a module give the same outputs; return the places whose runs do not compute the same.

    ``key(node)`` is what the nodes of two runs must have in common.
    """
    runs: dict[Path, list[Place]] = {}
    for place in every_place(root):
        runs.setdefault(plain(place.path), []).append(place)
    wrong: set[Path] = set()
    for places in runs.values():
        if len(places) > 1 and len({_described(place, key) for place in places}) > 1:
            wrong |= {place.path for place in places}
    for places in runs.values() if not wrong else ():
        if len(places) > 1:
            _give_alike(places)
    return wrong


def every_place(place: Place) -> list[Place]:
    inner = [p for item in place.items if isinstance(item, Place) for p in every_place(item)]
    return [place, *inner] if place.path else inner


def _nodes(place: Place) -> list[Node]:
    found = [_nodes(item) if isinstance(item, Place) else [item] for item in place.items]
    return [node for nodes in found for node in nodes]


def _described(place: Place, key: Any) -> tuple:
    """What a run computes of its inputs: its nodes in order, and which value each reads."""
    numbers: dict[Any, Any] = {}
    lines = []
    for node in _nodes(place):
        read = []
        for out in node.inputs:
            if out.node.op == "Const":
                read.append(
                    (
                        "constant",
                        str(out.node.value.dtype),
                        out.node.value.shape,
                        out.node.value.tobytes(),
                    )
                )
                continue
            unit = numbers.setdefault(out.node, len(numbers))
            read.append((unit, out.index))
        numbers.setdefault(node, len(numbers))
        lines.append((key(node), tuple(read)))
    return tuple(lines), tuple(_shape(place))


def _shape(place: Place) -> list[Any]:
    """The modules within a run, and how many nodes each holds."""
    return [
        (plain(item.path), tuple(_shape(item))) if isinstance(item, Place) else "node"
        for item in place.items
    ]


def _give_alike(places: Sequence[Place]) -> None:
    """Let every run return what any of them does, in one order."""
    wanted: dict[tuple[int, int], None] = {}
    numbered = []
    for place in places:
        nodes = _nodes(place)
        numbered.append(nodes)
        number = {node: i for i, node in enumerate(nodes)}
        wanted |= {(number[out.node], out.index): None for out in place.outputs}
    for place, nodes in zip(places, numbered, strict=True):
        place.outputs = [Out(nodes[i], index) for i, index in wanted]
        place.inputs = entering(nodes)
