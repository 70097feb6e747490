"""Norms of vectors, and what is measured with them."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call
from diglot.rules.forms import axis_or_all, keepdims, operand
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}
_IMAGE = {"x": "2,3,4,5"}


def _samples(*expressions: str) -> tuple[Sample, ...]:
    return tuple(Sample(e, _X) for e in expressions)


def _norm(order: str):
    def emit(op: OpCall) -> ast.expr:
        p = op.get(order, 2)
        given = {"axis": axis_or_all(op), "keepdims": keepdims(op)}
        x = operand(op, "self", op.fake().dtype)
        if p == 2 and (isinstance(given["axis"], int) or op.fake("self").dim() == 1):
            return op.ops("norm", x, **given)
        if p == 2:  # over several axes ops.norm means matrices
            return op.ops("sqrt", op.ops("sum", op.ops("square", x), **given))
        if p == 1:
            return op.ops("sum", call("ops.abs", x), **given)
        if p in (math.inf, -math.inf):
            return op.ops("max" if p > 0 else "min", call("ops.abs", x), **given)
        if p == 0:
            return op.ops(
                "sum", call("ops.cast", E("ops.not_equal(x, 0)", x=x), op.dtype_ast(None)), **given
            )
        return call(op.helper("vector_norm"), x, p, **given)

    return emit


def _unit_length(op: OpCall) -> ast.expr:
    raise op.refuse("made for PyTorch; Keras's programs divide by the length")


def _cosine_similarity(op: OpCall) -> ast.expr:
    axis, eps = op.axis(op.get("dim", 1), "x1"), op.get("eps", 1e-8)
    if op.fake("x1").dim() != op.fake("x2").dim():
        raise op.refuse(
            "cosine_similarity of tensors with different numbers of axes; unsqueeze the smaller one"
        )
    return call(
        op.helper("cosine_similarity"),
        op.expr("x1"),
        op.expr("x2"),
        axis=... if axis == 1 else axis,
        epsilon=... if eps == 1e-8 else eps,
    )


def _pairwise_distance(op: OpCall) -> ast.expr:
    if op.get("p", 2) != 2:
        raise op.refuse("pairwise_distance with p other than 2")
    return E(
        "ops.norm(x - y + e, axis=-1)" if not op.get("keepdim") else "ops.norm(x - y + e, axis=-1, keepdims=True)",
        x=op.expr("x1"), y=op.expr("x2"), e=op.get("eps", 1e-6),
    )  # fmt: skip


def _weight_norm(op: OpCall) -> ast.expr:
    """``g * v / |v|``, the norm over all axes but one."""
    rank, dim = op.fake("v").dim(), op["dim"]
    axes = tuple(a for a in range(rank) if a != dim % rank)
    v = op.variable("v")
    return E(
        "g * v / ops.sqrt(ops.sum(ops.square(v), axis=a, keepdims=True))",
        g=op.expr("g"),
        v=v,
        a=axes,
    )


register(
    __name__,
    Rule(
        "aten.pairwise_distance.default",
        _pairwise_distance,
        torch="F.pairwise_distance(x, y)",
        noun="distance",
        layout="logical",
        samples=(
            Sample("F.pairwise_distance(x, y)", {"x": "3,5", "y": "3,5"}),
            Sample("F.pairwise_distance(x, y, keepdim=True)", {"x": "2,3,5", "y": "2,3,5"}),
        ),
    ),
    Rule(
        "aten._weight_norm.default",
        _weight_norm,
        torch="nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))",
        noun="weight",
        layout="logical",
        samples=(
            Sample("m(x)", {"x": "3,5"}, "nn.utils.parametrizations.weight_norm(nn.Linear(5, 4))"),
            Sample(
                "m(x)", {"x": "2,3,7"}, "nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 2))"
            ),
            Sample(
                "m(x)",
                {"x": "2,3,7"},
                "nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 2), dim=2)",
            ),
        ),
    ),
    Rule(
        "aten.linalg_vector_norm.default",
        _norm("ord"),
        torch="torch.linalg.vector_norm(x, dim=-1)",
        noun="norm",
        layout="axis",
        samples=(
            *_samples(
                "torch.linalg.vector_norm(x, dim=-1, keepdim=True)",
                "torch.linalg.vector_norm(x, ord=1, dim=1)",
                "torch.linalg.vector_norm(x, ord=3, dim=(0, 1))",
                "torch.linalg.vector_norm(x)",
                "torch.linalg.vector_norm(x, ord=float('inf'), dim=1)",
                "F.normalize(x, dim=1)",
            ),
            Sample("F.normalize(x, dim=1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "diglot.normalize.default",
        _unit_length,
        torch="F.normalize(x, dim=-1)",
        noun="normalized",
        layout="axis",
    ),
    Rule(
        "aten.norm.ScalarOpt_dim",
        _norm("p"),
        torch="x.norm(dim=1)",
        noun="norm",
        layout="axis",
        samples=_samples(
            "torch.ops.aten.norm.ScalarOpt_dim(x, 2, [1], True)",
            "torch.ops.aten.norm.ScalarOpt_dim(x, 1, [-1])",
        ),
    ),
    Rule(
        "aten.norm.Scalar",
        _norm("p"),
        torch="x.norm()",
        noun="norm",
        layout="axis",
        samples=_samples("torch.ops.aten.norm.Scalar(x, 2)"),
    ),
    Rule(
        "aten.cosine_similarity.default",
        _cosine_similarity,
        torch="F.cosine_similarity(x, y)",
        noun="similarity",
        layout="logical",
        samples=(
            Sample("F.cosine_similarity(x, y)", {"x": "2,3,5", "y": "2,3,5"}),
            Sample("F.cosine_similarity(x, y, dim=-1)", {"x": "2,3,5", "y": "1,3,5"}),
        ),
    ),
)
