"""Arithmetic of two operands. Shapes are computed on the host, so sizes stay symbolic."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import sizes, values
from diglot.frontends.tensorflow.ops.registry import Call, Constant, Sample, op


def elementwise_host(function: Callable[[Any, Any], Any], array: Callable[..., Any]) -> Callable:
    """A host function for two operands: numpy on constants, ``function`` on symbolic sizes."""

    def run(call: Call, x: Any, y: Any) -> Any:
        a, b = values.array_of(x), values.array_of(y)
        if a is not None and b is not None:
            with np.errstate(all="ignore"):
                result = np.asarray(array(a, b))
            kind = x.array.dtype if isinstance(x, Constant) else None
            if result.dtype.kind in "iuf" and kind is not None and kind.kind == result.dtype.kind:
                result = result.astype(kind)
            return Constant(result)
        if values.rank(x) > 1 or values.rank(y) > 1:
            return NotImplemented
        if any(isinstance(v, Constant) and v.array.dtype.kind not in "iu" for v in (x, y)):
            return NotImplemented
        left, right = values.ints(x), values.ints(y)
        if values.rank(x) == values.rank(y) == 0:
            return function(left[0], right[0])
        size = max(len(left), len(right))
        left, right = (v * size if len(v) == 1 else v for v in (left, right))
        return [function(a, b) for a, b in zip(left, right, strict=True)]

    return run


def pair(call: Call, x: Any, y: Any) -> tuple[Any, Any]:
    """Two operands of which at least one is a tensor; the other may be a Python number."""
    x, y = _as_number(x, y), _as_number(y, x)
    like = next((v for v in (x, y) if isinstance(v, torch.Tensor)), None)
    x, y = call.operand(x, like), call.operand(y, like)
    if not isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        x = call.tensor(Constant(np.asarray(x)) if not values.is_size(x) else x)
    return x, y


def _as_number(value: Any, other: Any) -> Any:
    """A tensor that is one size beside another that is not, as that size."""
    several = isinstance(other, torch.Tensor) or values.rank(other) > 0
    if not isinstance(value, torch.Tensor) or values.is_size(other) or not several:
        return value
    size = sizes.single(value)
    alone = values.is_size(size) and value.dim() <= values.rank(other)
    return size if alone and sizes.single(other) is None else value


def _binary(*names: str, python: Callable, array: Callable, samples: tuple[Sample, ...]) -> None:
    def run(call: Call, x: Any, y: Any) -> Any:
        return python(*pair(call, x, y))

    run.__module__ = __name__
    op(*names, samples=samples, host=elementwise_host(python, array))(run)


def _both(name: str, *more: Sample) -> tuple[Sample, ...]:
    return (
        Sample(lambda r, x, y: getattr(r, name)(x=x, y=y), ("2,3,5", "3,5")),
        Sample(lambda r, x: getattr(r, name)(x=x, y=_three(x)), ("2,3",)),
        *more,
    )


def _three(x: Any) -> Any:
    """The constant 3 (0.3 of floats) in a tensor's dtype."""
    import tensorflow as tf

    return tf.constant(0.3 if x.dtype.is_floating else 3, x.dtype)


_binary("AddV2", "Add", python=operator.add, array=np.add, samples=_both("AddV2"))
_binary("Sub", python=operator.sub, array=np.subtract, samples=_both("Sub"))
_binary("Mul", python=operator.mul, array=np.multiply, samples=_both("Mul"))


def _divide(x: Any, y: Any) -> Any:
    return torch.true_divide(x, y) if isinstance(x, torch.Tensor) else x / y


