"""Axes that are turned more often than they need be: for an op along the last axis, and twice in a row.

Before (``tf.nn.softmax(x, axis=1)``)::

    softmax(x.transpose(1, 2), -1).transpose(1, 2)

After::

    softmax(x, 1)

Requires: nothing else reads the turned values. Ensures: the same function.
"""

from __future__ import annotations

from torch import fx

from diglot.ir.hub import Hub, is_call
from diglot.passes.layout.perms import permuted_dims

_PERMUTES = {"aten.permute.default"}
_TURNS = {*_PERMUTES, "aten.transpose.int"}
_ALONG = {
    "aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten._log_softmax.default",
    "aten.cumsum.default", "aten.cumprod.default",
}  # fmt: skip


def turn_back(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if is_call(node, _ALONG):
            _rewrite(hub, node)


def _rewrite(hub: Hub, node: fx.Node) -> None:
    turned, dim = node.args[:2]
    after = next(iter(node.users), None)
    if not (is_call(turned, _TURNS) and is_call(after, _TURNS)):
        return
    if len(node.users) != 1 or len(turned.users) != 1:
        return
    rank = node.meta["val"].dim()
    there, back = permuted_dims(turned, rank), permuted_dims(after, rank)
    if [there[axis] for axis in back] != list(range(rank)):
        return
    with hub.graph.inserting_before(after):
        given = (turned.args[0], int(there[dim % rank]), *node.args[2:])
        made = hub.graph.call_function(node.target, given, dict(node.kwargs))
        made.meta = {**node.meta, "val": after.meta["val"]}
    after.replace_all_uses_with(made)


def join(hub: Hub) -> None:
    """Turn axes once that are turned twice in a row, in place; what was between reads the axes as they were."""
    for node in list(hub.graph.nodes):
        first = node.args[0] if is_call(node, _PERMUTES) else None
        if not isinstance(first, fx.Node) or not is_call(first, _PERMUTES) or len(first.users) > 1:
            continue
        rank = node.meta["val"].dim()
        once, again = permuted_dims(first, rank), permuted_dims(node, rank)
        node.args = (first.args[0], [once[axis] for axis in again])
