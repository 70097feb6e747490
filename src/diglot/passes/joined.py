"""A join of what was just joined -> one join.

Before::

    torch.cat([a, torch.cat([b, c], dim=1)], dim=1)

After::

    torch.cat([a, b, c], dim=1)

Requires: nothing else reads what was joined first. Ensures: the same function.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from diglot.ir.hub import Hub, is_call

_JOIN = {"aten.cat.default"}


def join_once(hub: Hub) -> None:
    """Rewrite in place."""
    for node in hub.graph.nodes:
        if is_call(node, _JOIN):
            parts = [part for value in node.args[0] for part in _parts(value, node)]
            node.args = (parts, *node.args[1:])
    for node in reversed(list(hub.graph.nodes)):
        if is_call(node, _JOIN) and not node.users:
            hub.graph.erase_node(node)


def _parts(value: Any, around: fx.Node) -> list[Any]:
    """What a value is joined of, along the same axis and for this join alone."""
    if is_call(value, _JOIN) and len(value.users) == 1 and _axis(value) == _axis(around):
        return list(value.args[0])
    return [value]


def _axis(join: fx.Node) -> int:
    axis = join.args[1] if len(join.args) > 1 else 0
    return axis % join.meta["val"].dim()  # type: ignore[operator]
