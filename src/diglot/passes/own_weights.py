"""Weights that train and that the model itself writes to: a masked convolution, a weight that is kept at length 1.

Before (``with torch.no_grad(): self.weight.mul_(self.mask)``)::

    weight.mul_(mask);  y = conv2d(x, weight)

After::

    assign(weight, weight * mask);  y = conv2d(x, weight)

Unlike a buffer's, the new value does not take the weight's place where it is read: the gradient of what is computed
with the weight is the weight's own, and none passes through the assignment. So the order counts here: what reads the
weight before the assignment sees what it was, what reads it after sees what it is.
Requires: the weight, or a view of it, is written to where no gradient is recorded, as PyTorch demands.
"""

from __future__ import annotations

import re

import torch
from torch import fx

from diglot.errors import Problem, Unsupported
from diglot.ir.hub import ASSIGN, Hub, is_call, target_name
from diglot.passes.views import DETACH, shares_memory

_LINE = re.compile(r'File "(.+?)", line (\d+), in ')

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("assign(Tensor buffer, Tensor value) -> Tensor")
_LIBRARY.impl("assign", lambda buffer, value: value.clone(), "CompositeExplicitAutograd")


def written_to(hub: Hub, target: fx.Node) -> fx.Node | None:
    """Return the weight that is written to where ``target`` is: the weight, a view of it, or it without a gradient.

    Raises :class:`Unsupported` where another value is changed behind its gradient's back, and read after that.
    """
    node, detached = target, None
    while shares_memory(node):
        detached = node if is_call(node, {DETACH}) else detached
        node = node.args[0]  # type: ignore[assignment]
    if node in hub.parameters:
        return None if hub.parameters[node].buffer else node
    if detached is not None:
        _check_unread(hub, detached, target)
    return None


def _check_unread(hub: Hub, detached: fx.Node, target: fx.Node) -> None:
    """What is written to ``x.detach()`` is written to ``x``, whose gradient knows nothing of it."""
    order = {n: i for i, n in enumerate(hub.graph.nodes)}
    change = next(u for u in target.users if order[u] > order[target] and u.args[0] is target)
    source = detached.args[0]
    if any(order[u] > order[change] for u in source.users):  # type: ignore[union-attr]
        why = "it changes, in place and without a gradient, a tensor that is read again"
        raise Unsupported([Problem(target_name(change), line_of(change), "", why)])


def write(hub: Hub, node: fx.Node, value: fx.Node, weight: fx.Node) -> None:
    """Put an assignment in the place of ``node``, which writes ``value`` to a weight."""
    graph = hub.graph
    order = {n: i for i, n in enumerate(graph.nodes)}
    with graph.inserting_before(node):
        made = graph.call_function(torch.ops.diglot.assign.default, (weight, value))
        made.meta = {**node.meta, "val": weight.meta["val"]}
    kept, target = set(), node.args[0]
    while node.users and target is not weight:
        kept.add(target)
        target = target.args[0]  # type: ignore[union-attr]
    again: dict[fx.Node, fx.Node] = {weight: weight}
    for view in list(graph.nodes):
        source = view.args[0] if shares_memory(view) else None
        if source not in again or order.get(view, len(order)) > order[node]:
            continue
        later = [u for u in view.users if order.get(u, -1) > order[node]]
        if later or view in kept:
            with graph.inserting_before(node):
                seen = graph.call_function(view.target, (again[source], *view.args[1:]))  # type: ignore[arg-type]
            seen.meta = dict(view.meta)
            again[view] = seen
        for user in later:
            user.replace_input_with(view, again[view])
    if node.users:
        node.replace_all_uses_with(again[node.args[0]])  # type: ignore[index]
    drop_detaches(made, node)


def drop_detaches(assigned: fx.Node, replaced: fx.Node) -> None:
    """Nothing flows back through an assignment: what is detached for it alone need not be."""
    alone, stack = {assigned, replaced}, list(assigned.all_input_nodes)
    while stack:
        node = stack.pop()
        if node.op == "call_function" and alone.issuperset(node.users):
            alone.add(node)
            stack += node.all_input_nodes
    for node in alone:
        if is_call(node, {DETACH}):
            for user in list(node.users):
                user.replace_input_with(node, node.args[0])  # type: ignore[arg-type]


def line_of(node: fx.Node) -> str:
    """Return ``file:line`` of the author's that made a node."""
    found = _LINE.findall(node.meta.get("stack_trace") or "")
    return f"{found[-1][0]}:{found[-1][1]}" if found else ""


__all__ = ["ASSIGN", "DETACH", "line_of", "write", "written_to"]
