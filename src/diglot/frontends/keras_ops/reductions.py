"""Reductions: Keras's ``axis`` (a number, several or all) as torch's ``dim``."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_ops.creation import as_tensor
from diglot.frontends.keras_ops.table import op


def _axes(x: torch.Tensor, axis: Any) -> list[int]:
    if axis is None:
        return list(range(x.dim()))
    return list(axis) if isinstance(axis, (list, tuple)) else [axis]


def _number(x: Any) -> torch.Tensor:
    return as_tensor(x)


def _float(x: Any) -> torch.Tensor:
    x = _number(x)
    return x if x.dtype.is_floating_point or x.dtype.is_complex else x.to(torch.get_default_dtype())


@op("numpy.sum")
def sum_(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.sum(_number(x), dim=_axes(_number(x), axis), keepdim=keepdims)


@op("numpy.trace")
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> torch.Tensor:
    return torch.diagonal(_number(x), offset, axis1, axis2).sum(-1)


@op("numpy.mean")
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.mean(_float(x), dim=_axes(_number(x), axis), keepdim=keepdims)


@op("numpy.var")
def var(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.var(_float(x), dim=_axes(_number(x), axis), correction=0, keepdim=keepdims)


@op("numpy.std")
def std(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.std(_float(x), dim=_axes(_number(x), axis), correction=0, keepdim=keepdims)


@op("nn.moments")
def moments(x: Any, axes: Any, keepdims: bool = False, synchronized: bool = False) -> tuple:
    return mean(x, axes, keepdims), var(x, axes, keepdims)


@op("numpy.prod")
def prod(x: Any, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> torch.Tensor:
    x = _number(x)
    for a in sorted((a % x.dim() for a in _axes(x, axis)), reverse=True):
        x = torch.prod(x, dim=a, keepdim=keepdims)
    return x


def _filled(
    x: torch.Tensor, axes: list[int], keepdims: bool, initial: Any, least: bool
) -> torch.Tensor:
    result = (torch.amin if least else torch.amax)(x, dim=axes, keepdim=keepdims)
    if initial is None:
        return result
    return torch.clamp(result, max=initial) if least else torch.clamp(result, min=initial)


@op("numpy.max")
def max_(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> torch.Tensor:
    return _filled(_number(x), _axes(_number(x), axis), keepdims, initial, least=False)


@op("numpy.min")
def min_(x: Any, axis: Any = None, keepdims: bool = False, initial: Any = None) -> torch.Tensor:
    return _filled(_number(x), _axes(_number(x), axis), keepdims, initial, least=True)


def _logical(x: Any, axis: Any, keepdims: bool, function: Any) -> torch.Tensor:
    x = _number(x).to(torch.bool)
    if axis is None and not keepdims:
        return function(x)
    for a in sorted((a % x.dim() for a in _axes(x, axis)), reverse=True):
        x = function(x, dim=a, keepdim=keepdims)
    return x


@op("numpy.any")
def any_(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return _logical(x, axis, keepdims, torch.any)


@op("numpy.all")
def all_(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return _logical(x, axis, keepdims, torch.all)


@op("numpy.argmax")
def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.argmax(x, dim=axis, keepdim=keepdims)


@op("numpy.argmin")
def argmin(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.argmin(x, dim=axis, keepdim=keepdims)


@op("numpy.cumsum")
def cumsum(x: Any, axis: Any = None, dtype: Any = None) -> torch.Tensor:
    return torch.cumsum(x.flatten() if axis is None else x, dim=axis or 0)


@op("numpy.cumprod")
def cumprod(x: Any, axis: Any = None, dtype: Any = None) -> torch.Tensor:
    return torch.cumprod(x.flatten() if axis is None else x, dim=axis or 0)


@op("math.logsumexp")
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return torch.logsumexp(_float(x), dim=_axes(x, axis), keepdim=keepdims)


@op("math.top_k")
def top_k(x: torch.Tensor, k: int, sorted: bool = True) -> tuple:
    values, indices = torch.topk(x, k, sorted=sorted)
    return values, indices


@op("linalg.norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    axis = tuple(axis) if isinstance(axis, list) else axis
    if ord is None or ord == "euclidean":
        return torch.linalg.vector_norm(_float(x), dim=axis, keepdim=keepdims)
    return torch.linalg.norm(_float(x), ord=ord, dim=axis, keepdim=keepdims)
