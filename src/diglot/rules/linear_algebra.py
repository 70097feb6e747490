"""Products of matrices and vectors; triangles of matrices."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, to_ast
from diglot.rules.forms import operand
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _product(first: str, second: str):
    """``ops.matmul(x, y)``."""

    def emit(op: OpCall) -> ast.expr:
        dtype = op.fake().dtype
        return op.ops("matmul", operand(op, first, dtype), operand(op, second, dtype))

    return emit


def _einsum(op: OpCall) -> ast.expr:
    equation = op["equation"].replace(" ", "")
    dtype = op.fake().dtype
    if any(t.meta["val"].dtype != dtype for t in op["tensors"]):
        raise op.refuse("einsum of tensors of different dtypes; cast them first")
    return op.ops("einsum", equation, *(op.value(t) for t in op["tensors"]))


def _baddbmm(op: OpCall) -> ast.expr:
    """``beta * input + alpha * (batch1 @ batch2)``."""
    made = op.ops("matmul", op.expr("batch1"), op.expr("batch2"))
    if op.get("alpha", 1) != 1:
        made = E("a * y", a=op["alpha"], y=made)
    beta = op.get("beta", 1)
    if beta == 0:
        return made
    x = op.expr("self")
    return E("x + y", x=x if beta == 1 else E("b * x", b=beta, x=x), y=made)


def _tensordot(op: OpCall) -> ast.expr:
    axes = [list(op["dims_self"]), list(op["dims_other"])]
    return op.ops("tensordot", op.expr("self"), op.expr("other"), axes=to_ast(axes))


def _cross(op: OpCall) -> ast.expr:
    axis = op.axis(op.get("dim", -1))
    return op.ops("cross", op.expr("self"), op.expr("other"), axis=... if axis == -1 else axis)


def _tri(name: str):
    def emit(op: OpCall) -> ast.expr:
        diagonal = op.get("diagonal", 0)
        return op.ops(name, op.expr("self"), k=diagonal or ...)

    return emit


_X = {"x": "2,3,5"}
_PAIR = {"x": "2,3,5", "y": "2,5,4"}

register(
    __name__,
    Rule(
        "aten.matmul.default",
        _product("self", "other"),
        torch="x @ y",
        noun="x",
        layout="logical",
        samples=(
            Sample("x @ y", _PAIR),
            Sample("x @ y", {"x": "2,3,5", "y": "5,4"}),
            Sample("x @ y", {"x": "2,3,5", "y": "5"}),
            Sample("x @ y", {"x": "5", "y": "2,5,3"}),
            Sample("x @ y", {"x": "2,1,3,5", "y": "4,5,2"}),
            Sample("x @ y", {"x": "5", "y": "5"}),
            Sample("x @ y", {"x": "2,3", "y": "3,4"}),
        ),
    ),
    Rule(
        "aten.mm.default",
        _product("self", "mat2"),
        torch="torch.mm(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.mm(x, y)", {"x": "2,3", "y": "3,5"}),),
    ),
    Rule(
        "aten.bmm.default",
        _product("self", "mat2"),
        torch="torch.bmm(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.bmm(x, y)", _PAIR),),
    ),
    Rule(
        "aten.mv.default",
        _product("self", "vec"),
        torch="torch.mv(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.mv(x, y)", {"x": "2,3", "y": "3"}),),
    ),
    Rule(
        "aten.baddbmm.default",
        _baddbmm,
        torch="torch.baddbmm(b, x, y)",
        noun="x",
        layout="logical",
        samples=(
            Sample("torch.baddbmm(b, x, y)", {**_PAIR, "b": "2,3,4"}),
            Sample("torch.baddbmm(b, x, y, beta=0.5, alpha=0.3)", {**_PAIR, "b": "2,3,4"}),
        ),
    ),
    Rule(
        "aten.dot.default",
        "ops.dot(self, tensor)",
        torch="torch.dot(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.dot(x, y)", {"x": "5", "y": "5"}),),
    ),
    Rule(
        "aten.inner.default",
        "ops.inner(self, other)",
        torch="torch.inner(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.inner(x, y)", {"x": "2,5", "y": "3,5"}),),
    ),
    Rule(
        "aten.outer.default",
        "ops.outer(self, vec2)",
        torch="torch.outer(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.outer(x, y)", {"x": "3", "y": "5"}),),
    ),
    Rule(
        "aten.ger.default",
        "ops.outer(self, vec2)",
        torch="torch.ger(x, y)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.ger(x, y)", {"x": "3", "y": "5"}),),
    ),
    Rule(
        "aten.einsum.default",
        _einsum,
        torch='torch.einsum("bij,bjk->bik", x, y)',
        noun="x",
        layout="logical",
        samples=(
            Sample('torch.einsum("bij,bjk->bik", x, y)', _PAIR),
            Sample('torch.einsum("bij, bjk -> ik", x, y)', _PAIR),
            Sample('torch.einsum("...ij,...jk->...ik", x, y)', _PAIR),
            Sample('torch.einsum("ij,jk", x, y)', {"x": "2,3", "y": "3,5"}),
            Sample('torch.einsum("i,d->id", x, y)', {"x": "3", "y": "5"}),
        ),
    ),
    Rule(
        "aten.tensordot.default",
        _tensordot,
        torch="torch.tensordot(x, y, dims=1)",
        noun="x",
        layout="logical",
        samples=(
            Sample("torch.tensordot(x, y, dims=([1, 2], [0, 1]))", {"x": "2,3,5", "y": "3,5,4"}),
        ),
    ),
    Rule(
        "aten.cross.default",
        _cross,
        torch="torch.cross(x, y, dim=-1)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.cross(x, y, dim=-1)", {"x": "2,3", "y": "2,3"}),),
    ),
    Rule(
        "aten.linalg_cross.default",
        _cross,
        torch="torch.linalg.cross(x, y)",
        noun="x",
        layout="logical",
        samples=(
            Sample("torch.linalg.cross(x, y)", {"x": "2,3", "y": "2,3"}),
            Sample("torch.linalg.cross(x, y, dim=1)", {"x": "2,3,5", "y": "2,3,5"}),
        ),
    ),
    Rule(
        "aten.trace.default",
        "ops.trace(self)",
        torch="torch.trace(x)",
        noun="x",
        layout="logical",
        samples=(Sample("torch.trace(x)", {"x": "3,5"}),),
    ),
    Rule(
        "aten.tril.default",
        _tri("tril"),
        torch="x.tril()",
        noun="x",
        layout="logical",
        samples=(
            Sample("x.tril()", _X),
            Sample("x.tril(-1)", _X),
            Sample("x.tril(1)", {"x": "bool[3,4]"}),
        ),
    ),
    Rule(
        "aten.triu.default",
        _tri("triu"),
        torch="x.triu()",
        noun="x",
        layout="logical",
        samples=(
            Sample("x.triu()", _X),
            Sample("x.triu(diagonal=1)", _X),
            Sample("x.triu(1)", {"x": "int64[3,4]<5"}),
        ),
    ),
)
