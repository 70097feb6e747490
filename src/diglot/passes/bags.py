"""``nn.EmbeddingBag`` of ids in rows -> an embedding and a reduction over each row.

Before (ids of shape (batch, k) are flattened, and every bag has k of them)::

    flat = ids.reshape(-1);  starts = arange(0, ids.numel(), k)
    y = embedding_bag(weight, flat, starts, mode="sum")[0]

After::

    y = embedding(weight, ids).sum(1)

Requires: nothing reads the counts that ``embedding_bag`` returns beside. Ensures: the same function; bags of
different lengths, and those with ``padding_idx``, stay as they are.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import product, shape_of, size_of

_FLAT = {"aten.view.default", "aten.reshape.default", "aten.flatten.using_ints"}
_ARGUMENTS = (
    "weight indices offsets scale_grad_by_freq mode sparse per_sample_weights include_last_offset "
    "padding_idx"
).split()
_SUM, _MEAN, _MAX = 0, 1, 2


def open_bags(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op == "call_function" and target_name(node).startswith("aten.embedding_bag."):
            _rewrite(hub.graph, node)


def _rewrite(graph: fx.Graph, node: fx.Node) -> None:
    given = {**dict(zip(_ARGUMENTS, node.args, strict=False)), **node.kwargs}
    ids = _rows(given["indices"], given["offsets"])
    padding = given.get("padding_idx")
    padded = isinstance(padding, int) and padding >= 0
    read = [u for u in node.users if u.users]
    if ids is None or padded or given.get("include_last_offset", False):
        return
    if any(u.target is not operator.getitem or u.args[1] != 0 for u in read):
        return
    scale = given.get("scale_grad_by_freq", False)
    weights = given.get("per_sample_weights")
    with graph.inserting_before(node):
        made = _call(graph, node, "embedding.default", (given["weight"], ids, -1, scale))
        if weights is not None:
            shape = [*ids.meta["val"].shape, 1]
            column = _call(graph, node, "reshape.default", (weights, shape))
            made = _call(graph, node, "mul.Tensor", (made, column))
        made = _reduced(graph, node, made, given.get("mode", _SUM))
    for user in read:
        user.replace_all_uses_with(made)
    for user in list(node.users):
        graph.erase_node(user)
    graph.erase_node(node)


def _reduced(graph: fx.Graph, node: fx.Node, made: fx.Node, mode: int) -> fx.Node:
    op = {_SUM: "sum.dim_IntList", _MEAN: "mean.dim", _MAX: "amax.default"}[mode]
    return _call(graph, node, op, (made, [1]))


def _call(graph: fx.Graph, node: fx.Node, op: str, args: tuple) -> fx.Node:
    """Add an ATen call in the place of ``node``, with its fake value."""
    name, _, overload = op.partition(".")
    target = getattr(getattr(torch.ops.aten, name), overload)
    made = graph.call_function(target, args)
    made.meta = {k: v for k, v in node.meta.items() if k != "val"}
    values = fx.map_arg(args, lambda n: n.meta["val"])
    made.meta["val"] = target(*values)
    return made


def _rows(indices: fx.Node, offsets: fx.Node) -> fx.Node | None:
    """Return the ids in rows, where the offsets say that each row is a bag."""
    if target_name(indices) not in _FLAT or target_name(offsets) != "aten.arange.start_step":
        return None
    ids = indices.args[0]
    shape = shape_of(ids.meta["val"])
    if len(shape) != 2:
        return None
    start, end, step = (
        size_of(a.meta["val"] if isinstance(a, fx.Node) else a) for a in offsets.args[:3]
    )
    return ids if (start, end, step) == (0, product(shape), shape[1]) else None
