"""``x[:, :, None].expand(…).reshape(…)`` -> one repeat (the heads of grouped-query attention).

Before::

    x = x[:, :, None, :, :].expand(batch, heads, n, length, width)
    x = x.reshape(batch, heads * n, length, width)

After::

    x = repeat_interleave(x, n, dim=1)
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import is_static, shape_of

_RESHAPES = {"aten.view.default", "aten.reshape.default", "aten._unsafe_view.default"}


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op == "call_function" and target_name(node) in _RESHAPES:
            found = _repeated(node)
            if found is None:
                continue
            source, count, dim = found
            with hub.graph.inserting_before(node):
                made = hub.graph.call_function(
                    torch.ops.aten.repeat_interleave.self_int, (source, count, dim)
                )
                made.meta = dict(node.meta)
            node.replace_all_uses_with(made)


def _repeated(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """Return what is repeated, how often and along which axis."""
    wide = node.args[0]
    if target_name(wide) != "aten.expand.default":
        return None
    apart = wide.args[0]
    if apart.op != "call_function" or target_name(apart) != "aten.unsqueeze.default":
        return None
    source = apart.args[0]
    before, after = shape_of(source.meta["val"]), shape_of(node.meta["val"])
    expanded = shape_of(wide.meta["val"])
    place = int(apart.args[1]) % len(expanded)
    if place == 0 or len(expanded) != len(before) + 1:
        return None
    count = expanded[place]
    grown = (*before[: place - 1], before[place - 1] * count, *before[place:])
    kept = (*expanded[:place], *expanded[place + 1 :])
    if not is_static(count) or kept != before or after != grown:
        return None
    return source, int(count), place - 1
