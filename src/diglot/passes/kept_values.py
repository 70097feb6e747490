"""What a buffer or a weight keeps after a call: of a mode that changes it, and without the gradients of that call.

Before (a kernel that training alone changes, which Keras has in another order of axes)::

    assign(weight, permute(by_mode(kernel, permute(weight, [1, 0])), [1, 0]))

After::

    assign(weight, by_mode(permute(kernel, [1, 0]), weight))

Before (``self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, 0))`` of a Keras layer)::

    mean = 0.9 * self.mean + 0.1 * x.mean(0);  assign(self.mean, mean)

After::

    mean = (0.9 * self.mean + 0.1 * x.mean(0)).detach();  assign(self.mean, mean)

A PyTorch buffer that held a value with its gradient would keep the whole call that made it, and the next backward pass
would go through it again. Requires: nothing. Ensures: the same function and gradients within one call.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import ASSIGN, Hub, is_call
from diglot.passes.by_mode import BY_MODE
from diglot.passes.layout.perms import permuted_dims
from diglot.passes.views import DETACH

_TURNS = {"aten.permute.default", "aten.transpose.int", "aten.t.default"}


def turn_choices(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        turned = node.args[1] if is_call(node, {ASSIGN}) else None
        if not is_call(turned, _TURNS) or not is_call(turned.args[0], {BY_MODE}):  # type: ignore[union-attr]
            continue
        held, choice = node.args[0], turned.args[0]  # type: ignore[union-attr]
        new, old = choice.args  # type: ignore[union-attr]
        rank = held.meta["val"].dim()  # type: ignore[union-attr]
        if not is_call(old, _TURNS) or old.args[0] is not held or len(choice.users) > 1:  # type: ignore[union-attr]
            continue
        there, back = permuted_dims(old, rank), permuted_dims(turned, rank)  # type: ignore[arg-type]
        if [there[axis] for axis in back] != list(range(rank)):
            continue
        with hub.graph.inserting_after(choice):  # type: ignore[arg-type]
            again = hub.graph.node_copy(
                turned, lambda n, new=new, choice=choice: new if n is choice else n
            )  # type: ignore[arg-type, misc]
        again.meta = {**choice.meta, "val": held.meta["val"]}  # type: ignore[union-attr]
        choice.args = (again, held)  # type: ignore[union-attr]
        choice.meta["val"] = held.meta["val"]  # type: ignore[union-attr]
        choice.prepend(again)  # type: ignore[union-attr]
        turned.replace_all_uses_with(choice)  # type: ignore[union-attr, arg-type]


def detach(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if is_call(node, {ASSIGN}) and hub.parameters[node.args[0]].buffer:  # type: ignore[index]
            _detach(hub, node, 1)


def _detach(hub: Hub, node: fx.Node, place: int) -> None:
    value = node.args[place]
    if not isinstance(value, fx.Node) or not _carries_gradient(hub, value):
        return
    if is_call(value, {BY_MODE}) and len(value.users) == 1:  # what one mode alone computes
        _detach(hub, value, 0)
        _detach(hub, value, 1)
        return
    with hub.graph.inserting_after(value):
        made = hub.graph.call_function(torch.ops.aten.detach.default, (value,))
    made.meta = dict(value.meta)
    node.update_arg(place, made)
    for other in list(value.users):
        if other is not made and is_call(other, {DETACH}):
            other.replace_all_uses_with(made)
            hub.graph.erase_node(other)


def _carries_gradient(hub: Hub, value: fx.Node) -> bool:
    """Tell whether a trained weight or a float input reaches a value with its gradient."""
    seen: set[fx.Node] = set()
    stack = [value]
    while stack:
        node = stack.pop()
        if node in seen or is_call(node, {DETACH}) or not _is_float(node):
            continue
        seen.add(node)
        trains = node in hub.parameters and hub.parameters[node].trainable
        if trains or node in hub.inputs:
            return True
        stack += node.all_input_nodes
    return False


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return not isinstance(value, torch.Tensor) or value.dtype.is_floating_point
