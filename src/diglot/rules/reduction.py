"""Reductions: sums, means, extremes, norms, and running sums."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static, product
from diglot.rules.as_layers import global_pooling
from diglot.rules.forms import axis_or_all, keepdims, operand, parts, used_parts
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}
_IMAGE = {"x": "2,3,4,5"}
_INTS = {"x": "int64[2,3]<7"}


def _reduce(name: str):
    """``ops.mean(x, axis=…, keepdims=True)`` of whatever dtype PyTorch computes in."""

    def emit(op: OpCall) -> ast.expr:
        x = operand(op, "self", op.fake().dtype)
        return op.ops(name, x, axis=axis_or_all(op), keepdims=keepdims(op))

    return emit


def _select(name: str):
    """Reductions whose result has another dtype than they compute in: ``any``, ``argmax``."""

    def emit(op: OpCall) -> ast.expr:
        return op.ops(name, op.expr("self"), axis=axis_or_all(op), keepdims=keepdims(op))

    return emit


def _extreme_of_axis(name: str):
    """``values, indices = torch.max(x, dim)``: only what is read is computed."""

    def emit(op: OpCall) -> ast.expr:
        read = used_parts(op)
        x = op.variable("self") if len(read) > 1 else op.expr("self")
        given = {"axis": op.axis(op["dim"]), "keepdims": keepdims(op)}
        values = op.ops(name, x, **given)
        indices = op.ops(f"arg{name}", x, **given)
        return parts(op, values, indices)

    return emit


# --- variance ------------------------------------------------------------------------------------------


def _correction(op: OpCall) -> float:
    if "unbiased" in op.args:
        return 1 if op["unbiased"] else 0
    return op.get("correction", 1)


def _variance(op: OpCall) -> ast.expr:
    correction = _correction(op)
    given = {"axis": axis_or_all(op), "keepdims": keepdims(op)}
    if correction == 0:
        return op.ops("var", op.expr("self"), **given)
    if correction != 1:
        given["correction"] = correction
    return call(op.helper("sample_variance"), op.expr("self"), **given)


def _deviation(op: OpCall) -> ast.expr:
    if _correction(op) == 0:
        given = {"axis": axis_or_all(op), "keepdims": keepdims(op)}
        return op.ops("std", op.expr("self"), **given)
    return op.ops("sqrt", _variance(op))


def _with_mean(made: Any):
    """``var, mean = torch.var_mean(x, …)``."""

    def emit(op: OpCall) -> ast.expr:
        op.variable("self")
        mean = op.ops("mean", op.variable("self"), axis=axis_or_all(op), keepdims=keepdims(op))
        return parts(op, made(op), mean)

    return emit


def _running(name: str):
    def emit(op: OpCall) -> ast.expr:
        return op.ops(name, operand(op, "self", op.fake().dtype), axis=op.axis(op["dim"]))

    return emit


def _lower_median(op: OpCall) -> ast.expr:
    """PyTorch's median of an even count is the lower of the two in the middle."""
    shape = op.shape("self")
    if "dim" not in op.args:
        x = call("ops.sort", call("ops.reshape", op.expr("self"), (-1,)))
        return E("x[i]", x=x, i=_middle(op, product(shape)))
    if used_parts(op) != {0}:
        raise op.refuse("the indices of torch.median; use torch.sort, which returns them")
    axis = op.axis(op["dim"])
    x = call("ops.sort", op.expr("self"), axis=... if axis == -1 else axis)
    middle = call("ops.take", x, _middle(op, shape[axis]), axis=axis)
    if op.get("keepdim", False):
        middle = call("ops.expand_dims", middle, axis)
    return parts(op, middle, middle)


