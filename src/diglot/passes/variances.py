"""The mean of the squared distances from the mean, as ``tf.nn.moments`` computes it -> a variance.

Before::

    mean = mean(x, dims, True)
    variance = mean(square(x - detach(mean)), dims, True)

After::

    variance = var(x, dims, correction=0, keepdim=True)

Ensures: the same value and the same gradient, since the distances from the mean add up to zero. A variance that an
author writes out, who has a name for the mean, stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call, target_name

_MEANS = {"aten.mean.dim"}
_SQUEEZES = {
    "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default", "aten.view.default",
    "aten.reshape.default",
}  # fmt: skip
#: The place of ``keepdim`` among the arguments of a reduction.
_KEEPDIMS = {
    "aten.mean.dim": 2, "aten.sum.dim_IntList": 2, "aten.var.correction": 2, "aten.amax.default": 2,
    "aten.amin.default": 2,
}  # fmt: skip
_DIFFERENCES = {"aten.sub.Tensor"}


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        x = _spread_of(node) if is_call(node, _MEANS) else None
        if x is None:
            continue
        dims, keepdim = _axes(node)
        with hub.graph.inserting_before(node):
            made = hub.graph.call_function(
                torch.ops.aten.var.correction, (x, dims), {"correction": 0, "keepdim": keepdim}
            )
            made.meta = dict(node.meta)
        node.replace_all_uses_with(made)


def drop_axes(hub: Hub) -> None:
    """Reduce without the axes that are taken away at once, in place: ``mean(x, 1, True).squeeze(1)``."""
    for node in list(hub.graph.nodes):
        source = node.args[0] if is_call(node, _SQUEEZES) else None
        place = _KEEPDIMS.get(target_name(source)) if is_call(source, _KEEPDIMS) else None
        if place is None or len(source.users) > 1:  # type: ignore[union-attr]
            continue
        assert isinstance(source, fx.Node)
        x, kept = source.args[0], source.args[place] if len(source.args) > place else None
        if not isinstance(x, fx.Node) or not (kept or source.kwargs.get("keepdim")):
            continue
        gone = _sorted(x, _axes(source)[0])
        sizes = list(x.meta["val"].shape)
        if list(node.meta["val"].shape) != [n for d, n in enumerate(sizes) if d not in gone]:
            continue
        with hub.graph.inserting_before(node):
            made = hub.graph.call_function(
                source.target,
                source.args[:place],
                {k: v for k, v in source.kwargs.items() if k != "keepdim"},
            )
            made.meta = dict(node.meta)
        node.replace_all_uses_with(made)


def _spread_of(node: fx.Node) -> fx.Node | None:
    """What a mean is the variance of."""
    difference = _squared(node.args[0])
    if not is_call(difference, _DIFFERENCES) or difference.kwargs:
        return None
    for x, centre in (difference.args[:2], difference.args[1::-1]):
        if not isinstance(x, fx.Node) or not isinstance(centre, fx.Node):
            continue
        mean = centre.args[0] if is_call(centre, {"aten.detach.default"}) else centre
        alone = len(mean.users) == len(difference.users) == 1 if mean is centre else True
        if (
            alone
            and is_call(mean, _MEANS)
            and mean.args[0] is x
            and _axes(mean)[1]
            and _sorted(x, _axes(mean)[0]) == _sorted(x, _axes(node)[0])
        ):
            return x
    return None


def _squared(node: Any) -> Any:
    """What is squared: ``x * x``, ``square(x)``, ``x ** 2``."""
    if is_call(node, {"aten.square.default"}):
        return node.args[0]
    if is_call(node, {"aten.mul.Tensor"}) and node.args[0] is node.args[1]:
        return node.args[0]
    if is_call(node, {"aten.pow.Tensor_Scalar"}) and node.args[1] == 2:
        return node.args[0]
    return None


def _axes(mean: fx.Node) -> tuple[list[int], bool]:
    dims = mean.args[1] if len(mean.args) > 1 else mean.kwargs.get("dim")
    keep = mean.args[2] if len(mean.args) > 2 else mean.kwargs.get("keepdim", False)
    return list(dims or []), bool(keep)  # type: ignore[arg-type]


def _sorted(x: fx.Node, dims: list[int]) -> list[int]:
    rank = x.meta["val"].dim()
    return sorted(d % rank for d in dims or range(rank))


__all__ = ["drop_axes", "recognise"]
