"""Drop what only torch needs: checks, copies, device moves, counters."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call, is_mark, target_name, through_marks
from diglot.ir.sizes import size_of
from diglot.passes.living import living

_CHECKS = {
    "aten._assert_tensor_metadata.default",
    "aten._assert_scalar.default",
    "aten._assert_async.msg",
    "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default",
    "aten._check_index.default",
}
#: Ops that return their first input when shape and dtype stay the same.
_IDENTITIES = {
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.detach_.default",
    "aten.lift_fresh_copy.default",
    "aten.lift_fresh.default",
    "aten._to_copy.default",
    "aten.to.dtype",
    "aten.to.device",
    "aten.to.dtype_layout",
    "aten.to.prim_dtype",
    "aten.to.prim_other",
    "aten.to.other",
    "aten.to.prim_Device",
    "aten.type_as.default",
    "aten.resolve_conj.default",
    "aten.resolve_neg.default",
    "aten.expand_as.default",
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.view_as.default",
    "aten.reshape_as.default",
    "aten.expand.default",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.slice.Tensor",
    "aten.dropout.default",
    "aten.dropout_.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.permute.default",
    "aten.movedim.int",
    "aten.movedim.intlist",
    "aten.positive.default",
    "aten.real.default",
    "aten.constant_pad_nd.default",
    "aten.pad.default",
}


_PERMUTES = {"aten.permute.default"}
_NEW = {"aten.unsqueeze.default"}
_RESHAPES = {"aten.view.default", "aten.reshape.default", "aten.flatten.using_ints"}
_TAKES = {"aten.select.int", "aten.squeeze.dim", "aten.squeeze.dims"}
_VIEWS = {"aten.unsqueeze.default", "aten.view.default", "aten.expand.default"}
_SCALES = {"aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar"}
#: Ops on truths that return what they are given, where that is the same twice.
_JOINS = {
    f"aten.{name}"
    for name in (
        "logical_and.default",
        "logical_or.default",
        "bitwise_and.Tensor",
        "bitwise_or.Tensor",
        "__and__.Tensor",
        "__or__.Tensor",
    )
}


def drop_checks(hub: Hub) -> None:
    """Remove assertions, and updates of ``num_batches_tracked``, which no computation reads."""
    for node in reversed(list(hub.graph.nodes)):
        if node.op != "call_function":
            continue
        name = target_name(node)
        if name in _CHECKS and not node.users:
            hub.graph.erase_node(node)
        elif (
            name in ("aten.add_.Tensor", "aten.add.Tensor", "aten.copy_.default") and not node.users
        ):
            first = node.args[0]
            while _counts_on(first):  # a module that is called twice counts on from its own count
                first = first.args[0]
            if first in hub.parameters and hub.parameters[first].name.endswith(
                "num_batches_tracked"
            ):
                hub.graph.erase_node(node)


def _counts_on(node: fx.Node) -> bool:
    return node.op == "call_function" and target_name(node) in (
        "aten.add_.Tensor",
        "aten.add.Tensor",
    )


def same_value(node: fx.Node, source: object) -> bool:
    """Tell whether a node's operand already has its shape and dtype (another one may broadcast or promote it)."""
    ours = node.meta.get("val")
    theirs = source.meta.get("val") if isinstance(source, fx.Node) else None
    if not isinstance(ours, torch.Tensor) or not isinstance(theirs, torch.Tensor):
        return False
    if ours.dtype != theirs.dtype or ours.dim() != theirs.dim():
        return False
    return all(_equal(a, b) for a, b in zip(ours.shape, theirs.shape, strict=True))


def _equal(a: int | torch.SymInt, b: int | torch.SymInt) -> bool:
    """Compare two sizes without adding a guard."""
    return bool(size_of(a) == size_of(b))


def is_identity(node: fx.Node) -> bool:
    """Tell whether a node returns its first argument unchanged."""
    if (
        node.op != "call_function"
        or is_mark(node)
        or not node.args
        or not isinstance(node.args[0], fx.Node)
    ):
        return False
    name = target_name(node)
    if name in _JOINS:
        return same_value(node, node.args[0]) and is_same(node.args[0], node.args[1])
    if name not in _IDENTITIES or not same_value(node, node.args[0]):
        return False
    if name.startswith(("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout")):
        return len(node.args) < 3 or node.args[1] == 0.0 or not node.args[2]
    if "permute" in name:
        return list(node.args[1]) == list(range(len(node.args[1])))
    if "movedim" in name:
        return False
    if "pad" in name:
        return all(p == 0 for p in node.args[1])
    if "slice" in name:
        step = node.args[4] if len(node.args) > 4 else 1
        return step == 1
    return True


