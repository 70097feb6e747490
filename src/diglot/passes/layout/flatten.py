"""A flatten whose target order differs from PyTorch's, made good in the next Linear's rows.

Before: ``Linear(flatten(x))`` with ``x`` (N, C, H, W) stored as (N, H, W, C) would need a transpose.
After: the flatten keeps (H, W, C); the Linear's weight rows are put into that order once, in the weight map.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """Tell whether every reader, through ops that treat features alike, is a Linear whose rows can be turned."""
    for user in node.users:
        if user in seen:
            continue
        seen.add(user)
        if user.op != "call_function":
            return False
        name = target_name(user)
        if name in _LINEAR:
            weight = user.args[1]
            if weight not in hub.parameters or user.args[0] is weight:
                return False
            if len(weight.users) > 1 and not _always_flattened(weight, rules):
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


def _always_flattened(weight: fx.Node, rules: dict[str, Rule]) -> bool:
    """Tell whether every use of a weight is a Linear on a flatten of the same sizes (a twin network's)."""
    sizes = set()
    for user in weight.users:
        if user.op != "call_function" or target_name(user) not in _LINEAR:
            return False
        source = user.args[0]
        while isinstance(source, fx.Node) and source.op == "call_function":
            rule = rules.get(target_name(source))
            if rule is not None and rule.layout == "reshape":
                break
            if not is_mark(source) and (rule is None or rule.layout != "elementwise"):
                return False
            source = source.args[0]
        else:
            return False
        sizes.add((shape_of(source.args[0].meta["val"])[1:], shape_of(source.meta["val"])[1:]))
    return len(sizes) == 1


Insert = Callable[[fx.Node, Any, tuple, torch.Tensor], fx.Node]


def settle_shared(hub: Hub, insert: Insert) -> None:
    """Where calls of one Linear were given features in several orders, bring them back to PyTorch's, in place."""
    for weight in hub.parameters:
        users = [
            u for u in weight.users if u.op == "call_function" and target_name(u) in _LINEAR
        ]  # fmt: skip
        if len({u.meta.get("input_order") for u in users if u.args[1] is weight}) < 2:
            continue
        for user in users:
            order = user.meta.pop("input_order", None)
            if order is not None:
                _restore(user, order, insert)


def _restore(linear: fx.Node, order: tuple, insert: Insert) -> None:
    """Turn the features of one Linear's input back."""
    sizes, axes = order
    value = linear.args[0]
    flat = value.meta["val"]
    lead = list(flat.shape[:-1])
    turned = [sizes[a] for a in axes]
    back = [*range(len(lead)), *(len(lead) + axes.index(a) for a in range(len(axes)))]
    aten = torch.ops.aten
    for target, argument in (
        (aten.view.default, [*lead, *turned]),
        (aten.permute.default, back),
        (aten.reshape.default, [*lead, flat.shape[-1]]),
    ):
        seen = value.meta["val"]
        result = (
            seen.permute(argument) if target is aten.permute.default else seen.reshape(argument)
        )
        plain = [a if isinstance(a, int) else -1 for a in argument]
        value = insert(linear, target, (value, plain), result)
        value.meta["layout"] = None
    linear.args = (value, *linear.args[1:])
