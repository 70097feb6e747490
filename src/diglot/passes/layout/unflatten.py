"""Features that become feature maps, channels-last at once: the columns of the Linear before them are turned.

Before: ``Linear(z).view(-1, C, H, W)`` would need a transpose to be (N, H, W, C).
After: the Linear gives its features in the order (H, W, C); its weight's columns, its bias and the weights of a
norm between the two are put into that order once, in the weight map.
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

#: Layers with one weight for each feature -> the places of these weights among their arguments.
_PER_FEATURE = {
    "aten.linear.default": (1, 2),
    "aten.batch_norm.default": (1, 2, 3, 4),
    "aten.layer_norm.default": (2, 3),
}


def becomes_maps(
    node: fx.Node, rules: dict[str, Rule], hub: Hub, images: Callable[[int], perms.Perm]
) -> bool:
    """Tell whether a reshape can give channels-last maps as it is, after its features were reordered where needed.

    Sets ``feature_order`` (the order of the last axis) on the values before it, and ``output_order`` on the
    layers that are to give it.
    """
    source = node.args[0]
    before, after = shape_of(source.meta["val"]), shape_of(node.meta["val"])
    matched = perms.groups(before, after)
    last = ([len(before) - 1], list(range(1, len(after))))
    if matched is None or matched[-1] != last or not all(is_static(s) for s in after[1:]):
        return False
    sizes = after[1:]
    axes = tuple(p - 1 for p in images(len(after))[1:])
    moved = [a for a in axes if sizes[a] != 1]
    if moved == sorted(moved):
        return True  # one channel, or maps of one pixel: the order is the same
    values = _back_to_linear(source, node, rules, hub)
    if values is None:
        return False
    for value in values:
        value.meta["feature_order"] = (sizes, axes)
        if target_name(value) in _PER_FEATURE:
            value.meta["output_order"] = (sizes, axes)
    return True


def _back_to_linear(
    value: fx.Node, reader: fx.Node, rules: dict[str, Rule], hub: Hub
) -> list[fx.Node] | None:
    """Return the values from a Linear up to a reader, where nothing else reads them or their weights."""
    found: list[fx.Node] = []
    while value.op == "call_function" and set(value.users) == {reader}:
        found.append(value)
        name = target_name(value)
        if name in _PER_FEATURE:
            if not _owns_weights(value, hub):
                return None
            if name == "aten.linear.default":
                return found
        elif not is_mark(value) and not _treats_features_alike(value, rules.get(name)):
            return None
        value, reader = value.args[0], value  # type: ignore[assignment]
    return None


def _owns_weights(node: fx.Node, hub: Hub) -> bool:
    """Tell whether a layer's weights are its module's own, one for each feature of its last axis, read here alone."""
    name = target_name(node)
    if name == "aten.batch_norm.default" and node.args[0].meta["val"].dim() != 2:
        return False
    if name == "aten.layer_norm.default" and len(node.args[1]) != 1:
        return False
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    owner = stack[-1][0] if stack else ""
    weights = [node.args[i] for i in _PER_FEATURE[name] if i < len(node.args)]
    return all(
        w in hub.parameters
        and set(w.users) == {node}
        and hub.parameters[w].name.rpartition(".")[0] == owner
        for w in weights
        if w is not None
    )


def _treats_features_alike(node: fx.Node, rule: Any) -> bool:
    """Tell whether an op is an activation, dropout and the like: one value in, numbers beside it."""
    others = [
        a
        for a in node.all_input_nodes
        if a is not node.args[0]
        and isinstance(a.meta.get("val"), torch.Tensor)
        and a.meta["val"].numel() != 1
    ]
    same = node.args and node.args[0].meta["val"].dim() == node.meta["val"].dim()
    return rule is not None and rule.layout == "elementwise" and bool(same) and not others
