"""Views of tensors: what is written to one is written to what it shows."""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import is_call, is_mark, target_name

_VIEWS = {
    "aten.select.int": "aten.select_scatter.default",
    "aten.slice.Tensor": "aten.slice_scatter.default",
    "aten.diagonal.default": "aten.diagonal_scatter.default",
}
_RESHAPES = {
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.unsqueeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.default",
    "aten.flatten.using_ints",
}
_TURNS = {
    "aten.transpose.int",
    "aten.permute.default",
    "aten.t.default",
    "aten.alias.default",
    "aten.expand.default",
}
_ALL = _VIEWS.keys() | _RESHAPES | _TURNS
DETACH = "aten.detach.default"


def is_view(node: fx.Node) -> bool:
    """Tell whether a node's value shares its memory with what it is made of, and its gradient as well."""
    return node.op == "call_function" and (is_mark(node) or target_name(node) in _ALL)


def shares_memory(node: fx.Node) -> bool:
    """Tell whether a node's value shares its memory, though it may be without its gradient."""
    return is_view(node) or is_call(node, {DETACH})


def root_of(node: fx.Node) -> fx.Node:
    """What a view is a view of."""
    while shares_memory(node):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _overload(name: str) -> torch._ops.OpOverload:
    space, op, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, space), op), overload)


def undo_view(graph: fx.Graph, view: fx.Node, base: fx.Node, value: fx.Node) -> fx.Node:
    """Return the base with the view's part replaced by ``value``."""
    name = target_name(view)
    made: fx.Node
    if is_mark(view) or name in ("aten.alias.default", DETACH):
        return value
    if name in _VIEWS:
        made = graph.call_function(_overload(_VIEWS[name]), (base, value, *view.args[1:]))
    elif name == "aten.transpose.int":
        made = graph.call_function(view.target, (value, *view.args[1:]))
    elif name == "aten.t.default":
        made = graph.call_function(view.target, (value,))
    elif name == "aten.permute.default":
        dims = [d % len(view.args[1]) for d in view.args[1]]
        made = graph.call_function(view.target, (value, [dims.index(i) for i in range(len(dims))]))
    else:
        made = graph.call_function(
            torch.ops.aten.reshape.default, (value, list(base.meta["val"].shape))
        )
    made.meta = {**view.meta, "val": base.meta["val"]}
    return made