def _middle(op: OpCall, count: Any) -> ast.expr:
    if is_static(count):
        return to_ast((count - 1) // 2)
    return E("(n - 1) // 2", n=op.size(count))


def _samples(*expressions: str) -> tuple[Sample, ...]:
    return tuple(Sample(e, _X) for e in expressions)


_VAR_NOTE = (
    "PyTorch divides by n − 1 unless told otherwise, Keras by n; the median of an even count is the lower "
    "middle in PyTorch, the average in Keras."
)

register(
    __name__,
    Rule(
        "aten.mean.default",
        _reduce("mean"),
        torch="x.mean()",
        noun="mean",
        layout="axis",
        samples=_samples("x.mean()"),
    ),
    Rule(
        "aten.mean.dim",
        _reduce("mean"),
        torch="x.mean(dim=1)",
        layer=global_pooling("Average"),
        noun="mean",
        layout="axis",
        samples=(
            *_samples("x.mean(dim=1)", "x.mean(-1, keepdim=True)", "x.mean(dim=(0, 2))"),
            Sample("x.mean((-2, -1))", _IMAGE, channels_last=True),
            Sample("x.mean(1, keepdim=True)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.sum.default",
        _reduce("sum"),
        torch="x.sum()",
        noun="total",
        layout="axis",
        samples=(*_samples("x.sum()"), Sample("x.sum()", {"x": "bool[2,3]"})),
    ),
    Rule(
        "aten.sum.dim_IntList",
        _reduce("sum"),
        torch="x.sum(dim=1)",
        noun="total",
        layout="axis",
        samples=(
            *_samples("x.sum(dim=1)", "x.sum(-1, keepdim=True)", "x.sum(dim=(0, 2))"),
            Sample("x.sum(1)", {"x": "bool[2,3]"}),
            Sample("x.sum(1, dtype=torch.float32)", _INTS),
            Sample("x.sum((2, 3))", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.amax.default",
        _reduce("max"),
        torch="x.amax(dim=1)",
        layer=global_pooling("Max"),
        noun="highest",
        layout="axis",
        samples=(
            *_samples("x.amax(dim=1)", "x.amax(dim=(-2, -1), keepdim=True)", "x.amax()"),
            Sample("x.amax(1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.amin.default",
        _reduce("min"),
        torch="x.amin(dim=1)",
        noun="lowest",
        layout="axis",
        samples=_samples("x.amin(dim=1)", "x.amin(dim=(-2, -1), keepdim=True)", "x.amin()"),
    ),
    Rule(
        "aten.max.default",
        "ops.max(self)",
        torch="x.max()",
        noun="highest",
        layout="axis",
        samples=_samples("x.max()"),
    ),
    Rule(
        "aten.min.default",
        "ops.min(self)",
        torch="x.min()",
        noun="lowest",
        layout="axis",
        samples=_samples("x.min()"),
    ),
    Rule(
        "aten.max.dim",
        _extreme_of_axis("max"),
        torch="x.max(dim=1)",
        noun="highest",
        layout="axis",
        samples=(
            *_samples(
                "x.max(dim=1)", "x.max(1)[0]", "x.max(-1, keepdim=True)[1]", "x.max(2).values"
            ),
            Sample("x.max(1)[0]", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.min.dim",
        _extreme_of_axis("min"),
        torch="x.min(dim=1)",
        noun="lowest",
        layout="axis",
        samples=_samples("x.min(dim=1)", "x.min(1)[0]", "x.min(-1, keepdim=True)[1]"),
    ),
    Rule(
        "aten.argmax.default",
        _select("argmax"),
        torch="x.argmax(dim=1)",
        noun="index",
        layout="axis",
        samples=(
            *_samples("x.argmax(dim=1)", "x.argmax(-1, keepdim=True)", "x.argmax()"),
            Sample("x.argmax(1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.argmin.default",
        _select("argmin"),
        torch="x.argmin(dim=1)",
        noun="index",
        layout="axis",
        samples=_samples("x.argmin(dim=1)", "x.argmin(-1, keepdim=True)", "x.argmin()"),
    ),
    Rule(
        "aten.any.default",
        _select("any"),
        torch="mask.any()",
        noun="mask",
        layout="axis",
        samples=(Sample("x.any()", {"x": "bool[2,3]"}),),
    ),
    Rule(
        "aten.any.dim",
        _select("any"),
        torch="mask.any(dim=1)",
        noun="mask",
        layout="axis",
        samples=(
            Sample("x.any(dim=1)", {"x": "bool[2,3]"}),
            Sample("x.any(-1, keepdim=True)", _INTS),
        ),
    ),
    Rule(
        "aten.all.default",
        _select("all"),
        torch="mask.all()",
        noun="mask",
        layout="axis",
        samples=(Sample("x.all()", {"x": "bool[2,3]"}),),
    ),
    Rule(
        "aten.all.dim",
        _select("all"),
        torch="mask.all(dim=1)",
        noun="mask",
        layout="axis",
        samples=(
            Sample("x.all(dim=1)", {"x": "bool[2,3]"}),
            Sample("x.all(-1, keepdim=True)", _INTS),
        ),
    ),
    Rule(
        "aten.prod.default",
        _reduce("prod"),
        torch="x.prod()",
        noun="product",
        layout="axis",
        samples=_samples("x.prod()"),
    ),
    Rule(
        "aten.prod.dim_int",
        _reduce("prod"),
        torch="x.prod(dim=1)",
        noun="product",
        layout="axis",
        samples=_samples("x.prod(dim=1)", "x.prod(-1, keepdim=True)"),
    ),
    Rule(
        "aten.logsumexp.default",
        _reduce("logsumexp"),
        torch="x.logsumexp(dim=1)",
        noun="total",
        layout="axis",
        samples=_samples("x.logsumexp(dim=1)", "x.logsumexp((-2, -1), keepdim=True)"),
    ),
    Rule(
        "aten.cumsum.default",
        _running("cumsum"),
        torch="x.cumsum(dim=1)",
        noun="total",
        layout="axis",
        samples=(
            *_samples("x.cumsum(dim=1)", "x.cumsum(-1)"),
            Sample("x.cumsum(1)", _INTS),
            Sample("x.cumsum(1)", {"x": "bool[2,3]"}),
            Sample("x.cumsum(1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.cumprod.default",
        _running("cumprod"),
        torch="x.cumprod(dim=1)",
        noun="product",
        layout="axis",
        samples=_samples("x.cumprod(dim=1)", "x.cumprod(-1)"),
    ),
    *(
        Rule(
            f"aten.var.{overload}",
            _variance,
            torch=spelling,
            noun="variance",
            layout="axis",
            topic="var/std, median",
            note=_VAR_NOTE,
            samples=samples,
        )
        for overload, spelling, samples in (
            (
                "correction",
                "x.var(dim=1)",
                _samples(
                    "x.var(dim=1, correction=1)",
                    "x.var(dim=-1, keepdim=True, correction=0)",
                    "x.var(dim=(1, 2), correction=2)",
                ),
            ),
            (
                "dim",
                "x.var(1)",
                _samples("x.var(1)", "x.var(-1, False)", "x.var(-1, unbiased=True, keepdim=True)"),
            ),
            ("default", "x.var()", _samples("x.var(False)", "x.var(True)")),
        )
    ),
    *(
        Rule(
            f"aten.std.{overload}",
            _deviation,
            torch=spelling,
            noun="std",
            layout="axis",
            topic="var/std, median",
            note=_VAR_NOTE,
            samples=samples,
        )
        for overload, spelling, samples in (
            (
                "correction",
                "x.std(dim=1)",
                (
                    *_samples(
                        "x.std(dim=1, correction=1)", "x.std(dim=-1, keepdim=True, correction=0)"
                    ),
                    Sample("x.std(dim=(2, 3), correction=1)", _IMAGE, channels_last=True),
                ),
            ),
            (
                "dim",
                "x.std(1)",
                _samples("x.std(1)", "x.std(-1, False)", "x.std(-1, keepdim=True)"),
            ),
            ("default", "x.std()", _samples("x.std(False)", "x.std(True)")),
        )
    ),
    Rule(
        "aten.var_mean.correction",
        _with_mean(_variance),
        torch="torch.var_mean(x, dim=1)",
        noun="variance",
        layout="axis",
        samples=_samples(
            "torch.var_mean(x, dim=1, correction=0)", "torch.var_mean(x, dim=1, correction=1)[0]"
        ),
    ),
    Rule(
        "aten.var_mean.dim",
        _with_mean(_variance),
        torch="torch.var_mean(x, 1)",
        noun="variance",
        layout="axis",
        samples=_samples("torch.var_mean(x, 1)", "torch.var_mean(x, 1, False, True)"),
    ),
    Rule(
        "aten.std_mean.correction",
        _with_mean(_deviation),
        torch="torch.std_mean(x, dim=1)",
        noun="std",
        layout="axis",
        samples=_samples("torch.std_mean(x, dim=1, correction=0)"),
    ),
    Rule(
        "aten.std_mean.dim",
        _with_mean(_deviation),
        torch="torch.std_mean(x, 1)",
        noun="std",
        layout="axis",
        samples=_samples("torch.std_mean(x, 1)"),
    ),
    Rule(
        "aten.median.default",
        _lower_median,
        torch="x.median()",
        noun="median",
        layout="logical",
        topic="var/std, median",
        note=_VAR_NOTE,
        samples=_samples("x.median()"),
    ),
    Rule(
        "aten.median.dim",
        _lower_median,
        torch="x.median(dim=1).values",
        noun="median",
        layout="logical",
        topic="var/std, median",
        note=_VAR_NOTE,
        samples=(Sample("x.median(dim=1).values", {"x": "2,6,5"}),),
    ),
)
