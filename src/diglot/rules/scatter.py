"""Writing several values along an axis, each to a place of its own."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E
from diglot.ir.hub import target_name
from diglot.rules.forms import choose

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def scatter_several(op: OpCall, dim: int, size: int) -> ast.expr:
    """Several values along the axis, such as the gates of the best experts, each at a place of its own.

    Where two values fall on one place PyTorch leaves open which of them stays.
    """
    hot = E(
        "ops.one_hot(i, n, axis=a, dtype=d)",
        i=op.variable("index"),
        n=size,
        a=dim,
        d=op.dtype_ast(None),
    )
    if op.logical_shape("src") != op.logical_shape("index"):
        raise op.refuse("scatter of a source that is larger than its index")
    values = E(
        "ops.sum(h * ops.expand_dims(v, a), axis=b)", h=hot, v=op.expr("src"), a=dim, b=dim + 1
    )
    if _is_zero(op["self"], op):
        return values
    hot = E(
        "ops.any(ops.one_hot(i, n, axis=a, dtype='bool'), axis=b)",
        i=op.expr("index"),
        n=size,
        a=dim,
        b=dim + 1,
    )
    return choose(hot, values, op.expr("self"))


def _is_zero(node: Any, op: OpCall) -> bool:
    """Tell whether a tensor is filled with zeros."""
    constants = op.writer.program.hub.constants
    if node in constants:
        return not constants[node].any()
    return target_name(node) in (
        "aten.zeros.default",
        "aten.zeros_like.default",
        "aten.new_zeros.default",
    )
