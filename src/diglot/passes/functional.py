"""In-place ops -> their functional forms.

Before::

    y = relu_(x);  z = x + 1          # x was overwritten: z reads relu(x)

After::

    y = relu(x);   z = y + 1

An in-place op on a view writes through to its base: ``x[:, 0] = v`` becomes a ``select_scatter`` on ``x``, and
every later read of ``x`` (or of another view of it) reads the new base.
What is written to a buffer of the model stays after the call: ``diglot.assign(buffer, value)`` says so. A weight
that trains is written to without a gradient, and is the same weight after it: whatever reads it from there on reads
the weight itself (:mod:`diglot.passes.own_weights`).
Requires: a straight-line graph. Ensures: no op whose schema writes to an argument, except batch norm's statistics.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import ASSIGN, Hub, target_name
from diglot.passes import own_weights
from diglot.passes.views import is_view, root_of, shares_memory, undo_view

#: Draws whose functional twins go by other names.
_DRAWS = {
    "aten.bernoulli_.float": torch.ops.aten.bernoulli.p,
    "aten.normal_.default": torch.ops.aten.normal_functional.default,
    "aten.uniform_.default": torch.ops.aten.uniform.default,
}


def functional_target(node: fx.Node) -> torch._ops.OpOverload | None:
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


def make_functional(hub: Hub) -> None:
    """Replace in-place ops, in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node).count(".") != 2:
            continue
        twin = functional_target(node)
        if twin is not None and isinstance(node.args[0], fx.Node):
            _replace(hub, node, twin)
    for node in list(hub.graph.nodes):
        if node.op == "call_function" and target_name(node) == ASSIGN:
            held: fx.Node = node.args[0]  # type: ignore[assignment]
            if not hub.parameters[held].persistent and set(held.users) == {node}:
                hub.graph.erase_node(node)  # a cache: bound in each call before it is read


def _replace(hub: Hub, node: fx.Node, twin: torch._ops.OpOverload) -> None:
    graph, target = hub.graph, node.args[0]
    weight = own_weights.written_to(hub, target)
    with graph.inserting_before(node):
        if target_name(node) == "aten.copy_.default":
            value = _broadcast_like(graph, node.args[1], node)
        elif target_name(node).startswith("aten.fill_"):
            value = _like(graph, torch.ops.aten.full_like.default, (target, node.args[1]), node)
        elif target_name(node).startswith("aten.zero_"):
            value = _like(graph, torch.ops.aten.zeros_like.default, (target,), node)
        else:
            value = _like(graph, twin, node.args, node, node.kwargs)
        if weight is not None:
            own_weights.write(hub, node, _through_views(hub, target, value, weight), weight)
        else:
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
    of_buffer = root_of(target) in hub.parameters
    shared = shares_memory if of_buffer else is_view
    while shared(current):
        base = current.args[0]
        result = undo_view(graph, current, base, result)
        replaced[base] = result
        current = base
    # Other views of the same base, made before the write and read after it, are made again.
    for view in list(graph.nodes):
        if (
            view not in replaced
            and shared(view)
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


def _through_views(hub: Hub, target: fx.Node, value: fx.Node, weight: fx.Node) -> fx.Node:
    """What a weight is once a value is written to a view of it."""
    while target is not weight:
        base = target.args[0]
        if target_name(target) != own_weights.DETACH:
            value = undo_view(hub.graph, target, base, value)  # type: ignore[arg-type]
        target = base  # type: ignore[assignment]
    return value


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
    own_weights.drop_detaches(made, node)
