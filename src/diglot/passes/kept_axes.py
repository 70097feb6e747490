"""A reduction whose axes are put back, with one element each: it keeps them.

Before: ``x.mean((2, 3)).view(b, c, 1, 1)``, ``x.amax((2, 3))[:, :, None, None]``
After: ``x.mean((2, 3), keepdim=True)``

Requires: nothing else reads the reduced value. Ensures: the same function, with no reshape.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import shape_of

_KEPT = {"aten.mean.dim", "aten.sum.dim_IntList", "aten.amax.default", "aten.amin.default"}
_VIEWS = {"aten.view.default", "aten.reshape.default", "aten.unsqueeze.default"}


def keep_axes(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node) not in _KEPT:
            continue
        axes = node.args[1] if len(node.args) > 1 else ()
        if (len(node.args) > 2 and node.args[2]) or not axes or node.kwargs.get("keepdim"):
            continue
        value = node.meta["val"]
        source = shape_of(node.args[0].meta["val"])
        reduced = {a % len(source) for a in ([axes] if isinstance(axes, int) else axes)}
        wanted = tuple(1 if i in reduced else s for i, s in enumerate(source))
        last = _put_back(node, wanted)
        if last is None:
            continue
        for axis in sorted(reduced):
            value = value.unsqueeze(axis)
        node.args = (*node.args[:2], True, *node.args[3:])
        node.meta["val"] = value
        last.replace_all_uses_with(node)


def _put_back(node: fx.Node, wanted: tuple) -> fx.Node | None:
    """Return the view, of a view, … of a value that has the shape that the reduction would keep."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.op != "call_function" or target_name(node) not in _VIEWS:
            return None
        if not isinstance(node.meta["val"], torch.Tensor):
            return None
        if shape_of(node.meta["val"]) == wanted:
            return node
    return None
