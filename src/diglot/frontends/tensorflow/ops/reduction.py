"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Constant, Sample, op


def _axes(call: Call, x: torch.Tensor, axis: Any) -> tuple[list[int], bool]:
    keep = bool(call.attrs.get("keep_dims"))
    return values.axes(axis, x.dim()), keep


def _host(array: Callable, combine: Callable | None) -> Callable:
    def run(call: Call, x: Any, axis: Any) -> Any:
        known = values.array_of(x)
        where = values.array_of(axis)
        if where is None:
            return NotImplemented
        keep = bool(call.attrs.get("keep_dims"))
        if known is not None and known.size <= 4096:
            along = tuple(int(a) for a in where.ravel())
            done = np.asarray(array(known, axis=along, keepdims=keep))
            kind = x.array.dtype if isinstance(x, Constant) else known.dtype
            return Constant(done if kind.kind == "b" else done.astype(kind))
        if combine is None or not isinstance(x, list) or keep or not where.size:
            return NotImplemented
        total = x[0] if x else 1
        for item in x[1:]:
            total = combine(total, item)
        return total

    return run


def _all_axes(function: Callable, x: torch.Tensor, dims: list[int], keep: bool) -> torch.Tensor:
    """A reduction that torch knows for one axis only."""
    for dim in sorted(dims, reverse=True):
        x = function(x, dim, keepdim=keep)
    return x


def _reduction(name: str, function: Callable, array: Callable, combine: Callable | None) -> None:
    def run(call: Call, x: Any, axis: Any) -> Any:
        x = call.tensor(x)
        dims, keep = _axes(call, x, axis)
        return function(x, dims, keep) if dims else x

    run.__module__ = __name__
    kind = "bool[2,3,5]" if name in ("All", "Any") else "2,3,5"
    op(
        name,
        samples=(
            Sample(lambda r, x: getattr(r, name)(input=x, axis=[-1], keep_dims=True), (kind,)),
            Sample(lambda r, x: getattr(r, name)(input=x, axis=[0, -1]), (kind,)),
            Sample(lambda r, x: getattr(r, name)(input=x, axis=1), (kind,)),
            Sample(lambda r, x: getattr(r, name)(input=x, axis=[]), (kind,)),
        ),
        host=_host(array, combine),
    )(run)


_reduction("Sum", lambda x, d, k: x.sum(d, keepdim=k), np.sum, lambda a, b: a + b)
_reduction("Mean", lambda x, d, k: x.mean(d, keepdim=k), np.mean, None)
_reduction("Max", lambda x, d, k: x.amax(d, keepdim=k), np.max, torch.sym_max)
_reduction("Min", lambda x, d, k: x.amin(d, keepdim=k), np.min, torch.sym_min)
_reduction("Prod", lambda x, d, k: _all_axes(torch.prod, x, d, k), np.prod, lambda a, b: a * b)
_reduction("All", lambda x, d, k: _all_axes(torch.all, x, d, k), np.all, None)
_reduction("Any", lambda x, d, k: _all_axes(torch.any, x, d, k), np.any, None)


@op("EuclideanNorm", samples=(Sample(lambda r, x: r.EuclideanNorm(input=x, axis=-1), ("2,3",)),))
def euclidean_norm(call: Call, x: Any, axis: Any) -> Any:
    x = call.tensor(x)
    dims, keep = _axes(call, x, axis)
    return torch.linalg.vector_norm(x, dim=dims, keepdim=keep)


def _arg(name: str, function: Callable) -> None:
    def run(call: Call, x: Any, axis: Any) -> Any:
        x = call.tensor(x)
        return function(x, values.axes(axis, x.dim())[0])

    run.__module__ = __name__
    op(
        name,
        samples=(
            Sample(lambda r, x: getattr(r, name)(input=x, dimension=-1), ("2,3,5",)),
            Sample(lambda r, x: getattr(r, name)(input=x, dimension=1), ("2,3,5",)),
        ),
    )(run)


_arg("ArgMax", torch.argmax)
_arg("ArgMin", torch.argmin)


@op(
    "TopKV2",
    samples=(
        Sample(lambda r, x: r.TopKV2(input=x, k=2)[0], ("2,5",)),
        Sample(lambda r, x: r.TopKV2(input=x, k=2)[1], ("2,5",)),
    ),
)
def top_k(call: Call, x: Any, k: Any) -> Any:
    found = torch.topk(call.tensor(x), values.integer(k))
    return found.values, found.indices


@op(
    "InTopKV2",
    samples=(
        Sample(
            lambda r, x, t: r.InTopKV2(predictions=r.Cast(x=x, DstT="float32"), targets=t, k=2),
            ("3,5", "int64[3]<5"),
        ),
    ),
)
def in_top_k(call: Call, x: Any, targets: Any, k: Any) -> Any:
    x, targets = call.tensor(x), call.tensor(targets)
    own = x.gather(1, targets[:, None])
    return (x > own).sum(1) < values.integer(k)
