"""Comparisons, logic and choices."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.arithmetic import pair
from diglot.frontends.tensorflow.ops.registry import Call, Constant, Sample, host_numpy, op


def _compare(name: str, python: Callable, array: Callable) -> None:
    def of_sizes(x: Any, y: Any) -> Any:
        single = values.is_host(x) and values.is_host(y) and values.rank(x) == values.rank(y) == 0
        return python(values.integer(x), values.integer(y)) if single else None

    def run(call: Call, x: Any, y: Any) -> Any:
        made = python(*pair(call, x, y))
        if (answer := of_sizes(x, y)) is not None:
            made.of_size = answer
        return made

    def host(call: Call, x: Any, y: Any) -> Any:
        done = host_numpy(array)(call, x, y)
        if done is not NotImplemented:
            return done
        if (answer := of_sizes(x, y)) is not None:
            # Only what holds for every size may be decided here.
            from torch.fx.experimental.symbolic_shapes import statically_known_true

            if statically_known_true(answer):
                return Constant(np.asarray(True))
            if isinstance(answer, torch.SymBool) and statically_known_true(torch.sym_not(answer)):
                return Constant(np.asarray(False))
        return NotImplemented

    run.__module__ = __name__
    samples = (
        Sample(lambda r, x, y: getattr(r, name)(x=x, y=y), ("2,3", "2,3")),
        Sample(lambda r, x: getattr(r, name)(x=x, y=np.int64(2)), ("int64[5]<4",)),
    )
    op(name, samples=samples, host=host)(run)


for _name, _python, _array in (
    ("Less", operator.lt, np.less),
    ("LessEqual", operator.le, np.less_equal),
    ("Greater", operator.gt, np.greater),
    ("GreaterEqual", operator.ge, np.greater_equal),
    ("Equal", operator.eq, np.equal),
    ("NotEqual", operator.ne, np.not_equal),
):
    _compare(_name, _python, _array)


@op(
    "ApproximateEqual",
    samples=(Sample(lambda r, x, y: r.ApproximateEqual(x=x, y=y, tolerance=0.5), ("2,3", "2,3")),),
)
def approximate_equal(call: Call, x: Any, y: Any) -> Any:
    return (call.tensor(x) - call.tensor(y)).abs() < call.attrs["tolerance"]


_TWO_BOOLS = ("bool[2,3]", "bool[2,3]")


@op(
    "LogicalAnd",
    samples=(Sample(lambda r, x, y: r.LogicalAnd(x=x, y=y), _TWO_BOOLS),),
    host=host_numpy(np.logical_and),
)
def logical_and(call: Call, x: Any, y: Any) -> Any:
    x, y = call.tensor(x), call.tensor(y)
    return torch.logical_and(x, y)


@op(
    "LogicalOr",
    samples=(Sample(lambda r, x, y: r.LogicalOr(x=x, y=y), _TWO_BOOLS),),
    host=host_numpy(np.logical_or),
)
def logical_or(call: Call, x: Any, y: Any) -> Any:
    return torch.logical_or(call.tensor(x), call.tensor(y))


@op(
    "LogicalNot",
    samples=(Sample(lambda r, x: r.LogicalNot(x=x), ("bool[2,3]",)),),
    host=host_numpy(np.logical_not),
)
def logical_not(call: Call, x: Any) -> Any:
    return torch.logical_not(call.tensor(x))


def _select_host(call: Call, condition: Any, x: Any, y: Any) -> Any:
    known = values.array_of(condition)
    if known is None or known.size != 1:
        done = host_numpy(np.where)(call, condition, x, y)
        return done
    chosen, other = (x, y) if bool(known.reshape(())) else (y, x)
    return chosen if values.rank(chosen) >= values.rank(other) else NotImplemented


@op(
    "SelectV2",
    samples=(
        Sample(lambda r, c, x, y: r.SelectV2(condition=c, t=x, e=y), ("bool[3]", "2,3", "2,3")),
        Sample(
            lambda r, c, x: r.SelectV2(condition=c, t=x, e=r.ZerosLike(x=x)), ("bool[2,1]", "2,3")
        ),
    ),
    host=_select_host,
)
def select_v2(call: Call, condition: Any, x: Any, y: Any) -> Any:
    dtype = call.dtype()
    x, y = call.operand(x), call.operand(y)
    if not isinstance(x, torch.Tensor) and not isinstance(y, torch.Tensor):
        x = torch.full((), x, dtype=dtype)
    return torch.where(call.tensor(condition), x, y)


@op(
    "Select",
    samples=(
        Sample(lambda r, c, x, y: r.Select(condition=c, x=x, y=y), ("bool[2]", "2,3", "2,3")),
        Sample(lambda r, c, x, y: r.Select(condition=c, x=x, y=y), ("bool[2,3]", "2,3", "2,3")),
    ),
    host=_select_host,
)
def select(call: Call, condition: Any, x: Any, y: Any) -> Any:
    condition, x, y = call.tensor(condition), call.tensor(x), call.tensor(y)
    if condition.dim() == 1 and x.dim() > 1:  # rows are chosen
        condition = condition.reshape(-1, *[1] * (x.dim() - 1))
    return torch.where(condition, x, y)


@op(
    "ClipByValue",
    samples=(
        Sample(
            lambda r, x: (
                r.ClipByValue(t=x, clip_value_min=np.float64(-0.2), clip_value_max=np.float64(0.5))
                if x.dtype.name == "float64"
                else r.ClipByValue(
                    t=x, clip_value_min=np.float32(-0.2), clip_value_max=np.float32(0.5)
                )
            ),
            ("2,3",),
        ),
    ),
)
def clip_by_value(call: Call, x: Any, low: Any, high: Any) -> Any:
    x = call.tensor(x)
    low, high = call.operand(low, x), call.operand(high, x)
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        return torch.minimum(torch.maximum(x, call.tensor(low)), call.tensor(high))
    return x.clamp(low, high)
