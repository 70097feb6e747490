"""A flatten whose target order differs from PyTorch's, made good in the next Linear's rows.

Before: ``Linear(flatten(x))`` with ``x`` (N, C, H, W) stored as (N, H, W, C) would need a transpose.
After: the flatten keeps (H, W, C); the Linear's weight rows are put into that order once, in the weight map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name
from diglot.ir.sizes import is_static, shape_of
from diglot.passes.layout import perms
from diglot.rules.registry import Rule

_LINEAR = {"aten.linear.default"}


def feature_order(
    node: fx.Node, rules: dict[str, Rule], hub: Hub
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return ``(sizes, permutation)`` of the last axis of a reshape, or ``None`` where rows cannot carry it."""
    source = node.args[0]
    before, after = shape_of(source.meta["val"]), shape_of(node.meta["val"])
    matched = perms.groups(before, after)
    layout = source.meta.get("layout")
    if matched is None or layout is None or len(after) < 2 or len(matched[-1][1]) != 1:
        return None
    left = matched[-1][0]
    sizes = tuple(before[a] for a in left)
    if not all(is_static(s) for s in sizes):
        return None
    places = sorted(layout.index(a) for a in left)
    if places != list(range(len(layout) - len(left), len(layout))):
        return None  # the merged axes must be the target's last ones
    rest, _ = perms.reshaped(
        perms.without(layout, len(layout), set(left)), before[: left[0]], after[:-1]
    )
    if not rest or not _only_linear(node, rules, hub, set()):
        return None
    return sizes, tuple(layout[p] - left[0] for p in places)


def _only_linear(node: fx.Node, rules: dict[str, Rule], hub: Hub, seen: set[fx.Node]) -> bool:
    """Tell whether every reader, through ops that treat features alike, is a Linear with weights of its own."""
    for user in node.users:
        if user in seen:
            continue
        seen.add(user)
        if user.op != "call_function":
            return False
        name = target_name(user)
        if name in _LINEAR:
            weight = user.args[1]
            if weight not in hub.parameters or len(weight.users) != 1:
                return False
            continue
        rule: Any = rules.get(name)
        alike = is_mark(user) or (rule is not None and rule.layout == "elementwise")
        others = [
            a
            for a in user.all_input_nodes
            if a is not node and isinstance(a.meta.get("val"), torch.Tensor)
        ]
        if not alike or others or not _only_linear(user, rules, hub, seen):
            return False
    return bool(node.users)
