"""Causal masks that Hugging Face builds from positions, back to the flag that attention has for them.

Where no mask is given, its causal models compare positions twice: to find out which tokens belong to one sequence
(those whose positions count on by one: all of them, as the positions are an ``arange``), and to look only backwards.
Each rewrite is exact:

=====================================================  =======================================
``diff(positions, prepend=positions[:, :1] - 1) != 1``   ``False``
``cumsum(False)``, ``cumsum(…) == cumsum(…)``            zeros, ``True``
attention under ``positions <= positions[:, None]``      attention with ``is_causal=True``
=====================================================  =======================================
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name
from diglot.passes.clean import _equal, drop_dead
from diglot.passes.masks import simplify

_ATTENTION = "aten.scaled_dot_product_attention.default"
_VIEWS = {
    "aten.unsqueeze.default", "aten.view.default", "aten.reshape.default", "aten.expand.default",
    "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default",
}  # fmt: skip
_COMPARE = {"aten.eq": operator.eq, "aten.ne": operator.ne}


def recognise(hub: Hub) -> None:
    """Rewrite in place, then let the simplified masks fold."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or node in hub.constants:
            continue
        if target_name(node).rpartition(".")[0] in _COMPARE and known(hub, node) is True:
            hub.constants[node] = torch.ones((), dtype=torch.bool)
            node.args = ()
            node.target = torch.ops.aten.empty.memory_format
    simplify(hub)
    for node in list(hub.graph.nodes):
        if node.op == "call_function" and target_name(node) == _ATTENTION:
            _set_causal(node)
    drop_dead(hub)


def known(hub: Hub, node: Any) -> Any:
    """Return the number that every element of a value is, as far as it follows from positions; else ``None``."""
    if not isinstance(node, fx.Node):
        return node if isinstance(node, (bool, int, float)) else None
    if node.op != "call_function" or node in hub.constants:
        return None
    name = target_name(node)
    if is_mark(node) or name in _VIEWS:
        return known(hub, node.args[0])
    if name == "aten.diff.default":
        return 1 if _counts_on(node) else None
    if name == "aten.cumsum.default":
        return 0 if known(hub, node.args[0]) in (False, 0) else None
    compare = _COMPARE.get(name.rpartition(".")[0])
    if compare is None:
        return None
    left, right = (known(hub, a) for a in node.args[:2])
    return None if left is None or right is None else compare(left, right)


def _counts_on(node: fx.Node) -> bool:
    """Tell whether a difference is of positions and of what comes right before them: 1 everywhere."""
    source, times, axis, before = (*node.args, *(None,) * 4)[:4]
    if times != 1 or axis != -1 or counted_axis(source) != -1 or not isinstance(before, fx.Node):
        return False
    if target_name(before) not in ("aten.sub.Tensor", "aten.sub.Scalar") or before.args[1] != 1:
        return False
    first = before.args[0]
    if not isinstance(first, fx.Node) or target_name(first) != "aten.slice.Tensor":
        return False
    last = source.meta["val"].dim() - 1
    return first.args[0] is source and list(first.args[1:]) == [last, 0, 1]


def counted_axis(node: Any) -> int | None:
    """Return the axis (from the end) along which a value is 0, 1, 2, … and the same along all others."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return None
    if target_name(node) == "aten.arange.default":
        return -1 if node.meta["val"].dtype == torch.int64 else None
    if not is_mark(node) and target_name(node) not in _VIEWS:
        return None
    if node.meta["val"].dtype == torch.bool:
        return None
    source = node.args[0]
    axis = counted_axis(source)
    if axis is None or is_mark(node) or target_name(node).startswith(("aten.to", "aten._to")):
        return axis
    ours, theirs = node.meta["val"].shape, source.meta["val"].shape
    if target_name(node) == "aten.expand.default":  # aligned at the end
        return axis if _equal(ours[axis], theirs[axis]) else None
    kept = [i - len(theirs) for i, s in enumerate(theirs) if not _equal(s, 1)]
    made = [i - len(ours) for i, s in enumerate(ours) if not _equal(s, 1)]
    alike = len(kept) == len(made) and all(
        _equal(theirs[a], ours[b]) for a, b in zip(kept, made, strict=True)
    )
    return made[kept.index(axis)] if alike and axis in kept else None


def _set_causal(node: fx.Node) -> None:
    """Give attention its flag where the mask says that a query looks at no later key."""
    mask = node.args[3] if len(node.args) > 3 else None
    if (len(node.args) > 5 and node.args[5]) or node.kwargs.get("is_causal"):
        return
    while isinstance(mask, fx.Node) and (is_mark(mask) or _is_expanded(mask)):
        mask = mask.args[0]
    if not isinstance(mask, fx.Node) or target_name(mask) not in (
        "aten.le.Tensor",
        "aten.ge.Tensor",
    ):
        return
    keys, queries = mask.args[:2] if target_name(mask) == "aten.le.Tensor" else mask.args[1::-1]
    shape = mask.meta["val"].shape
    if len(shape) < 2 or not _equal(shape[-1], shape[-2]):
        return
    if counted_axis(keys) == -1 and counted_axis(queries) == -2:
        dropout = node.args[4] if len(node.args) > 4 else 0.0
        node.args = (*node.args[:3], None, dropout, True, *node.args[6:])


def _is_expanded(node: fx.Node) -> bool:
    return node.op == "call_function" and target_name(node) == "aten.expand.default"
