"""Pooling of an image of one row -> pooling of a sequence.

Before (a 1-D pooling of TensorFlow's, which is a 2-D one)::

    F.max_pool2d(x.unsqueeze(2), (1, 2)).squeeze(2)

After::

    F.max_pool1d(x, 2)

Requires: nothing else reads the image. Ensures: the same function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call, target_name
from diglot.passes.layout.perms import permuted_dims

_AS_1D = {
    "aten.max_pool2d.default": torch.ops.aten.max_pool1d.default,
    "aten.avg_pool2d.default": torch.ops.aten.avg_pool1d.default,
}
_TURNS = {"aten.permute.default", "aten.transpose.int"}
#: What each argument after the image is along the row, where it says nothing.
_NEUTRAL = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


def flatten(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if is_call(node, _AS_1D):
            _rewrite(hub, node)


def _rewrite(hub: Hub, pool: fx.Node) -> None:
    image = pool.args[0]
    if not is_call(image, {"aten.unsqueeze.default"}) or len(image.users) != 1:
        return
    axis = image.args[1] % 4
    if axis not in (2, 3) or pool.meta["val"].dim() != 4:
        return
    after, order = _without(pool, axis)
    arguments = _along(pool, 3 - axis)
    if after is None or arguments is None:
        return
    with hub.graph.inserting_before(after):
        flat = hub.graph.call_function(
            _AS_1D[target_name(pool)], (image.args[0], *arguments.values())
        )
        flat.meta = {**pool.meta, "val": pool.meta["val"].squeeze(axis)}
        if order != sorted(order):
            turned = hub.graph.call_function(torch.ops.aten.permute.default, (flat, order))
            turned.meta = {**after.meta, "val": flat.meta["val"].permute(order)}
            flat = turned
    after.replace_all_uses_with(flat)


def _without(pool: fx.Node, axis: int) -> tuple[fx.Node | None, list[int]]:
    """Where the row's axis goes again, perhaps after turns, and which axes of the sequence are left in what order."""
    order = list(range(4))
    value = pool
    while len(value.users) == 1:
        value = next(iter(value.users))
        if is_call(value, _TURNS):
            order = [order[dim] for dim in permuted_dims(value, 4)]
            continue
        if not is_call(value, {"aten.squeeze.dim", "aten.squeeze.dims"}):
            break
        dims = value.args[1] if isinstance(value.args[1], (list, tuple)) else [value.args[1]]
        if [order[dim] for dim in dims] != [axis]:
            break
        return value, [n - (n > axis) for n in order if n != axis]
    return None, []


def _along(pool: fx.Node, place: int) -> dict[str, Any] | None:
    """The arguments of the 1-D op, where the 2-D one does nothing along the other axis."""
    schema = pool.target._schema.arguments[1:]  # type: ignore[union-attr]
    given = {a.name: v for a, v in zip(schema, pool.args[1:], strict=False)} | dict(pool.kwargs)
    if given.pop("divisor_override", None) is not None:
        return None
    found = {}
    for name, value in given.items():
        if name not in _NEUTRAL:
            found[name] = value
            continue
        pair = list(value) if isinstance(value, (list, tuple)) else [value]
        pair = pair * 2 if len(pair) == 1 else pair
        if pair and pair[1 - place] != _NEUTRAL[name]:
            return None
        found[name] = [pair[place]] if pair else []
    return found


__all__ = ["flatten"]
