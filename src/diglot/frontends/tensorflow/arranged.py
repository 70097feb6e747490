"""A graph's nodes in the tree of modules that its scopes describe, with blocks for what repeats in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diglot.frontends.tensorflow import repeated, shared, tree
from diglot.frontends.tensorflow.graph import Node
from diglot.frontends.tensorflow.repeated import Made, Plan
from diglot.frontends.tensorflow.tree import Path, Place

if TYPE_CHECKING:
    from diglot.frontends.tensorflow.build import Builder


def arranged(
    builder: Builder, nodes: Sequence[Node], wishes: dict[Node, Path], name: str
) -> tuple[Place, dict[Path, Made]]:
    """The tree of modules of a graph called ``name``, and which of them are blocks.

    ``wishes`` gives the path of the module that each node wishes to be in; it follows, in place, what is moved, and so
    do the paths of the builder's layers and weights.
    """
    root = _arranged(builder, nodes, wishes)
    plans: list[Plan] = []
    pending: list[Path] = [()]
    while pending:
        path = pending.pop()
        places = (root, *shared.every_place(root))
        here = next((place for place in places if place.path == path), None)
        found = repeated.plan(builder, here, path[-1] if path else name) if here else None
        if here is not None and found is not None:
            kept, before = dict(wishes), dataclasses.replace(builder)
            wishes.update(_moved(builder, here, nodes, wishes, found))
            builder.move(found)
            tried = _arranged(builder, nodes, wishes)
            if repeated.settled(tried, [*plans, found]):
                plans.append(found)
                root = tried
            else:
                wishes.update(kept)
                builder.paths, builder.homes = before.paths, before.homes
                builder.modules, builder.loose = before.modules, before.loose
                root = _arranged(builder, nodes, wishes)
                repeated.settled(root, plans)
        blocks = {path: made for plan in plans for path, made in plan.blocks.items()}
        pending += _inner(root, path, blocks)
    return root, {path: made for plan in plans for path, made in plan.blocks.items()}


def _inner(root: Place, path: Path, blocks: dict[Path, Made]) -> list[Path]:
    """The modules right below one that the graph's scopes say; those in its blocks, too."""
    found: list[Path] = []
    modules = {place.path for place in shared.every_place(root)}
    for own in modules - set(blocks):
        below = own[: len(path)] == path and len(own) > len(path)
        between = [own[:size] for size in range(len(path) + 1, len(own))]
        if below and shared.plain(own) == own:
            if all(p in blocks or p not in modules for p in between):
                found.append(own)
    return sorted(found)


def _moved(
    builder: Builder, place: Place, nodes: Sequence[Node], wishes: dict[Node, Path], plan: Plan
) -> dict[Node, Path]:
    """Where nodes wish to be once a plan for a module is followed."""
    found: dict[Node, Path] = {}
    for node, wish in wishes.items():
        leaf = builder.leaf_path(node)
        if node in plan.inside:
            found[node] = plan.inside[node]
        elif leaf in plan.moved:
            found[node] = plan.moved[leaf][:-1]
        else:
            found[node] = plan.path(wish)
    # Sizes, and weights that are no layer's, are where they are read.
    direct = {item for item in place.items if isinstance(item, Node)}
    users: dict[Node, list[Path]] = {}
    for node in reversed(nodes):
        loose = node in direct and _is_loose(builder, node) and node not in plan.inside
        if loose and node in users:
            common = tree.common_prefix(users[node])
            if common[: len(place.path)] == place.path:
                found[node] = common
        for out in node.inputs:
            users.setdefault(out.node, []).append(found[node])
    return found


def _is_loose(builder: Builder, node: Node) -> bool:
    """Tell whether a node is no step of a module: a weight that no layer holds, or a size."""
    if node.op == "Variable":
        return node not in builder.homes
    return node.op != "Layer" and not any(builder.is_tensor(out) for out in builder.outs(node))


def _arranged(builder: Builder, nodes: Sequence[Node], wishes: dict[Node, Path]) -> Place:
    """The tree of modules, where runs of one module compute the same."""

    def key(node: Node) -> tuple:
        attrs = {k: v for k, v in node.attrs.items() if k != "layer"}
        leaf = builder.leaf(node) if node.op == "Layer" else None
        return (node.op, leaf, repr(sorted(attrs.items(), key=str)))

    dissolved: set[Path] = set()
    while True:
        place = tree.arrange(nodes, wishes, builder.lowered.graph.outputs, dissolved)
        wrong = shared.unequal(place, key)
        if not wrong:
            return place
        dissolved |= wrong
