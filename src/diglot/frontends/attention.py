"""Ops of the hub's own: ``nn.MultiheadAttention`` as one node, and a dense layer that keeps (in, out).

PyTorch exports it as 30 to 50 reshapes. While a model is captured its ``forward`` is replaced by one call of
``diglot::multi_head_attention``, which has a reference implementation, so that the hub still runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define(
    "multi_head_attention(Tensor query, Tensor key, Tensor value, Tensor[] weights, Tensor? attn_mask, "
    "Tensor? key_padding_mask, int num_heads, float dropout, bool training, bool batch_first, "
    "bool need_weights, bool average_weights, bool is_causal, bool packed, bool bias, bool bias_kv, "
    "bool zero_attn) -> (Tensor, Tensor)"
)


def _reference(
    query, key, value, weights, attn_mask, key_padding_mask, num_heads, dropout, training, batch_first,
    need_weights, average_weights, is_causal, packed, bias, bias_kv, zero_attn,
):  # fmt: skip
    rest = list(weights)
    in_proj = rest.pop(0) if packed else None
    q_w, k_w, v_w = (None, None, None) if packed else (rest.pop(0), rest.pop(0), rest.pop(0))
    in_bias = rest.pop(0) if bias else None
    out_w = rest.pop(0)
    out_b = rest.pop(0) if bias else None
    bias_k, bias_v = (rest.pop(0), rest.pop(0)) if bias_kv else (None, None)
    batched = query.dim() == 3
    if batch_first and batched:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    out, scores = F.multi_head_attention_forward(
        query, key, value, query.shape[-1], num_heads, in_proj, in_bias, bias_k, bias_v, zero_attn, dropout,
        out_w, out_b, training=training, key_padding_mask=key_padding_mask, need_weights=True,
        attn_mask=attn_mask, use_separate_proj_weight=not packed, q_proj_weight=q_w, k_proj_weight=k_w,
        v_proj_weight=v_w, average_attn_weights=average_weights,
    )  # fmt: skip
    if batch_first and batched:
        out = out.transpose(0, 1)
    return out.contiguous(), scores.contiguous()


_LIBRARY.impl("multi_head_attention", _reference, "CompositeExplicitAutograd")
_LIBRARY.define("dense(Tensor input, Tensor weight, Tensor? bias) -> Tensor")
_LIBRARY.impl(
    "dense",
    lambda input, weight, bias: F.linear(input, weight.t(), bias),
    "CompositeExplicitAutograd",
)


def _forward(
    self: nn.MultiheadAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    weights = []
    if self._qkv_same_embed_dim:
        weights.append(self.in_proj_weight)
    else:
        weights += [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
    has_bias = self.in_proj_bias is not None
    if has_bias:
        weights.append(self.in_proj_bias)
    weights.append(self.out_proj.weight)
    if has_bias:
        weights.append(self.out_proj.bias)
    if self.bias_k is not None:
        weights += [self.bias_k, self.bias_v]
    out, scores = torch.ops.diglot.multi_head_attention(
        query, key, value, weights, attn_mask, key_padding_mask, self.num_heads, self.dropout, self.training,
        self.batch_first, need_weights, average_attn_weights, is_causal and attn_mask is not None,
        self._qkv_same_embed_dim, has_bias, self.bias_k is not None, self.add_zero_attn,
    )  # fmt: skip
    return out, scores if need_weights else None


@contextlib.contextmanager
def as_one_node() -> Iterator[None]:
    """Make every ``nn.MultiheadAttention`` a single node for the length of the context.

    ``nn.TransformerDecoder`` looks into a mask's values to see whether it is causal, only to choose a faster
    kernel; while capturing it takes the caller's word.
    """
    original = nn.MultiheadAttention.forward
    detect = torch.nn.modules.transformer._detect_is_causal_mask
    nn.MultiheadAttention.forward = _forward  # type: ignore[method-assign]
    torch.nn.modules.transformer._detect_is_causal_mask = _take_word
    try:
        yield
    finally:
        nn.MultiheadAttention.forward = original  # type: ignore[method-assign]
        torch.nn.modules.transformer._detect_is_causal_mask = detect


def _take_word(
    mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None
) -> bool:
    return bool(is_causal) and mask is not None