@op(
    "RealDiv",
    samples=(
        Sample(lambda r, x, y: r.RealDiv(x=x, y=y), ("2,3", "+2,3")),
        Sample(lambda r, x: r.RealDiv(x=_three(x), y=x), ("+2,3",)),
    ),
    host=elementwise_host(lambda a, b: NotImplemented, np.true_divide),
)
def real_div(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    return x / y


@op(
    "Div",
    samples=(
        Sample(lambda r, x, y: r.Div(x=x, y=y), ("2,3", "+2,3")),
        Sample(lambda r, x: r.Div(x=x, y=_three(x)), ("int64[2,3]<9",)),
    ),
)
def div(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    if call.attrs["T"].startswith(("int", "uint")):
        return torch.div(x, y, rounding_mode="trunc")
    return x / y


@op(
    "DivNoNan",
    samples=(
        Sample(lambda r, x, y: r.DivNoNan(x=x, y=r.Relu(features=y)), ("2,3", "2,3")),
        Sample(lambda r, x: r.DivNoNan(x=x, y=_three(x)), ("2,3",)),
    ),
)
def div_no_nan(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    if not isinstance(y, torch.Tensor):
        return x / y if y else torch.zeros_like(x)
    return torch.where(y == 0, torch.zeros_like(y), x / torch.where(y == 0, 1.0, y))


def _floor_div(x: Any, y: Any) -> Any:
    if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor):
        return torch.div(x, y, rounding_mode="floor")  # type: ignore[call-overload]
    return x // y


def _floor_mod(x: Any, y: Any) -> Any:
    if isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor):
        return torch.remainder(x, y)
    return x % y


_INTS = (
    Sample(lambda r, x: r.FloorDiv(x=x, y=_three(x)), ("int64[2,7]<9",)),
    Sample(lambda r, x, y: r.FloorDiv(x=x, y=y), ("2,3", "+2,3")),
)
_binary("FloorDiv", python=_floor_div, array=np.floor_divide, samples=_INTS)
_binary(
    "FloorMod",
    python=_floor_mod,
    array=np.mod,
    samples=(
        Sample(lambda r, x: r.FloorMod(x=r.Neg(x=x), y=_three(x)), ("int64[2,7]<9",)),
        Sample(lambda r, x, y: r.FloorMod(x=x, y=y), ("2,3", "+2,3")),
    ),
)


@op(
    "TruncateDiv",
    samples=(Sample(lambda r, x: r.TruncateDiv(x=r.Neg(x=x), y=_three(x)), ("int64[2,7]<9",)),),
)
def truncate_div(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    return torch.div(x, y, rounding_mode="trunc")


@op(
    "TruncateMod",
    "Mod",
    samples=(Sample(lambda r, x: r.Mod(x=r.Neg(x=x), y=_three(x)), ("int64[2,7]<9",)),),
)
def truncate_mod(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    return torch.fmod(x, y)


def _larger(x: Any, y: Any) -> Any:
    if not isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        return torch.sym_max(x, y)
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return torch.maximum(x, y)
    some, bound = (x, y) if isinstance(x, torch.Tensor) else (y, x)
    return some.clamp(min=bound)


def _smaller(x: Any, y: Any) -> Any:
    if not isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        return torch.sym_min(x, y)
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return torch.minimum(x, y)
    some, bound = (x, y) if isinstance(x, torch.Tensor) else (y, x)
    return some.clamp(max=bound)


_binary("Maximum", python=_larger, array=np.maximum, samples=_both("Maximum"))
_binary("Minimum", python=_smaller, array=np.minimum, samples=_both("Minimum"))


@op("Pow", samples=_both("Pow", Sample(lambda r, x, y: r.Pow(x=x, y=y), ("+2,3", "2,3")))[1:])
def power(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    return torch.pow(x, y)


@op("SquaredDifference", samples=_both("SquaredDifference"))
def squared_difference(call: Call, x: Any, y: Any) -> Any:
    x, y = pair(call, x, y)
    return torch.square(x - y)


@op("Atan2", samples=_both("Atan2")[:1])
def atan2(call: Call, x: Any, y: Any) -> Any:
    return torch.atan2(call.tensor(x), call.tensor(y))


@op(
    "Xlogy",
    samples=(Sample(lambda r, x, y: r.Xlogy(x=r.Relu(features=x), y=y), ("2,3", "+2,3")),),
)
def xlogy(call: Call, x: Any, y: Any) -> Any:
    return torch.xlogy(call.tensor(x), call.tensor(y))


@op("Xlog1py", samples=(Sample(lambda r, x, y: r.Xlog1py(x=x, y=y), ("2,3", "+2,3")),))
def xlog1py(call: Call, x: Any, y: Any) -> Any:
    return torch.special.xlog1py(call.tensor(x), call.tensor(y))


@op("Xdivy", samples=(Sample(lambda r, x, y: r.Xdivy(x=x, y=y), ("2,3", "+2,3")),))
def xdivy(call: Call, x: Any, y: Any) -> Any:
    x, y = call.tensor(x), call.tensor(y)
    return torch.where(x == 0, torch.zeros_like(x), x / torch.where(x == 0, 1.0, y))


@op(
    "AddN",
    samples=(Sample(lambda r, x, y, z: r.AddN(inputs=[x, y, z]), ("2,3", "2,3", "2,3")),),
)
def add_n(call: Call, *terms: Any) -> Any:
    total = call.tensor(terms[0])
    for term in terms[1:]:
        total = total + call.operand(term, total)
    return total


@op(
    "BiasAdd",
    "BiasAddV1",
    samples=(
        Sample(lambda r, x, b: r.BiasAdd(value=x, bias=b), ("2,3,5", "5")),
        Sample(lambda r, x, b: r.BiasAdd(value=x, bias=b, data_format="NCHW"), ("2,3,5,4", "3")),
    ),
)
def bias_add(call: Call, x: Any, bias: Any) -> Any:
    x, bias = call.tensor(x), call.tensor(bias)
    if call.attrs.get("data_format") == "NCHW":
        bias = bias.reshape(-1, *[1] * (x.dim() - 2))
    return x + bias


@op(
    "MulNoNan",
    samples=(Sample(lambda r, x, y: r.MulNoNan(x=x, y=y), ("2,3", "2,3")),),
)
def mul_no_nan(call: Call, x: Any, y: Any) -> Any:
    x, y = call.tensor(x), call.tensor(y)
    return torch.where(y == 0, torch.zeros_like(x * y), x * y)


def _bitwise(name: str, function: Callable) -> None:
    def run(call: Call, x: Any, y: Any) -> Any:
        return function(call.tensor(x), call.tensor(y))

    run.__module__ = __name__
    op(
        name,
        samples=(
            Sample(lambda r, x, y: getattr(r, name)(x=x, y=y), ("int64[2,3]<9", "int64[2,3]<9")),
        ),
    )(run)


for _name, _function in (
    ("BitwiseAnd", torch.bitwise_and),
    ("BitwiseOr", torch.bitwise_or),
    ("BitwiseXor", torch.bitwise_xor),
    ("LeftShift", torch.bitwise_left_shift),
    ("RightShift", torch.bitwise_right_shift),
):
    _bitwise(_name, _function)
