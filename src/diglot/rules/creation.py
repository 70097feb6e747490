"""Tensors made from nothing: ranges and constants."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import to_ast
from diglot.rules.forms import keras_dtype
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}


def _arange(op: OpCall) -> ast.expr:
    """``ops.arange(n, dtype="int32")``: without a dtype, its integers would follow the width of the floats."""
    given = [op[n] for n in ("start", "end", "step") if n in op.args]
    if len(given) == 3 and given[2] == 1:
        given.pop()
    if len(given) == 2 and given[0] == 0:
        given = given[1:]
    return op.ops("arange", *(op.value(g) for g in given), dtype=op.dtype_ast(op.fake().dtype))


def _shape(op: OpCall) -> ast.expr:
    """The result's shape as a tuple."""
    return op.shape_ast(op.shape(), minus_one=False)


def _filled(name: str):
    """``ops.zeros(shape, dtype=…)``."""

    def emit(op: OpCall) -> ast.expr:
        return op.ops(name, _shape(op), dtype=op.dtype_ast(op.fake().dtype))

    return emit


def _full(op: OpCall) -> ast.expr:
    value = op["fill_value"]
    if value in (0, 1) and not isinstance(value, bool):
        return op.ops("ones" if value else "zeros", _shape(op), dtype=op.dtype_ast(op.fake().dtype))
    made = op.expr("fill_value") if op.is_tensor("fill_value") else _number(op, value)
    return op.ops("full", _shape(op), made, dtype=op.dtype_ast(op.fake().dtype))


def _number(op: OpCall, value: Any) -> ast.expr:
    """A number in the dtype of the result."""
    if not isinstance(value, (bool, int, float)):
        return op.value(value)
    if str(op.fake().dtype) == "torch.bool":
        return to_ast(bool(value))
    return to_ast(float(value) if op.is_float() else int(value))


def _like(name: str):
    """``ops.zeros_like(x)``."""

    def emit(op: OpCall) -> ast.expr:
        changed = keras_dtype(op.fake().dtype) != keras_dtype(op.fake("self").dtype)
        extra = [_number(op, op["fill_value"])] if name == "full_like" else []
        dtype = op.dtype_ast(op.fake().dtype) if changed else ...
        return op.ops(name, op.expr("self"), *extra, dtype=dtype)

    return emit


def _scalar(op: OpCall) -> ast.expr:
    return op.ops("convert_to_tensor", _number(op, op["s"]), dtype=op.dtype_ast(op.fake().dtype))


def _eye(op: OpCall) -> ast.expr:
    sizes = [op.value(op[n]) for n in ("n", "m") if n in op.args]
    return op.ops("eye", *sizes, dtype=op.dtype_ast(op.fake().dtype))


def _linspace(op: OpCall) -> ast.expr:
    bounds = [_number(op, op[n]) for n in ("start", "end")]
    return op.ops("linspace", *bounds, op.value(op["steps"]), dtype=op.dtype_ast(op.fake().dtype))


def _dynamic(expression: str) -> tuple[Sample, ...]:
    return (Sample(expression, _X),)


