"""What is known of a value's sign from the op that made it."""

from __future__ import annotations

from typing import Any

from torch import fx

from diglot.ir.hub import is_mark, target_name

_MOVED = {
    "aten.permute.default",
    "aten.transpose.int",
    "aten.max_pool1d.default",
    "aten.max_pool2d.default",
}
_NEVER_BELOW = {"aten.relu.default", "aten.relu6.default", "aten.sigmoid.default"}


def is_never_negative(node: Any) -> bool:
    """Tell whether nothing is below zero: a maximum of it is the same with zeros beside it."""
    while isinstance(node, fx.Node) and (is_mark(node) or target_name(node) in _MOVED):
        node = node.args[0]
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    if target_name(node) == "aten.hardtanh.default":
        return len(node.args) > 1 and node.args[1] >= 0
    return target_name(node) in _NEVER_BELOW
