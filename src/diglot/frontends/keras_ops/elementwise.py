"""Arithmetic, comparison and mathematics, element by element."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from diglot.frontends.keras_ops.creation import as_tensor
from diglot.frontends.keras_ops.table import op


def _operands(*values: Any) -> tuple[Any, ...]:
    """Lists and nested numbers become tensors; numbers stay numbers."""
    return tuple(as_tensor(v) if isinstance(v, (list, tuple)) else v for v in values)


def _binary(names: str, function: Callable) -> None:
    op(*names.split())(lambda x1, x2: function(*_operands(x1, x2)))


def _both_tensors(function: Callable) -> Callable:
    """A torch function that takes no numbers."""

    def call(first: Any, second: Any) -> torch.Tensor:
        like = first if isinstance(first, torch.Tensor) else second
        dtype = torch.result_type(first, second) if isinstance(like, torch.Tensor) else None
        pair = [
            v if isinstance(v, torch.Tensor) else torch.full((), v, dtype=dtype)
            for v in (first, second)
        ]
        return function(*pair)

    return call


def _add(first: Any, second: Any) -> Any:
    return torch.logical_or(first, second) if _bools(first, second) else first + second


def _multiply(first: Any, second: Any) -> Any:
    return torch.logical_and(first, second) if _bools(first, second) else first * second


def _bools(*values: Any) -> bool:
    return all(isinstance(v, torch.Tensor) and v.dtype == torch.bool for v in values)


def _bound(function: Callable, side: str) -> Callable:
    """``maximum`` and ``minimum``: with a number they are a clamp."""
    exact = _both_tensors(function)

    def call(first: Any, second: Any) -> torch.Tensor:
        for value, number in ((first, second), (second, first)):
            if isinstance(number, (int, float)) and isinstance(value, torch.Tensor):
                if value.dtype.is_floating_point or isinstance(number, int):
                    return torch.clamp(value, **{side: number})
        return exact(first, second)

    return call


_binary("numpy.add", _add)
_binary("numpy.multiply", _multiply)
_binary("numpy.subtract", operator.sub)
_binary("numpy.divide numpy.true_divide", operator.truediv)
_binary("numpy.floor_divide", operator.floordiv)
_binary("numpy.mod numpy.remainder", operator.mod)
_binary("numpy.power", operator.pow)
_binary("numpy.maximum", _bound(torch.maximum, "min"))
_binary("numpy.minimum", _bound(torch.minimum, "max"))
_binary("numpy.less", operator.lt)
_binary("numpy.less_equal", operator.le)
_binary("numpy.greater", operator.gt)
_binary("numpy.greater_equal", operator.ge)
_binary("numpy.equal", operator.eq)
_binary("numpy.not_equal", operator.ne)
_binary("numpy.logical_and", _both_tensors(torch.logical_and))
_binary("numpy.logical_or", _both_tensors(torch.logical_or))
_binary("numpy.logical_xor", _both_tensors(torch.logical_xor))
_binary("numpy.arctan2", _both_tensors(torch.atan2))


def _float(x: Any) -> Any:
    """What mathematics is done on: whole numbers become floats, as in Keras."""
    x = _operands(x)[0]
    x = as_tensor(x)
    return x if x.dtype.is_floating_point or x.dtype.is_complex else x.to(torch.get_default_dtype())


def _unary(names: str, function: Callable) -> None:
    def call(x: Any) -> torch.Tensor:
        return function(_float(x))

    op(*[f"numpy.{n}" for n in names.split()])(call)


for _name, _function in {
    "exp": torch.exp, "exp2": torch.exp2, "expm1": torch.expm1, "log": torch.log,
    "log10": torch.log10, "log1p": torch.log1p,
    "log2": torch.log2, "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "arcsin": torch.asin, "arccos": torch.acos, "arctan": torch.atan, "sinh": torch.sinh,
    "cosh": torch.cosh, "tanh": torch.tanh, "arcsinh": torch.asinh, "arccosh": torch.acosh,
    "arctanh": torch.atanh, "reciprocal": torch.reciprocal, "ceil": torch.ceil, "floor": torch.floor,
}.items():  # fmt: skip
    _unary(_name, _function)

op("math.rsqrt")(torch.rsqrt)
op("math.erf")(torch.erf)
op("numpy.negative")(operator.neg)
op("numpy.absolute")(torch.abs)
op("numpy.square")(torch.square)
op("numpy.invert", "numpy.bitwise_not")(torch.bitwise_not)
op("numpy.real")(torch.real)
op("numpy.conjugate", "numpy.conj")(torch.conj)


@op("numpy.clip")
def clip(x: torch.Tensor, x_min: Any, x_max: Any) -> torch.Tensor:
    if isinstance(x_min, torch.Tensor) or isinstance(x_max, torch.Tensor):
        return torch.minimum(torch.maximum(x, as_tensor(x_min)), as_tensor(x_max))
    return torch.clamp(x, x_min, x_max)


@op("numpy.round")
def round_(x: torch.Tensor, decimals: int = 0) -> torch.Tensor:
    return torch.round(x, decimals=decimals) if decimals else torch.round(x)


@op("numpy.where")
def where(condition: Any, x1: Any = None, x2: Any = None) -> torch.Tensor:
    if x1 is None:
        raise TypeError("keras.ops.where with one argument has a shape that depends on values")
    condition, x1, x2 = _operands(condition, x1, x2)
    return torch.where(condition.to(torch.bool), x1, x2)


@op("numpy.nan_to_num")
def nan_to_num(x: Any, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> torch.Tensor:
    return torch.nan_to_num(x, nan, posinf, neginf)
