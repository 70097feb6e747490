"""Activations and the small functions of neural networks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from diglot.frontends.keras_ops.creation import dtype_of
from diglot.frontends.keras_ops.table import op, operation

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


@op("nn.dot_product_attention")
def dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: Any = None,
    attn_logits_soft_cap: float | None = None,
) -> torch.Tensor:
    if attn_logits_soft_cap is not None:
        raise NotImplementedError("attn_logits_soft_cap: only Keras's JAX backend has it")
    groups = query.shape[2] // key.shape[2]
    if groups > 1:
        key, value = (t.repeat_interleave(groups, dim=2) for t in (key, value))
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    if is_causal and (mask is not None or bias is not None):
        causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril()
        mask = causal if mask is None else mask & causal
    added = bias
    if mask is not None:
        # A row that is masked throughout attends to all alike in Keras, and no gradient reaches its scores.
        attended = mask.any(dim=-1, keepdim=True)
        q = q.masked_fill(~attended, 0.0)
        mask = mask | ~attended
        added = mask if bias is None else bias.masked_fill(~mask, -torch.inf)
    made = F.scaled_dot_product_attention(
        q, k, v, added, is_causal=is_causal and added is None, scale=scale
    )
    return made.transpose(1, 2)


@operation("ConvTranspose")
def conv_transpose(op: Any, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    # Keras's own `call` hands on padding and output_padding in each other's place.
    from keras.src.backend.torch.nn import conv_transpose as backend

    return backend(
        x, kernel, op.strides, op.padding, op.output_padding, op.data_format, op.dilation_rate
    )
