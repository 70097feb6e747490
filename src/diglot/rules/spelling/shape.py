"""Shapes. As in Keras, the layout pass decides what each becomes; here it is only written."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.hub import is_mark, target_name
from diglot.rules.shape import _BROADCASTS, _only_broadcast
from diglot.rules.spelling import alike

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall


def _method(x: ast.expr, name: str, *args: object, **kwargs: object) -> ast.expr:
    return call(ast.Attribute(x, name, ast.Load()), *args, **kwargs)


def _reshape(op: OpCall) -> ast.expr:
    return _reshaped(op, op.expr("self"))


def _reshaped(op: OpCall, x: ast.expr) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    if before == after:
        return x
    if len(after) == len(before) + 1:
        for axis in range(len(after)):
            if after[axis] == 1 and before == (*after[:axis], *after[axis + 1 :]):
                return _method(x, "unsqueeze", axis if axis < len(before) else -1)
    if (items := _with_new_axes(before, after)) is not None:
        if items[0] is None and _others_fix_rank(op.node, len(after)):
            items = items[next(i for i, item in enumerate(items) if item is not None) :]
        return _subscript(x, items)
    if len(after) == 2 and len(before) > 2 and after[0] == before[0]:
        return _method(x, "flatten", 1)
    if (merged := _one_for_several(before, after)) is not None:
        first, last = merged
        return _method(x, "flatten", first, *([last] if last < len(before) - 1 else []))
    if (split := _one_for_several(after, before)) is not None:
        first, last = split
        parts = after[first : last + 1]
        if all(isinstance(size, int) and size > 1 for size in parts):
            return _method(x, "unflatten", first if last < len(after) - 1 else -1, tuple(parts))
    return _method(x, "reshape", *op.shape_ast(after).elts)  # type: ignore[attr-defined]


def _with_new_axes(before: tuple, after: tuple) -> list[str | None] | None:
    """The axes of a shape that is another one with several axes of size 1 put in: ``None`` for those, else ``":"``."""
    if not before or len(after) < len(before) + 2 or 1 in before:
        return None
    items: list[str | None] = [None if size == 1 else ":" for size in after]
    return items if tuple(size for size in after if size != 1) == before else None


def _subscript(x: ast.expr, items: list[str | None]) -> ast.expr:
    """``x[:, None, None]``; ``x[..., None, None]`` where several axes come first."""
    lead = next((i for i, item in enumerate(items) if item is None), len(items))
    index: list[ast.expr] = [ast.Constant(None) if i is None else ast.Slice() for i in items]
    if lead > 1 and not any(items[lead:]):
        index[:lead] = [ast.Constant(...)]
    return ast.Subscript(x, ast.Tuple(index, ast.Load()), ast.Load())


def _others_fix_rank(node: fx.Node, rank: int) -> bool:
    """Tell whether every reader has another operand of so many axes, to which a value of fewer is broadcast."""
    return bool(node.users) and all(
        user.op == "call_function"
        and not is_mark(user)
        and target_name(user).startswith(_BROADCASTS)
        and any(
            getattr(other.meta.get("val"), "ndim", 0) >= rank
            for other in user.all_input_nodes
            if other is not node
        )
        for user in node.users
    )


def _one_for_several(many: tuple, few: tuple) -> tuple[int, int] | None:
    """The first and last of the axes of one shape that are one axis in another, all else being the same."""
    count = len(many) - len(few) + 1
    if count < 2:
        return None
    for first in range(len(few)):
        last = first + count - 1
        rest = (*many[:first], *many[last + 1 :])
        if rest == (*few[:first], *few[first + 1 :]):
            parts = many[first : last + 1]
            if 1 not in parts and math.prod(parts) == few[first]:
                return first, last
    return None


def _is_normalised(node: fx.Node) -> bool:
    """Tell whether a value is what a batch norm gave, but for functions of each number."""

    while not target_name(node).startswith("aten.batch_norm"):
        tensors = [n for n in node.all_input_nodes if hasattr(n.meta.get("val"), "dim")]
        if len(tensors) != 1 or tensors[0].meta["val"].dim() != node.meta["val"].dim():
            return False
        node = tensors[0]
    return True


def _squeeze(op: OpCall) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    x = op.expr("self")
    if before == after:
        return x
    gone = [
        a for a in range(len(before)) if before[a] == 1 and before[:a] + before[a + 1 :] == after
    ]
    if gone and gone[-1] == len(before) - 1 > 2 and _is_normalised(op.args["self"]):
        # `y.squeeze(-1).transpose(1, 2)` hands a gradient of such strides back that PyTorch 2.13's batch norm reads
        # wrongly on a CPU.
        return _method(x, "flatten", -2)
    if len(before) == len(after) + 1 and gone:
        return _method(x, "squeeze", gone[-1] if gone[-1] < len(before) - 1 else -1)
    return _reshaped(op, x)


def _permute(op: OpCall) -> ast.expr:
    from diglot.passes.layout.perms import permuted_dims

    x = op.expr("self")
    if op.node.meta.get("free"):
        return x
    dims = permuted_dims(op.node, op.fake("self").dim())
    rank = len(dims)
    moved = [i for i, d in enumerate(dims) if i != d]
    if not moved:
        return x
    if rank == 2:
        return E("x.T", x=x)
    if len(moved) == 2:
        first, second = moved
        return _method(
            x, "transpose", *((-2, -1) if second == rank - 1 == first + 1 else (first, second))
        )
    return _method(x, "permute", *dims)


def _relayout(op: OpCall) -> ast.expr:
    value, axes = op.node.args
    moved = [i for i, a in enumerate(axes) if i != a]  # type: ignore[arg-type]
    x = op.value(value)
    if len(moved) == 2:
        return _method(x, "transpose", *moved)
    return _method(x, "permute", *axes)  # type: ignore[misc]


def _expand(op: OpCall) -> ast.expr:
    before, after = op.shape("self"), op.shape()
    x = op.expr("self")
    if before == after or _only_broadcast(op.node):
        return x
    lead = len(after) - len(before)
    kept = [i >= lead and before[i - lead] == size for i, size in enumerate(after)]
    return _method(
        x, "expand", *(-1 if k else op.size(s) for k, s in zip(kept, after, strict=True))
    )


def _flatten_layer(op: OpCall) -> ast.expr | None:
    before, after = op.shape("self"), op.shape()
    if len(after) == 2 and after[0] == before[0] and len(before) > 2:
        return E("nn.Flatten()")
    if after[0] == before[0] and len(before) == 2:
        return E("nn.Unflatten(1, shape)", shape=to_ast(tuple(op.size(s) for s in after[1:])))
    return None


_RESHAPES = (
    "view reshape _unsafe_view view_as reshape_as unflatten.int flatten.using_ints unsqueeze"
)
alike(_RESHAPES, _reshape, _flatten_layer)
alike("squeeze.dim squeeze.dims squeeze", _squeeze)
alike("permute transpose.int t movedim.int movedim.intlist swapaxes swapdims mT numpy_T", _permute)
alike("expand expand_as broadcast_to", _expand)
alike("diglot.passes.layout.assign.relayout", _relayout)