def is_same(a: Any, b: Any, depth: int = 3) -> bool:
    """Tell whether two arguments are one value: one node, or the same op on the same (views of masks, say)."""
    if not isinstance(a, fx.Node) or not isinstance(b, fx.Node):
        return type(a) is type(b) and a == b
    a, b = through_marks(a), through_marks(b)
    if a is b or depth == 0:
        return a is b
    return (
        a.op == b.op == "call_function"
        and a.target is b.target
        and target_name(a) in _VIEWS
        and len(a.args) == len(b.args)
        and not a.kwargs
        and not b.kwargs
        and all(is_same(x, y, depth - 1) for x, y in zip(a.args, b.args, strict=True))
    )


def drop_identities(hub: Hub) -> None:
    """Replace every identity by its input, and what is negated or turned there and back by itself.

    ``detach`` stays where a gradient would flow through it.
    """
    for node in list(hub.graph.nodes):
        if _is_not(node) and _is_not(node.args[0]):
            node.replace_all_uses_with(node.args[0].args[0])
            hub.graph.erase_node(node)
        if (is_call(node, _PERMUTES) and _turns_back(node)) or _takes_back(node):
            node.replace_all_uses_with(node.args[0].args[0])
            hub.graph.erase_node(node)
            continue
        if not is_identity(node) and not _is_times_one(hub, node):
            continue
        if "detach" in target_name(node) and _carries_gradient(hub, node.args[0]):
            continue
        node.replace_all_uses_with(node.args[0])
        hub.graph.erase_node(node)


def _is_times_one(hub: Hub, node: fx.Node) -> bool:
    """Whether a value is multiplied or divided by 1, which graphs do where an option was left as it is."""
    if not is_call(node, _SCALES) or not same_value(node, node.args[0]) or len(node.args) != 2:
        return False
    factor = node.args[1]
    if isinstance(factor, fx.Node):
        held = hub.constants.get(factor)
        return held is not None and held.dim() == 0 and bool(held == 1)
    return isinstance(factor, (int, float)) and factor == 1


def _takes_back(node: fx.Node) -> bool:
    """Whether an axis is taken away that was just added (``x.unsqueeze(1)[:, 0]``), or added that was taken away."""
    if is_call(node, _NEW) and is_call(node.args[0], {"aten.squeeze.dim"}):
        source, gone = node.args[0].args  # type: ignore[union-attr]
        rank = node.meta["val"].dim()
        return gone % rank == node.args[1] % rank and source.meta["val"].shape[gone] == 1
    if is_call(node, _RESHAPES) and is_call(node.args[0], _NEW):
        return same_value(node, node.args[0].args[0])  # type: ignore[union-attr]
    if not is_call(node, _TAKES) or not is_call(node.args[0], _NEW):
        return False
    added, taken = node.args[0].args[1], node.args[1]  # type: ignore[union-attr]
    if isinstance(taken, (list, tuple)):
        taken = taken[0] if len(taken) == 1 else None
    rank = node.meta["val"].dim() + 1
    return taken is not None and added % rank == taken % rank


def _turns_back(node: fx.Node) -> bool:
    """Whether axes are turned that were just turned the other way."""
    first = node.args[0]
    if not is_call(first, _PERMUTES) or not isinstance(first, fx.Node):
        return False
    once, again = first.args[1], node.args[1]
    return [once[axis] for axis in again] == list(range(len(once)))  # type: ignore[arg-type, index, union-attr]


def _is_not(node: Any) -> bool:
    """Whether a node is ``~mask``; twice is the mask itself."""
    return (
        isinstance(node, fx.Node)
        and node.op == "call_function"
        and target_name(node) in ("aten.logical_not.default", "aten.bitwise_not.default")
        and isinstance(node.args[0], fx.Node)
        and node.args[0].meta["val"].dtype is torch.bool
    )


def _carries_gradient(hub: Hub, node: fx.Node) -> bool:
    """Tell whether a trainable weight or a floating-point input can reach a node."""
    seen, stack = set(), [node]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in hub.parameters and hub.parameters[current].trainable:
            return True
        if current in hub.inputs and current.meta["val"].dtype.is_floating_point:
            return True
        stack.extend(current.all_input_nodes)
    return False


def drop_dead(hub: Hub) -> None:
    """Remove nodes whose values nobody reads (placeholders stay).

    What is written although nobody reads it stays: see :mod:`diglot.passes.living`.
    """
    alive = living(hub)
    for node in reversed(list(hub.graph.nodes)):
        if node.op == "call_function" and node not in alive:
            hub.graph.erase_node(node)
