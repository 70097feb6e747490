"""``view(-1, n) -> addmm -> view`` -> one dense op on the last axis.

Before (transformers' ``Conv1D``)::

    flat = x.view(-1, n);  y = addmm(bias, flat, weight);  return y.view(*x.shape[:-1], m)

After::

    return dense(x, weight, bias)      # weight (in, out), as Keras keeps it

Requires: nothing else reads the flat values. Ensures: the same function, with no reshape.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.frontends import attention  # noqa: F401  defines diglot::dense
from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import shape_of

_VIEWS = {"aten.view.default", "aten.reshape.default"}


def unflatten_dense(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op == "call_function" and target_name(node) == "aten.addmm.default":
            _rewrite(hub, node)


def _rewrite(hub: Hub, node: fx.Node) -> None:
    bias, flat, weight = node.args[:3]
    if len(node.args) > 3 or node.kwargs or len(node.users) != 1 or len(flat.users) != 1:
        return
    after = next(iter(node.users))
    if flat.op != "call_function" or target_name(flat) not in _VIEWS:
        return
    if after.op != "call_function" or target_name(after) not in _VIEWS:
        return
    source = flat.args[0]
    before, result = shape_of(source.meta["val"]), shape_of(after.meta["val"])
    if before[:-1] != result[:-1] or before[-1] != shape_of(weight.meta["val"])[0]:
        return
    if weight not in hub.parameters or bias not in hub.parameters:
        return
    graph = hub.graph
    with graph.inserting_before(after):
        made = graph.call_function(torch.ops.diglot.dense.default, (source, weight, bias))
        made.meta = {**node.meta, "val": after.meta["val"]}
    after.replace_all_uses_with(made)
    for old in (after, node, flat):
        graph.erase_node(old)
