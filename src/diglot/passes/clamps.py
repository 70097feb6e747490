"""Bounds that hold already, or that are one bound.

Before (``keras.activations.relu(x, max_value=20)``)::

    relu(x).clamp(min=0.0).clamp(max=20.0)

After::

    relu(x).clamp(max=20.0)

``x.clamp(min=a).clamp(max=b)`` is ``x.clamp(a, b)`` where ``a < b``. Ensures: the same function, and the same gradient
at the bounds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call, target_name
from diglot.ir.signs import is_never_negative

#: Bounds, and what they are called in an op's arguments after the first.
_CLAMPS = {
    "aten.clamp.default": ("min", "max"),
    "aten.clamp_min.default": ("min",),
    "aten.clamp_max.default": ("max",),
    "aten.maximum.default": ("min",),
    "aten.minimum.default": ("max",),
}
_COPIES = ("aten._to_copy.default", "aten.to.dtype")


def join(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if not is_call(node, _CLAMPS):
            continue
        source, low, high = _parts(hub, node)
        if (
            high is None
            and isinstance(low, (int, float))
            and low <= 0
            and is_never_negative(source)
        ):
            node.replace_all_uses_with(source)
            continue
        if low is None and is_call(source, _CLAMPS) and len(source.users) == 1:
            inner, least, most = _parts(hub, source)
            numbers = isinstance(least, (int, float)) and isinstance(high, (int, float))
            if most is None and numbers and least < high:
                node.target = torch.ops.aten.clamp.default
                node.args, node.kwargs = (inner, least, high), {}


def _parts(hub: Hub, node: fx.Node) -> tuple[Any, Any, Any]:
    names = ("self", *_CLAMPS[target_name(node)])
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return given["self"], *(_number(hub, given.get(name)) for name in ("min", "max"))


def _number(hub: Hub, value: Any) -> Any:
    """A bound as a number, also where it is a constant of one element."""
    while is_call(value, _COPIES):
        value = value.args[0]
    held = hub.constants.get(value) if isinstance(value, fx.Node) else None
    return float(held) if held is not None and held.dim() == 0 else value
