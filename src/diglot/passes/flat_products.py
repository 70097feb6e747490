"""``view(-1, n) @ weight -> view`` -> one product on the last axis.

Before (``keras.backend.dot``, ``tf.tensordot``)::

    flat = x.reshape(-1, n);  y = mm(flat, weight);  return y.reshape(-1, *x.shape[1:-1], m)

After::

    return x @ weight

Requires: nothing else reads the flat values. Ensures: the same function, with no reshape.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call
from diglot.ir.sizes import shape_of

_VIEWS = {"aten.view.default", "aten.reshape.default"}
_PRODUCTS = {"aten.mm.default", "aten.matmul.default"}


def unflatten_products(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if is_call(node, _PRODUCTS) and len(node.users) == 1:
            _rewrite(hub, node)


def _rewrite(hub: Hub, node: fx.Node) -> None:
    flat, weight = node.args
    after = next(iter(node.users))
    if not (is_call(flat, _VIEWS) and is_call(after, _VIEWS) and len(flat.users) == 1):
        return
    source = flat.args[0]
    before, result = shape_of(source.meta["val"]), shape_of(after.meta["val"])
    sizes, inner = shape_of(weight.meta["val"]), shape_of(flat.meta["val"])
    if len(sizes) != 2 or len(inner) != 2 or len(before) < 3 or inner[-1] != before[-1]:
        return
    if before[:-1] != result[:-1] or result[-1] != sizes[1]:
        return
    with hub.graph.inserting_before(after):
        made = hub.graph.call_function(torch.ops.aten.matmul.default, (source, weight))
        made.meta = {**node.meta, "val": after.meta["val"]}
    after.replace_all_uses_with(made)
