"""The tree of modules that a graph's name scopes describe.

A scope becomes a module when it holds layers or weights. A layer alone in its scope (``dense/MatMul``) is a leaf of
the scope around it; the rest of its scope (an activation) belongs to that one, too. Scopes that call each other in a
circle dissolve: their layers keep their place in the tree, and the scope around runs them.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from diglot.frontends.tensorflow.graph import Node, Out

Path = tuple[str, ...]


@dataclass
class Place:
    """A module of the tree to be: its path, its nodes in order and its children."""

    path: Path
    items: list[Node | Place] = field(default_factory=list)
    inputs: list[Out] = field(default_factory=list)
    outputs: list[Out] = field(default_factory=list)


def identifier(text: str) -> str:
    """A name as a Python identifier."""
    name = re.sub(r"\W+", "_", text).strip("_") or "value"
    if name[0].isdigit():
        name = f"n{name}" if not name.isdigit() else f"layer_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def class_name(text: str) -> str:
    """A scope's name as the name of a class, without the number that tells it from its like."""
    words = re.sub(r"(_\d+)+$", "", identifier(text)).split("_")
    name = "".join(w[:1].upper() + w[1:] for w in words if w)
    return name if name and not name[0].isdigit() else f"Layer{name}"


def scope_class_name(text: str) -> str:
    """The name of a class of scopes: without what numbers them (``Conv2d_1a_3x3``, ``block3b``, ``h0``)."""
    words = [w for w in identifier(text).split("_") if not w[:1].isdigit()]
    words = [re.sub(r"(?<=[A-Za-z])\d+(?!d$)[a-z]?$", "", w) for w in words]
    name = class_name("_".join(w for w in words if w) or text)
    return f"{name}Block" if hasattr(nn, name) else name


def common_prefix(paths: Iterable[Path]) -> Path:
    """The longest path that all paths begin with."""
    paths = list(paths)
    if not paths:
        return ()
    prefix = paths[0]
    for path in paths[1:]:
        size = next((i for i, (a, b) in enumerate(zip(prefix, path, strict=False)) if a != b), None)
        prefix = prefix[: min(len(prefix), len(path)) if size is None else size]
    return prefix


def between(wishes: Mapping[Node, Path]) -> dict[Node, Path]:
    """The deeper scopes of nodes that stand between others of one: of an op that a Functional model's author called on
    a block's value (``tf.reshape_3`` from ``block/norm`` to ``block/attention``), whose name says nothing of the block.

    ``wishes`` is in order: every node after its inputs.
    """

    def near(order: Iterable[Node], beside: Mapping[Node, Sequence[Node]]) -> dict[Node, set[Path]]:
        """The scopes that a node's values come from, or go to, by way of nodes that may be in them, too."""
        found: dict[Node, set[Path]] = {}
        for node in order:
            found[node] = set()
            for other in beside.get(node, ()):
                if other in wishes:
                    own = wishes[other]
                    found[node] |= {own[:size] for size in range(1, len(own) + 1)}
                    found[node] |= {p for p in found[other] if p[: len(own)] == own}
        return found

    users: dict[Node, list[Node]] = {}
    for node in wishes:
        for out in node.inputs:
            users.setdefault(out.node, []).append(node)
    above = near(wishes, {node: [out.node for out in node.inputs] for node in wishes})
    below = near(reversed(list(wishes)), users)
    deeper: dict[Node, Path] = {}
    for node, own in wishes.items():
        both = [p for p in above[node] & below[node] if len(p) > len(own) and p[: len(own)] == own]
        if both:
            deeper[node] = max(both, key=len)
    return deeper


def arrange(
    order: Sequence[Node],
    place_of: dict[Node, Path],
    outputs: Sequence[Out],
    dissolved: set[Path],
) -> Place:
    """Arrange nodes in modules. ``place_of`` gives the path of the module that each node wishes to be in.

    ``dissolved``: the scopes that are to be none; those that call each other in a circle are added.
    """
    return _place((), list(order), place_of, dissolved, outputs)


