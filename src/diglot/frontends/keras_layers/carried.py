"""What programs written by Diglot carry with them, as the torch modules that it was made of."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from diglot.frontends.keras_layers.attention import (
    call_module,
    causal,
    is_stock,
    per_head,
    stock_module,
    stock_weights,
)
from diglot.frontends.keras_layers.core import run_embedding
from diglot.frontends.keras_layers.records import LayerCall, Sample, Weight, bare, carried

_TRANSPOSED = ("permute", (1, 0))


def _hidden(
    mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor, heads: int, by_order: bool
) -> dict[str, torch.Tensor]:
    """PyTorch's masks (True: hidden) for one of Keras's (True: attend): (T, S), (N, T, S) or (N, heads, T, S)."""
    options: dict[str, torch.Tensor] = {}
    if (
        mask is not None
        and mask.dim() == 3
        and isinstance(mask.shape[1], int)
        and mask.shape[1] == 1
    ):
        options["key_padding_mask"] = ~mask.squeeze(1)
        mask = None
    if by_order:
        before = causal(query.shape[1], key.shape[1])
        mask = before if mask is None else mask & before
    if mask is not None:
        options["attn_mask"] = ~mask if mask.dim() == 2 else ~per_head(mask, query, key, heads)
    return options


def _run_exact(
    run: LayerCall,
    query: torch.Tensor,
    value: torch.Tensor,
    key: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
    **no_masks: None,
) -> Any:
    key = value if key is None else key
    masks = _hidden(attention_mask, query, key, run.layer._num_heads, use_causal_mask)
    options = {"need_weights": return_attention_scores, "average_attn_weights": False, **masks}
    made, scores = call_module(run, (query, key, value), options)
    return (made, scores) if return_attention_scores else made


def _exact(*shapes: str, masked: bool = False, **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        from diglot.carried.attention import ExactMultiHeadAttention

        return ExactMultiHeadAttention(2, key_dim=3)

    def call(own: Any, x: Any, *rest: Any) -> Any:
        *memory, mask = rest if masked else (*rest, None)
        return own(x, *(memory or (x,)), attention_mask=mask, **options)

    return Sample(make, shapes, call)


carried(
    "ExactMultiHeadAttention",
    when=is_stock,
    make=stock_module,
    call=_run_exact,
    weights=stock_weights,
    samples=(
        _exact("2,5,6"),
        _exact("2,5,6", "2,4,7"),
        _exact("2,5,6", use_causal_mask=True),
        _exact("2,5,6", return_attention_scores=True),
        _exact("2,5,6", "bool[2,5,5]", masked=True),
        _exact("2,5,6", "2,4,6", "bool[2,1,4]", masked=True),
    ),
)


def _torch_attention(own: Any) -> nn.Module:
    query, key, value = (d.kernel.shape[0] for d in _inward(own))
    more = {"kdim": key, "vdim": value} if (key, value) != (query, query) else {}
    config = own.config
    return bare(
        nn.MultiheadAttention,
        config["embed_dim"],
        config["num_heads"],
        dropout=float(config["dropout"]),
        bias=config["use_bias"],
        batch_first=config["batch_first"],
        **more,
    )


def _inward(own: Any) -> tuple[Any, Any, Any]:
    return own.query_dense, own.key_dense, own.value_dense


def _torch_attention_weights(own: Any) -> list[Weight]:
    width = own.config["embed_dim"]
    packed = len({d.kernel.shape[0] for d in _inward(own)}) == 1
    found = []
    for place, name in enumerate(("query", "key", "value")):
        rows = ("slice", 0, place * width, (place + 1) * width)
        source = "in_proj_weight" if packed else f"{name[0]}_proj_weight"
        steps = (rows, _TRANSPOSED) if packed else (_TRANSPOSED,)
        found.append(Weight(f"{name}_dense.kernel", source, steps))
        if own.config["use_bias"]:
            found.append(Weight(f"{name}_dense.bias", "in_proj_bias", (rows,)))
    found.append(Weight("output_dense.kernel", "out_proj.weight", (_TRANSPOSED,)))
    if own.config["use_bias"]:
        found.append(Weight("output_dense.bias", "out_proj.bias"))
    return found


def _run_torch_attention(
    run: LayerCall,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    key_padding_mask: torch.Tensor | None = None,
) -> Any:
    options = {"average_attn_weights": run.layer.config["average_weights"]}
    masks = {"attn_mask": attn_mask, "key_padding_mask": key_padding_mask}
    options |= {name: mask for name, mask in masks.items() if mask is not None}
    return call_module(run, (query, key, value), options)


def _attention(*shapes: str, mask: str = "", **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        from diglot.carried.attention import MultiheadAttention

        return MultiheadAttention(6, 2, **options)

    def call(own: Any, x: Any, memory: Any, *rest: Any) -> Any:
        return own(x, memory, memory, **dict(zip([mask], rest, strict=False)))

    return Sample(make, shapes, call)


carried(
    "MultiheadAttention",
    make=_torch_attention,
    call=_run_torch_attention,
    weights=_torch_attention_weights,
    samples=(
        _attention("2,5,6", "2,4,6"),
        _attention("2,5,6", "2,4,7", use_bias=False),
        _attention("2,5,6", "2,4,6", "2,4", mask="key_padding_mask", average_weights=False),
        _attention("5,2,6", "4,2,6", batch_first=False),
    ),
)


def _bilinear(own: Any) -> nn.Module:
    units, first, second = own.kernel.shape
    return bare(nn.Bilinear, first, second, units, bias=own.use_bias)


def _product(*shapes: str, **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        from diglot.carried.bilinear import Bilinear

        return Bilinear(4, **options)

    return Sample(make, shapes, lambda own, x, y: own(x, y))


carried(
    "Bilinear",
    make=_bilinear,
    weights=lambda own: [
        Weight("kernel", "weight"),
        *([Weight("bias", "bias")] if own.use_bias else []),
    ],
    samples=(_product("2,3", "2,5"), _product("2,6,3", "2,6,5", use_bias=False)),
)


def _padded(own: Any) -> nn.Module:
    return bare(nn.Embedding, *own._embeddings.shape, padding_idx=own.padding_idx)


def _padded_embedding(keras: Any, row: int) -> Any:
    from diglot.carried.embedding import PaddedEmbedding

    return PaddedEmbedding(9, 5, padding_idx=row)


carried(
    "PaddedEmbedding",
    make=_padded,
    call=run_embedding,
    weights=lambda own: [Weight("embeddings", "weight")],
    samples=(
        Sample(functools.partial(_padded_embedding, row=0), ("int[3,4]<3",)),
        Sample(functools.partial(_padded_embedding, row=2), ("int[3,4]<3",)),
    ),
)
