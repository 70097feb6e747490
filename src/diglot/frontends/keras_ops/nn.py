"""Activations and the small functions of neural networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from diglot.frontends.keras_ops.creation import dtype_of
from diglot.frontends.keras_ops.table import op

op("nn.sigmoid")(torch.sigmoid)
op("nn.tanh")(torch.tanh)
op("nn.silu")(F.silu)
op("nn.softsign")(F.softsign)
op("nn.softplus")(F.softplus)
op("nn.tanh_shrink")(F.tanhshrink)


@op("nn.gelu")
def gelu(x: torch.Tensor, approximate: bool = True) -> torch.Tensor:
    return F.gelu(x, approximate="tanh" if approximate else "none")


@op("nn.leaky_relu")
def leaky_relu(x: torch.Tensor, negative_slope: float = 0.2) -> torch.Tensor:
    return F.leaky_relu(x, negative_slope)


@op("nn.elu")
def elu(x: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    return F.elu(x, alpha)


@op("nn.celu")
def celu(x: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    return F.celu(x, alpha)


@op("nn.glu")
def glu(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return F.glu(x, axis)


@op("nn.hard_tanh")
def hard_tanh(x: torch.Tensor) -> torch.Tensor:
    return F.hardtanh(x)


@op("nn.hard_shrink")
def hard_shrink(x: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    return F.hardshrink(x, threshold)


@op("nn.soft_shrink")
def soft_shrink(x: torch.Tensor, threshold: float = 0.5) -> torch.Tensor:
    return F.softshrink(x, threshold)


@op("nn.threshold")
def threshold(x: torch.Tensor, threshold: float, default_value: float) -> torch.Tensor:
    return F.threshold(x, threshold, default_value)


def _normalised(function: Any, x: torch.Tensor, axis: Any) -> torch.Tensor:
    if axis is None:
        return function(x.flatten(), dim=0).reshape(x.shape)
    if isinstance(axis, (list, tuple)):
        kept = [a for a in range(x.dim()) if a not in {b % x.dim() for b in axis}]
        order = kept + [a % x.dim() for a in axis]
        moved = x.permute(order)
        flat = function(moved.flatten(len(kept)), dim=-1).reshape(moved.shape)
        return flat.permute(sorted(range(x.dim()), key=order.__getitem__))
    return function(x, dim=axis)


@op("nn.softmax")
def softmax(x: torch.Tensor, axis: Any = -1) -> torch.Tensor:
    return _normalised(torch.softmax, x, axis)


@op("nn.log_softmax")
def log_softmax(x: torch.Tensor, axis: Any = -1) -> torch.Tensor:
    return _normalised(torch.log_softmax, x, axis)


@op("nn.one_hot")
def one_hot(
    x: torch.Tensor, num_classes: int, axis: int = -1, dtype: Any = "float32", sparse: bool = False
) -> torch.Tensor:
    # Ids outside the classes give a row of zeros in Keras, an error in torch.nn.functional.one_hot.
    made = (x.unsqueeze(-1) == torch.arange(num_classes)).to(dtype_of(dtype))
    return made if axis in (-1, x.dim()) else made.movedim(-1, axis)


@op("math.segment_sum")
def segment_sum(
    data: torch.Tensor,
    segment_ids: torch.Tensor,
    num_segments: int | None = None,
    sorted: bool = False,
) -> torch.Tensor:
    shape = [num_segments, *data.shape[1:]]
    return torch.zeros(shape, dtype=data.dtype).index_add(0, segment_ids.to(torch.int64), data)
