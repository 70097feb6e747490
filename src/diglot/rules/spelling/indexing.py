"""Subscripts, gathers and masks."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import call, to_ast
from diglot.rules.forms import subscript
from diglot.rules.indexing import _select, _slice
from diglot.rules.spelling import alike

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _index(op: OpCall) -> ast.expr:
    """``x[i]``, ``x[:, i]``, ``x[i, j]`` with index tensors."""
    indices = list(op["indices"])
    items = [ast.Slice() if i is None else op.value(i) for i in indices]
    if len(items) == 1:
        return ast.Subscript(op.expr("self"), items[0], ast.Load())
    return ast.Subscript(op.expr("self"), ast.Tuple(items, ast.Load()), ast.Load())


def _index_select(op: OpCall) -> ast.expr:
    return subscript(op.expr("self"), op.axis(op["dim"]), op.fake("self").dim(), op.expr("index"))


def _masked_fill(op: OpCall) -> ast.expr:
    filled = ast.Attribute(op.expr("self"), "masked_fill", ast.Load())
    return call(filled, op.expr("mask"), op.expr("value"))


alike("select.int", _select)
alike("slice.Tensor", _slice)
alike("index.Tensor", _index)
alike("index_select", _index_select)
alike("masked_fill.Scalar masked_fill.Tensor", _masked_fill)
alike(
    "where.self where.ScalarOther where.ScalarSelf where.Scalar",
    "torch.where(condition, self, other)",
)


def _tensordot(op: OpCall) -> ast.expr:
    dims = (list(op["dims_self"]), list(op["dims_other"]))
    return call("torch.tensordot", op.expr("self"), op.expr("other"), dims=dims)


def _index_put(op: OpCall) -> ast.expr:
    """A number in place of values is a tensor, as the function wants one."""
    values = op.expr("values")
    if isinstance(values, ast.Constant):
        values = call("torch.tensor", values)
    places = ast.Tuple(
        [to_ast(None) if i is None else op.value(i) for i in op["indices"]], ast.Load()
    )
    more = {"accumulate": True} if op.get("accumulate", False) else {}
    return call(ast.Attribute(op.expr("self"), "index_put", ast.Load()), places, values, **more)


alike("tensordot", _tensordot)
alike("index_put", _index_put)
alike("one_hot", "F.one_hot(self, num_classes)")
