"""In-place ops -> their functional forms.

Before::

    y = relu_(x);  z = x + 1          # x was overwritten: z reads relu(x)

After::

    y = relu(x);   z = y + 1

An in-place op on a view writes through to its base: ``x[:, 0] = v`` becomes a ``select_scatter`` on ``x``, and
every later read of ``x`` (or of another view of it) reads the new base.
What is written to a buffer of the model stays after the call: ``diglot.assign(buffer, value)`` says so.
Requires: a straight-line graph. Ensures: no op whose schema writes to an argument, except batch norm's statistics.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name

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


#: Draws whose functional twins go by other names.
_DRAWS = {
    "aten.bernoulli_.float": torch.ops.aten.bernoulli.p,
    "aten.normal_.default": torch.ops.aten.normal_functional.default,
    "aten.uniform_.default": torch.ops.aten.uniform.default,
}


_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("assign(Tensor buffer, Tensor value) -> Tensor")
_LIBRARY.impl("assign", lambda buffer, value: value.clone(), "CompositeExplicitAutograd")
ASSIGN = "diglot.assign.default"


def _overload(name: str) -> torch._ops.OpOverload:
    space, op, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, space), op), overload)


def _functional_target(node: fx.Node) -> torch._ops.OpOverload | None:
    """Return the functional twin of an in-place op (``add_.Tensor`` -> ``add.Tensor``)."""
    space, op, overload = target_name(node).split(".")
    if not op.endswith("_") or op.endswith("__"):
        return None
    if target_name(node) in _DRAWS:
        return _DRAWS[target_name(node)]
    packet = getattr(getattr(torch.ops, space), op[:-1], None)
    if packet is None:
        return None
    return getattr(packet, overload, None) or getattr(packet, "default", None)


_TURNS = {
    "aten.transpose.int",
    "aten.permute.default",
    "aten.t.default",
    "aten.alias.default",
    "aten.expand.default",
}


def _is_view(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    return is_mark(node) or target_name(node) in _VIEWS.keys() | _RESHAPES | _TURNS


def make_functional(hub: Hub) -> None:
    """Replace in-place ops, in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node).count(".") != 2:
            continue
        twin = _functional_target(node)
        if twin is not None and isinstance(node.args[0], fx.Node):
            _replace(hub, node, twin)


def _replace(hub: Hub, node: fx.Node, twin: torch._ops.OpOverload) -> None:
    graph, target = hub.graph, node.args[0]
    with graph.inserting_before(node):
        if target_name(node) == "aten.copy_.default":
            value = _broadcast_like(graph, node.args[1], node)
        elif target_name(node).startswith("aten.fill_"):
            value = _like(graph, torch.ops.aten.full_like.default, (target, node.args[1]), node)
        elif target_name(node).startswith("aten.zero_"):
            value = _like(graph, torch.ops.aten.zeros_like.default, (target,), node)
        else:
            value = _like(graph, twin, node.args, node, node.kwargs)
        node.replace_all_uses_with(value)
        _write_through(hub, node, target, value)
    graph.erase_node(node)


def _like(graph: fx.Graph, op, args: tuple, node: fx.Node, kwargs: dict | None = None) -> fx.Node:
    made = graph.call_function(op, args, kwargs or {})
    made.meta = dict(node.meta)
    return made


def _broadcast_like(graph: fx.Graph, value: fx.Node, node: fx.Node) -> fx.Node:
    shape = list(node.meta["val"].shape)
    if list(value.meta["val"].shape) == shape:
        return value
    if any(isinstance(s, torch.SymInt) for s in shape):
        return _like(graph, torch.ops.aten.expand_as.default, (value, node.args[0]), node)
    return _like(graph, torch.ops.aten.expand.default, (value, shape), node)


def _write_through(hub: Hub, node: fx.Node, target: fx.Node, value: fx.Node) -> None:
    """Make every later read of the written value's base, or of a view of it, see the write."""
    graph = hub.graph
    order = {n: i for i, n in enumerate(graph.nodes)}
    now = order[node]
    replaced = {target: value}
    current, result = target, value
    while _is_view(current):
        base = current.args[0]
        result = _undo_view(graph, current, base, result)
        replaced[base] = result
        current = base
    # Other views of the same base, made before the write and read after it, are made again.
    for view in list(graph.nodes):
        if (
            view not in replaced
            and _is_view(view)
            and order.get(view, now) < now
            and view.args[0] in replaced
        ):
            if any(order.get(u, now + 1) > now for u in view.users):
                again = graph.call_function(
                    view.target, (replaced[view.args[0]], *view.args[1:]), view.kwargs
                )
                again.meta = dict(view.meta)
                replaced[view] = again
    _keep(hub, node, current, result)
    fresh = set(replaced.values())
    for old, new in replaced.items():
        for user in list(old.users):
            if user not in fresh and user is not new and order.get(user, -1) > now:
                user.replace_input_with(old, new)


def _keep(hub: Hub, node: fx.Node, base: fx.Node, value: fx.Node) -> None:
    """Say what a buffer holds after the call; what was written to it before does not matter any more."""
    before = [u for u in base.users if u.op == "call_function" and target_name(u) == ASSIGN]
    if before:  # the base is what the buffer was given last
        base = before[0].args[0]  # type: ignore[assignment]
        hub.graph.erase_node(before[0])
    if base not in hub.parameters or not hub.parameters[base].buffer:
        return
    made = hub.graph.call_function(torch.ops.diglot.assign.default, (base, value))
    made.meta = {**node.meta, "val": base.meta["val"]}


def _undo_view(graph: fx.Graph, view: fx.Node, base: fx.Node, value: fx.Node) -> fx.Node:
    """Return the base with the view's part replaced by ``value``."""
    name = target_name(view)
    made: fx.Node
    if is_mark(view) or name == "aten.alias.default":
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
