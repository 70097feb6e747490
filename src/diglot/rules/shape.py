"""Shapes: reshape, permute, squeeze. The layout pass decides what each becomes; here it is only written."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static
from diglot.rules.as_layers import permute
from diglot.rules.registry import Rule, Sample, register, same

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall


def _reshape(op: OpCall) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    if before == after:
        return op.expr("self")
    x = op.expr("self")
    new = _new_axes(before, after)
    if new is not None:
        return E("x[i]", x=x, i=new)
    return E("ops.reshape(x, shape)", x=x, shape=op.shape_ast(after))


def _new_axes(before: tuple, after: tuple) -> ast.expr | None:
    """Return ``[:, None, None, :]`` where a reshape only puts in axes of size 1."""
    if len(after) <= len(before):
        return None
    items: list[ast.expr] = []
    rest = list(before)
    for size in after:
        if rest and rest[0] == size:
            items.append(ast.Slice())
            rest.pop(0)
        elif size == 1:
            items.append(ast.Constant(None))
        else:
            return None
    if rest:
        return None
    while items and isinstance(items[-1], ast.Slice):
        items.pop()
    lead = [i for i in items if isinstance(i, ast.Slice)]
    if (
        len(lead) >= 2
        and all(isinstance(i, ast.Constant) for i in items[len(lead) :])
        and len(items) - len(lead) == 1
    ):
        if all(isinstance(i, ast.Slice) for i in items[: len(lead)]) and len(lead) == len(before):
            return ast.Tuple([ast.Constant(...), ast.Constant(None)], ast.Load())
    return ast.Tuple(items, ast.Load()) if len(items) > 1 else items[0]


def _permute(op: OpCall) -> ast.expr:
    from diglot.passes.layout.perms import permuted_dims

    if op.node.meta.get("free"):
        return op.expr("self")
    dims = permuted_dims(op.node, op.fake("self").dim())
    if dims == list(range(len(dims))):
        return op.expr("self")
    if dims == list(range(len(dims)))[::-1] and len(dims) == 2:
        return E("ops.transpose(x)", x=op.expr("self"))
    swapped = [i for i, d in enumerate(dims) if i != d]
    if len(swapped) == 2 and swapped[1] == len(dims) - 1 and swapped[0] == len(dims) - 2:
        return E("ops.swapaxes(x, -2, -1)", x=op.expr("self"))
    return E("ops.transpose(x, dims)", x=op.expr("self"), dims=tuple(dims))


def _permute_layer(op: OpCall) -> ast.expr:
    from diglot.passes.layout.perms import permuted_dims

    return permute(op, permuted_dims(op.node, op.fake("self").dim()))


def _relayout_layer(op: OpCall) -> ast.expr:
    return permute(op, list(op.node.args[1]))


def _relayout(op: OpCall) -> ast.expr:
    value, axes = op.node.args
    source = op.value(value)
    shape = op.shape()
    rank = len(shape)
    old = value.meta.get("layout") or tuple(range(rank))
    before = tuple(op.logical_shape()[p] for p in old)
    heavy = [s for s in before if s != 1]
    if [s for s in shape if s != 1] == heavy and [a for a in axes if before[a] != 1] == sorted(
        a for a in axes if before[a] != 1
    ):
        return E("ops.reshape(x, shape)", x=source, shape=op.shape_ast(shape))
    return E("ops.transpose(x, axes)", x=source, axes=tuple(axes))


def _expand(op: OpCall) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    if before == after or _only_broadcast(op.node):
        return op.expr("self")
    return E(
        "ops.broadcast_to(x, shape)", x=op.expr("self"), shape=op.shape_ast(after, minus_one=False)
    )


_BROADCASTS = (
    "aten.add", "aten.sub", "aten.mul", "aten.div", "aten.where", "aten.masked_fill", "aten.__and__",
    "aten.bitwise_and", "aten.logical_and",
)  # fmt: skip


def _only_broadcast(node: fx.Node) -> bool:
    """Tell whether every reader broadcasts by itself to a shape that another operand fixes."""
    from diglot.ir.hub import is_mark, target_name
    from diglot.ir.sizes import shape_of

    shape = shape_of(node.meta["val"])
    for user in node.users:
        if (
            is_mark(user)
            or user.op != "call_function"
            or not target_name(user).startswith(_BROADCASTS)
        ):
            return False
        others = [a for a in user.all_input_nodes if a is not node]
        if not any(
            shape_of(o.meta["val"])[-len(shape) :] == shape
            for o in others
            if "val" in o.meta and hasattr(o.meta["val"], "shape")
        ):
            return False
    return bool(node.users)


def _flatten_layer(op: OpCall) -> ast.expr:
    after = op.shape()
    if len(after) == 2 and op.get("start_dim", 0) == 1:
        return E("layers.Flatten()")
    return _reshape_layer(op)


def _reshape_layer(op: OpCall) -> ast.expr:
    after = op.shape()
    if is_static(after[0]) or not all(is_static(s) for s in after[1:]):
        return call("layers.Reshape", tuple(s if is_static(s) else -1 for s in after[1:]))
    return call("layers.Reshape", tuple(after[1:]))


def _unsqueeze(op: OpCall) -> ast.expr:
    return _reshape(op)


def _squeeze(op: OpCall) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    if before == after:
        return op.expr("self")
    gone = op.get("dim")
    rank = len(before)
    dims = [d % rank for d in ([gone] if isinstance(gone, int) else gone or range(rank))]
    logical = op.logical_shape("self")
    axes = [op.axis(d) for d in dims if logical[d] == 1]
    if not axes:
        return op.expr("self")
    return E(
        "ops.squeeze(x, axis=a)",
        x=op.expr("self"),
        a=to_ast(axes[0] if len(axes) == 1 else tuple(sorted(axes))),
    )


register(
    __name__,
    *same(
        "aten.view.default aten.reshape.default aten._unsafe_view.default aten.view_as.default aten.reshape_as.default "
        "aten.unflatten.int",
        keras=_reshape, torch="x.reshape(shape)", layout="reshape", layer=_reshape_layer, noun="x",
        samples=(
            Sample("x.reshape(x.shape[0], 4, 3)", {"x": "2,12"}),
            Sample("x.reshape(x.shape[0], -1)", {"x": "3,4,5"}, channels_last=False),
        ),
    ),
    Rule(
        "aten.flatten.using_ints", _reshape, torch="torch.flatten(x, start_dim)", layout="reshape",
        layer=_flatten_layer, noun="x", topic="Flatten",
        note="PyTorch flattens C, H, W and Keras H, W, C: the next Dense takes its rows in Keras's order",
        samples=(Sample("torch.flatten(x, 1)", {"x": "2,3,4,5"}),),
    ),
    *same(
        "aten.unsqueeze.default", keras=_unsqueeze, torch="x.unsqueeze(dim)", layout="reshape", noun="x",
        samples=(Sample("x.unsqueeze(1)", {"x": "2,3"}), Sample("x.unsqueeze(-1)", {"x": "2,3,5"})),
    ),
    *same(
        "aten.squeeze.dim aten.squeeze.dims aten.squeeze.default", keras=_squeeze, torch="x.squeeze(dim)",
        layout="reshape", noun="x", samples=(Sample("x.squeeze(1)", {"x": "2,1,3"}),),
    ),
    *same(
        "aten.permute.default aten.transpose.int aten.t.default aten.movedim.int aten.movedim.intlist "
        "aten.swapaxes.default aten.swapdims.default aten.mT.default aten.numpy_T.default",
        keras=_permute, torch="x.permute(dims)", layout="permute", layer=_permute_layer, noun="x",
        samples=(
            Sample("x.permute(0, 2, 1)", {"x": "2,3,5"}),
            Sample("x.transpose(1, 2)", {"x": "2,3,5,7"}),
            Sample("x.transpose(-2, -1)", {"x": "2,3,5"}),
        ),
    ),
    *same(
        "aten.expand.default aten.expand_as.default aten.broadcast_to.default", keras=_expand,
        torch="x.expand(sizes)", layout="logical", noun="x",
        samples=(Sample("x.expand(-1, 4, -1) * 1.0", {"x": "2,1,3"}),),
    ),
    Rule(
        "diglot.passes.layout.assign.relayout", _relayout, layout="permute", layer=_relayout_layer, noun="x"
    ),
)  # fmt: skip
