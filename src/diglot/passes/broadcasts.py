"""A tensor that is spread to the shape of what it then meets: broadcasting does that by itself.

Before: ``x * y[:, :, None, None].expand_as(x)``
After: ``x * y[:, :, None, None]``

Requires: sums, products and their like alone read the spread tensor, each with an operand of the full shape.
Ensures: the same function.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import shape_of

_SPREADS = {"aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default"}
_MEETS = {f"aten.{op}.Tensor" for op in ("add", "sub", "mul", "div", "pow")}


def drop_spreads(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node) not in _SPREADS or not node.users:
            continue
        if all(_meets_the_whole(user, node) for user in node.users):
            node.replace_all_uses_with(node.args[0])


def _meets_the_whole(user: fx.Node, spread: fx.Node) -> bool:
    if user.op != "call_function" or target_name(user) not in _MEETS:
        return False
    others = [a for a in user.args if isinstance(a, fx.Node) and a is not spread]
    values = [a.meta.get("val") for a in others]
    shape = shape_of(spread.meta["val"])
    return any(isinstance(v, torch.Tensor) and shape_of(v) == shape for v in values)