register(
    __name__,
    Rule(
        "aten.arange.default",
        _arange,
        torch="torch.arange(n)",
        noun="positions",
        layout="source",
        samples=(*_dynamic("x + torch.arange(x.shape[-1])"), *_dynamic("torch.arange(5.0) + x")),
    ),
    Rule(
        "aten.arange.start",
        _arange,
        torch="torch.arange(1, n)",
        noun="positions",
        layout="source",
        samples=(
            *_dynamic("x + torch.arange(2, x.shape[-1] + 2)"),
            *_dynamic("x + torch.arange(0, 5, dtype=torch.float32)"),
        ),
    ),
    Rule(
        "aten.arange.start_step",
        _arange,
        torch="torch.arange(0, n, 2)",
        noun="positions",
        layout="source",
        samples=(
            *_dynamic("x + torch.arange(9, -1, -2)"),
            *_dynamic("x + torch.arange(0, 2.5, 0.5)"),
        ),
    ),
    Rule(
        "aten.zeros.default",
        _filled("zeros"),
        torch="torch.zeros(2, 3)",
        noun="zeros",
        layout="source",
        samples=_dynamic("x + torch.zeros(x.shape[1], 5)"),
    ),
    Rule(
        "aten.ones.default",
        _filled("ones"),
        torch="torch.ones(2, 3)",
        noun="ones",
        layout="source",
        samples=(
            *_dynamic("x + torch.ones(x.shape[1], 5)"),
            *_dynamic("torch.ones(3, 5, dtype=torch.bool) & (x > 0)"),
        ),
    ),
    Rule(
        "aten.full.default",
        _full,
        torch="torch.full((2, 3), 0.5)",
        noun="x",
        layout="source",
        samples=(
            *_dynamic("x * torch.full((x.shape[1], 5), 0.7)"),
            *_dynamic("torch.full((3, 5), 7) * (x > 0)"),
            *_dynamic("x * torch.full((3, 5), 1.0)"),
        ),
    ),
    Rule(
        "aten.new_zeros.default",
        _filled("zeros"),
        torch="x.new_zeros(2, 3)",
        noun="zeros",
        layout="source",
        samples=_dynamic("x + x.new_zeros(3, 5)"),
    ),
    Rule(
        "aten.new_ones.default",
        _filled("ones"),
        torch="x.new_ones(2, 3)",
        noun="ones",
        layout="source",
        samples=_dynamic("x + x.new_ones(3, 5)"),
    ),
    Rule(
        "aten.new_full.default",
        _full,
        torch="x.new_full((2, 3), 0.5)",
        noun="x",
        layout="source",
        samples=_dynamic("x * x.new_full((3, 5), 0.7)"),
    ),
    # Memory that nobody has set: what is read of it is written first.
    *(
        Rule(
            f"aten.{name}",
            emit,
            torch=spelling,
            noun="zeros",
            layout=layout,
            samples=_dynamic(sample),
        )
        for name, emit, spelling, layout, sample in (
            (
                "empty_like.default",
                _like("zeros_like"),
                "torch.empty_like(x)",
                "elementwise",
                "torch.empty_like(x).copy_(x)",
            ),
            (
                "new_empty.default",
                _filled("zeros"),
                "x.new_empty(2, 3)",
                "source",
                "x.new_empty(2, 3, 5).copy_(x)",
            ),
            (
                "empty.memory_format",
                _filled("zeros"),
                "torch.empty(2, 3)",
                "source",
                "torch.empty(2, 3, 5).copy_(x)",
            ),
        )
    ),
    Rule(
        "aten.zeros_like.default",
        _like("zeros_like"),
        torch="torch.zeros_like(x)",
        noun="zeros",
        samples=(
            *_dynamic("x + torch.zeros_like(x)"),
            *_dynamic("torch.zeros_like(x, dtype=torch.bool) | (x > 0)"),
        ),
    ),
    Rule(
        "aten.ones_like.default",
        _like("ones_like"),
        torch="torch.ones_like(x)",
        noun="ones",
        samples=(
            *_dynamic("x + torch.ones_like(x)"),
            *_dynamic("torch.ones_like(x, dtype=torch.int64)"),
        ),
    ),
    Rule(
        "aten.full_like.default",
        _like("full_like"),
        torch="torch.full_like(x, 0.5)",
        noun="x",
        samples=(
            *_dynamic("x * torch.full_like(x, 0.7)"),
            *_dynamic("torch.full_like(x, 3, dtype=torch.int64)"),
        ),
    ),
    Rule(
        "aten.scalar_tensor.default",
        _scalar,
        torch="torch.scalar_tensor(0.5)",
        noun="x",
        layout="source",
        samples=_dynamic("x * torch.scalar_tensor(0.7)"),
    ),
    Rule(
        "aten.eye.default",
        _eye,
        torch="torch.eye(5)",
        noun="identity",
        layout="source",
        samples=_dynamic("x @ torch.eye(5)"),
    ),
    Rule(
        "aten.eye.m",
        _eye,
        torch="torch.eye(5, 4)",
        noun="identity",
        layout="source",
        samples=_dynamic("x @ torch.eye(5, 4)"),
    ),
    Rule(
        "aten.linspace.default",
        _linspace,
        torch="torch.linspace(0, 1, 5)",
        noun="x",
        layout="source",
        samples=_dynamic("x * torch.linspace(0, 1, 5)"),
    ),
)
