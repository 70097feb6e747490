"""Arithmetic on two tensors, or a tensor and a number."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.rules.as_layers import plus, times
from diglot.rules.forms import operand, same_number, twice
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_PAIR = {"x": "2,3,5", "y": "2,3,5"}
_BROADCAST = {"x": "2,3,5", "y": "3,1"}
_INTS = {"x": "int64[2,3,5]<7", "y": "2,3,5"}


def _is_bool(op: OpCall) -> bool:
    return str(op.fake().dtype) == "torch.bool"


def _scaled(op: OpCall, made: ast.expr) -> ast.expr:
    """Apply ``alpha``, the factor of the second operand."""
    alpha = op.get("alpha", 1)
    return made if alpha == 1 else E("alpha * y", alpha=alpha, y=made)


def _is_neutral(op: OpCall, number: int) -> bool:
    """Tell whether the second operand changes nothing: ``x * 1``, ``x + 0``."""
    other = op["other"]
    plain = isinstance(other, (int, float)) and not isinstance(other, bool)
    return plain and other == number and op.fake("self").dtype == op.fake().dtype


def _add(op: OpCall) -> ast.expr:
    if _is_neutral(op, 0):
        return op.expr("self")
    dtype = op.fake().dtype
    if _is_bool(op):
        return op.ops("logical_or", op.expr("self"), op.expr("other"))
    other = op["other"]
    if isinstance(other, (int, float)) and other < 0 and op.get("alpha", 1) == 1:
        return E("x - y", x=operand(op, "self", dtype), y=-other)
    return E("x + y", x=operand(op, "self", dtype), y=_scaled(op, operand(op, "other", dtype)))


def _sub(op: OpCall) -> ast.expr:
    if _is_neutral(op, 0):
        return op.expr("self")
    dtype = op.fake().dtype
    return E("x - y", x=operand(op, "self", dtype), y=_scaled(op, operand(op, "other", dtype)))


def _rsub(op: OpCall) -> ast.expr:
    dtype = op.fake().dtype
    made = operand(op, "self", dtype)
    return E("y - x", x=_scaled(op, made), y=operand(op, "other", dtype))


def _mul(op: OpCall) -> ast.expr:
    if _is_neutral(op, 1):
        return op.expr("self")
    dtype = op.fake().dtype
    if _is_bool(op):
        return op.ops("logical_and", op.expr("self"), op.expr("other"))
    x, y = operand(op, "self", dtype), operand(op, "other", dtype)
    if isinstance(y, ast.Constant) and _is_reciprocal(x):  # 2 / x arrives as (1 / x) * 2
        return E("y / x", y=y, x=x.right)  # type: ignore[attr-defined]
    return E("x * y", x=x, y=y)


def _is_reciprocal(made: ast.expr) -> bool:
    return (
        isinstance(made, ast.BinOp)
        and isinstance(made.op, ast.Div)
        and isinstance(made.left, ast.Constant)
        and made.left.value == 1
    )


def _div(op: OpCall) -> ast.expr:
    if _is_neutral(op, 1):
        return op.expr("self")
    dtype = op.fake().dtype
    return E("x / y", x=operand(op, "self", dtype), y=operand(op, "other", dtype))


def _div_mode(op: OpCall) -> ast.expr:
    mode = op.get("rounding_mode")
    if mode is None:
        return _div(op)
    if mode == "floor":
        return _floor_divide(op)
    dtype = op.fake().dtype
    if dtype.is_floating_point:
        return op.ops(
            "trunc", E("x / y", x=operand(op, "self", dtype), y=operand(op, "other", dtype))
        )
    x, y = twice(op, "self", "other")
    return E("ops.sign(x) * ops.sign(y) * (ops.abs(x) // ops.abs(y))", x=x, y=y)


def _floor_divide(op: OpCall) -> ast.expr:
    dtype = op.fake().dtype
    return E("x // y", x=operand(op, "self", dtype), y=operand(op, "other", dtype))


def _remainder(op: OpCall) -> ast.expr:
    dtype = op.fake().dtype
    return E("x % y", x=operand(op, "self", dtype), y=operand(op, "other", dtype))


def _fmod(op: OpCall) -> ast.expr:
    dtype = op.fake().dtype
    (x,) = twice(op, "self")
    other = op["other"]  # not ops.fmod: TensorFlow would round a plain number to float32
    y = (
        abs(other)
        if isinstance(other, (int, float))
        else E("ops.abs(y)", y=operand(op, "other", dtype))
    )
    return E("ops.sign(x) * (ops.abs(x) % y)", x=x, y=y)


def _pow(op: OpCall) -> ast.expr:
    dtype = op.fake().dtype
    exponent = op["exponent"]
    if isinstance(exponent, (int, float)):
        x = operand(op, "self", dtype)
        if exponent == 0.5:
            return op.ops("sqrt", x)
        if exponent == -0.5:
            return op.ops("rsqrt", x)
        if exponent == -1:
            return E("1.0 / x", x=x)
        return E("x ** y", x=x, y=int(exponent) if exponent == int(exponent) else exponent)
    return E("x ** y", x=operand(op, "self", dtype), y=operand(op, "exponent", dtype))


def _addcmul(op: OpCall) -> ast.expr:
    made = E("a * b", a=op.expr("tensor1"), b=op.expr("tensor2"))
    return E("x + y", x=op.expr("self"), y=_times_value(op, made))


def _addcdiv(op: OpCall) -> ast.expr:
    made = E("a / b", a=op.expr("tensor1"), b=op.expr("tensor2"))
    return E("x + y", x=op.expr("self"), y=_times_value(op, made))


def _times_value(op: OpCall, made: ast.expr) -> ast.expr:
    value = op.get("value", 1)
    return made if value == 1 else E("v * y", v=value, y=made)


def _lerp(op: OpCall) -> ast.expr:
    (x,) = twice(op, "self")
    return E("x + w * (y - x)", x=x, w=op.expr("weight"), y=op.expr("end"))


def _extremum(name: str):
    def emit(op: OpCall) -> ast.expr:
        dtype = op.fake().dtype
        number = same_number(op, "other")
        if number is None:
            return op.ops(name, operand(op, "self", dtype), operand(op, "other", dtype))
        return op.ops(name, operand(op, "self", dtype), float(number) if op.is_float() else number)

    return emit


def _samples(*expressions: str, inputs: dict[str, str] | None = None) -> tuple[Sample, ...]:
    return tuple(Sample(e, inputs or _PAIR) for e in expressions)


register(
    __name__,
    Rule(
        "aten.add.Tensor",
        _add,
        torch="x + y",
        layer=plus,
        noun="x",
        samples=(
            *_samples("x + y", "torch.add(x, y, alpha=0.3)", "x + 2", "x + (-1)"),
            Sample("x + y", _BROADCAST),
            Sample("x + y", _INTS),
            Sample("(x > 0) + (y > 0)", _PAIR),
            Sample("F.relu(x) + y", {"x": "2,3,4,5", "y": "2,3,4,5"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.add.Scalar",
        _add,
        torch="torch.ops.aten.add.Scalar(x, 0.3)",
        noun="x",
        samples=_samples("torch.ops.aten.add.Scalar(x, 0.3, 2)"),
    ),
    Rule(
        "aten.sub.Tensor",
        _sub,
        torch="x - y",
        noun="x",
        samples=(*_samples("x - y", "torch.sub(x, y, alpha=2)", "x - 0.7"), Sample("x - y", _INTS)),
    ),
    Rule(
        "aten.sub.Scalar",
        _sub,
        torch="torch.ops.aten.sub.Scalar(x, 1)",
        noun="x",
        samples=_samples("torch.ops.aten.sub.Scalar(x, 0.3)"),
    ),
    Rule(
        "aten.rsub.Scalar",
        _rsub,
        torch="1 - x",
        noun="x",
        samples=(*_samples("1 - x", "1.5 - x"), Sample("1.0 - x", {"x": "int64[2,3]<2"})),
    ),
    Rule(
        "aten.rsub.Tensor",
        _rsub,
        torch="torch.rsub(x, y)",
        noun="x",
        samples=_samples("torch.rsub(x, y, alpha=2)"),
    ),
    Rule(
        "aten.mul.Tensor",
        _mul,
        torch="x * y",
        layer=times,
        noun="x",
        samples=(
            *_samples("x * y", "x * 0.125", "2 * x", "x.tanh() * 1.0", "3.0 / (x.abs() + 1)"),
            Sample("x * y", _BROADCAST),
            Sample("x * y", _INTS),
            Sample("(x > 0) * y", _PAIR),
            Sample("x * 0.5", {"x": "int64[2,3]<7"}),
            Sample("x * y", {"x": "2,3,4,5", "y": "2,3,1,1"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.mul.Scalar",
        _mul,
        torch="torch.ops.aten.mul.Scalar(x, 2)",
        noun="x",
        samples=_samples("torch.ops.aten.mul.Scalar(x, 0.3)"),
    ),
    Rule(
        "aten.div.Tensor",
        _div,
        torch="x / y",
        noun="x",
        topic="int / int",
        note="PyTorch divides integers into float32, TensorFlow into float64: the integers are cast first.",
        samples=(
            *_samples("x / 3", "x / (y.abs() + 1)"),
            Sample("x / 2", {"x": "int64[2,3]<7"}),
            Sample("x / (y + 1)", {"x": "int64[2,3]<7", "y": "int64[2,3]<5"}),
        ),
    ),
    Rule(
        "aten.div.Scalar",
        _div,
        torch="torch.ops.aten.div.Scalar(x, 2)",
        noun="x",
        samples=_samples("torch.ops.aten.div.Scalar(x, 3)"),
    ),
    Rule(
        "aten.div.Tensor_mode",
        _div_mode,
        torch='torch.div(x, y, rounding_mode="floor")',
        noun="x",
        samples=(
            *_samples(
                'torch.div(3 * x, 0.7, rounding_mode="floor")',
                'torch.div(x, 0.7, rounding_mode="trunc")',
            ),
            Sample(
                'torch.div(x - 3, y + 1, rounding_mode="floor")',
                {"x": "int64[2,3]<7", "y": "int64[2,3]<5"},
            ),
            Sample(
                'torch.div(x - 3, y + 1, rounding_mode="trunc")',
                {"x": "int64[2,3]<7", "y": "int64[2,3]<5"},
            ),
        ),
    ),
    Rule(
        "aten.div.Scalar_mode",
        _div_mode,
        torch='torch.div(x, 2, rounding_mode="floor")',
        noun="x",
        samples=_samples('torch.ops.aten.div.Scalar_mode(x, 0.7, rounding_mode="floor")'),
    ),
    Rule(
        "aten.true_divide.Tensor",
        _div,
        torch="torch.true_divide(x, y)",
        noun="x",
        samples=_samples("torch.true_divide(x, y.abs() + 1)"),
    ),
    Rule(
        "aten.floor_divide.default",
        _floor_divide,
        torch="x // y",
        noun="x",
        samples=(*_samples("(3 * x) // 0.7"), Sample("(x - 3) // 2", {"x": "int64[2,3]<7"})),
    ),
    Rule(
        "aten.floor_divide.Scalar",
        _floor_divide,
        torch="torch.ops.aten.floor_divide.Scalar(x, 2)",
        noun="x",
        samples=(Sample("torch.ops.aten.floor_divide.Scalar(x, 2)", {"x": "int64[2,3]<7"}),),
    ),
    Rule(
        "aten.remainder.Scalar",
        _remainder,
        torch="x % 2",
        noun="x",
        samples=(*_samples("(3 * x) % 0.7"), Sample("(x - 3) % 2", {"x": "int64[2,3]<7"})),
    ),
    Rule(
        "aten.remainder.Tensor",
        _remainder,
        torch="x % y",
        noun="x",
        samples=(*_samples("(3 * x) % (y.abs() + 1)"),),
    ),
    Rule(
        "aten.fmod.Scalar",
        _fmod,
        torch="torch.fmod(x, 2)",
        noun="x",
        samples=_samples("torch.fmod(3 * x, 0.7)"),
    ),
    Rule(
        "aten.fmod.Tensor",
        _fmod,
        torch="torch.fmod(x, y)",
        noun="x",
        samples=_samples("torch.fmod(3 * x, y.abs() + 1)"),
    ),
    Rule(
        "aten.pow.Tensor_Scalar",
        _pow,
        torch="x ** 2",
        noun="x",
        samples=_samples(
            "x ** 2",
            "x ** 3.0",
            "(x.abs() + 1) ** 0.5",
            "(x.abs() + 1) ** -0.5",
            "(x.abs() + 1) ** 1.7",
            "(x.abs() + 1) ** -1",
            "(x.abs() + 1) ** -2",
        ),
    ),
    Rule("aten.pow.Scalar", _pow, torch="2 ** x", noun="x", samples=_samples("2 ** x", "0.5 ** x")),
    Rule(
        "aten.pow.Tensor_Tensor",
        _pow,
        torch="x ** y",
        noun="x",
        samples=_samples("(x.abs() + 1) ** y"),
    ),
    Rule(
        "aten.addcmul.default",
        _addcmul,
        torch="torch.addcmul(x, y, y, value=0.5)",
        noun="x",
        samples=_samples("torch.addcmul(x, y, y)", "torch.addcmul(x, y, x, value=0.5)"),
    ),
    Rule(
        "aten.addcdiv.default",
        _addcdiv,
        torch="torch.addcdiv(x, y, y)",
        noun="x",
        samples=_samples("torch.addcdiv(x, y, x.abs() + 1, value=0.5)"),
    ),
    Rule(
        "aten.lerp.Scalar",
        _lerp,
        torch="torch.lerp(x, y, 0.3)",
        noun="x",
        samples=_samples("torch.lerp(x, y, 0.3)", "torch.lerp(x * 2, y, 0.7)"),
    ),
    Rule(
        "aten.lerp.Tensor",
        _lerp,
        torch="torch.lerp(x, y, w)",
        noun="x",
        samples=_samples("torch.lerp(x, y, x.sigmoid())"),
    ),
    Rule(
        "aten.maximum.default",
        _extremum("maximum"),
        torch="torch.maximum(x, y)",
        noun="x",
        samples=_samples("torch.maximum(x, y)", "torch.maximum(x, torch.zeros_like(x))"),
    ),
    Rule(
        "aten.minimum.default",
        _extremum("minimum"),
        torch="torch.minimum(x, y)",
        noun="x",
        samples=_samples("torch.minimum(x, y)"),
    ),
    Rule(
        "aten.max.other",
        _extremum("maximum"),
        torch="torch.max(x, y)",
        noun="x",
        samples=_samples("torch.max(x, y)"),
    ),
    Rule(
        "aten.min.other",
        _extremum("minimum"),
        torch="torch.min(x, y)",
        noun="x",
        samples=_samples("torch.min(x, y)"),
    ),
    Rule(
        "aten.logaddexp.default",
        "ops.logaddexp(self, other)",
        torch="torch.logaddexp(x, y)",
        noun="x",
        samples=_samples("torch.logaddexp(x, y)"),
    ),
    Rule(
        "aten.atan2.default",
        "ops.arctan2(self, other)",
        torch="torch.atan2(x, y)",
        noun="angle",
        samples=_samples("torch.atan2(x, y)"),
    ),
    Rule(
        "aten.hypot.default",
        "ops.hypot(self, other)",
        torch="torch.hypot(x, y)",
        noun="x",
        samples=_samples("torch.hypot(x, y)"),
    ),
)