def _place(
    path: Path,
    nodes: list[Node],
    place_of: dict[Node, Path],
    dissolved: set[Path],
    outputs: Sequence[Out],
) -> Place:
    while True:
        groups = {n: _group(path, place_of[n], dissolved) for n in nodes}
        circle = _circle(nodes, groups)
        if not circle:
            break
        dissolved |= circle
    members: dict[Path, list[Node]] = {}
    for node in nodes:
        if groups[node] is not None:
            members.setdefault(groups[node], []).append(node)  # type: ignore[arg-type]
    place = Place(path)
    within = set(nodes)
    units: dict[Node | Path, set] = {}
    for node in nodes:
        unit = groups[node] or node
        needs = units.setdefault(unit, set())
        for out in node.inputs:
            if out.node in within:
                other = groups[out.node] or out.node
                if other != unit:
                    needs.add(other)
    done: set = set()
    for unit in units:
        for ready in _before(unit, units, done):
            if isinstance(ready, tuple):
                inner = members[ready]
                child = _place(ready, inner, place_of, dissolved, _leaving(inner, nodes, outputs))
                place.items.append(child)
            else:
                place.items.append(ready)
    place.inputs = entering(nodes)
    place.outputs = list(outputs) if path == () else list(dict.fromkeys(outputs))
    return place


def _group(path: Path, wish: Path, dissolved: set[Path]) -> Path | None:
    """The child module of ``path`` that a node goes to; ``None``: it stays here."""
    for length in range(len(path) + 1, len(wish) + 1):
        if wish[:length] not in dissolved:
            return wish[:length]
    return None


def _circle(nodes: list[Node], groups: dict[Node, Path | None]) -> set[Path]:
    """The child modules of the first circle of modules that need each other, or nothing."""
    within = set(nodes)
    needs: dict[Node | Path, dict[Node | Path, None]] = {}
    for node in nodes:
        unit = groups[node] or node
        mine = needs.setdefault(unit, {})
        for out in node.inputs:
            if out.node in within:
                other = groups[out.node] or out.node
                if other != unit:
                    mine[other] = None
    for component in _components(needs):
        paths = {unit for unit in component if isinstance(unit, tuple)}
        if len(component) > 1 and paths:
            return paths
    return set()


def _components(needs: dict) -> list[list]:
    """Strongly connected components (Tarjan), without recursion."""
    index: dict = {}
    low: dict = {}
    on: set = set()
    stack: list = []
    result: list[list] = []
    for root in needs:
        if root in index:
            continue
        work = [(root, iter(needs[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            unit, rest = work[-1]
            following = next(rest, None)
            if following is not None:
                if following not in index:
                    index[following] = low[following] = len(index)
                    stack.append(following)
                    on.add(following)
                    work.append((following, iter(needs[following])))
                elif following in on:
                    low[unit] = min(low[unit], index[following])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[unit])
            if low[unit] == index[unit]:
                component = []
                while True:
                    member = stack.pop()
                    on.discard(member)
                    component.append(member)
                    if member == unit:
                        break
                result.append(component)
    return result


def _before(unit: object, units: dict, done: set) -> list:
    """The unit and what it needs, in order, without what is done."""
    result: list = []
    stack = [(unit, False)]
    while stack:
        current, ready = stack.pop()
        if ready:
            if current not in done:
                done.add(current)
                result.append(current)
            continue
        if current in done:
            continue
        stack.append((current, True))
        stack.extend((u, False) for u in units[current] if u not in done)
    return result


def entering(nodes: Sequence[Node]) -> list[Out]:
    """What nodes read of others, in order."""
    within = set(nodes)
    return list(dict.fromkeys(o for n in nodes for o in n.inputs if o.node not in within))


def _leaving(inner: list[Node], nodes: list[Node], outputs: Sequence[Out]) -> list[Out]:
    """What the rest of ``nodes``, or the caller, reads of ``inner``."""
    within = set(inner)
    read = [o for n in nodes if n not in within for o in n.inputs if o.node in within]
    return list(dict.fromkeys([*read, *(o for o in outputs if o.node in within)]))
