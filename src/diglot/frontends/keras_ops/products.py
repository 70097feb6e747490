"""Products of matrices."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_ops.table import op


@op("numpy.matmul")
def matmul(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    if x1.dtype != x2.dtype:
        dtype = torch.promote_types(x1.dtype, x2.dtype)
        x1, x2 = x1.to(dtype), x2.to(dtype)
    return torch.matmul(x1, x2)


@op("numpy.einsum")
def einsum(subscripts: str, *operands: torch.Tensor, **_: Any) -> torch.Tensor:
    return torch.einsum(subscripts, *operands)


@op("numpy.dot")
def dot(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    if x1.dim() == 0 or x2.dim() == 0:
        return x1 * x2
    if x2.dim() <= 2:
        return torch.matmul(x1, x2)
    return torch.tensordot(x1, x2, dims=([-1], [-2]))


@op("numpy.tensordot")
def tensordot(x1: torch.Tensor, x2: torch.Tensor, axes: Any = 2) -> torch.Tensor:
    if not isinstance(axes, int):
        axes = [[a] if isinstance(a, int) else list(a) for a in axes]
    return torch.tensordot(x1, x2, dims=axes)


@op("numpy.vdot")
def vdot(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    return torch.sum(x1.flatten() * x2.flatten())
