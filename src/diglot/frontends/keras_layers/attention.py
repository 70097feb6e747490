"""Attention: ``nn.MultiheadAttention`` where it means the same, else Keras's own steps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    bare,
    layer,
    masks_flow,
    method,
    own_call,
)


def _widths(own: Any) -> tuple[int, int, int]:
    """The widths of query, key and value."""
    parts = (own._query_dense, own._key_dense, own._value_dense)
    return tuple(p._kernel.shape[0] for p in parts)  # type: ignore[return-value]


def is_stock(own: Any) -> bool:
    """Whether a MultiHeadAttention is an ``nn.MultiheadAttention``."""
    # A masked query attends to all keys alike and no gradient reaches its scores: PyTorch's layer cannot say so.
    if masks_flow() or not own.built or own._use_gate or own._sliding_window is not None:
        return False
    kernels = (own._query_dense, own._key_dense, own._value_dense)
    if any(len(part._kernel.shape) != 3 or part.input_spec.ndim != 3 for part in kernels):
        return False
    width = own._query_dense._kernel.shape[0]
    output = tuple(own._output_dense._kernel.shape)
    heads, size = own._num_heads, own._key_dim
    return heads * size == width and own._value_dim == size and output == (heads, size, width)


def stock_module(own: Any) -> nn.Module:
    """The ``nn.MultiheadAttention`` of a MultiHeadAttention."""
    query, key, value = _widths(own)
    more = {"kdim": key, "vdim": value} if (key, value) != (query, query) else {}
    return bare(
        nn.MultiheadAttention,
        query,
        own._num_heads,
        dropout=float(own._dropout),
        bias=own._use_bias,
        batch_first=True,
        **more,
    )


def stock_weights(own: Any) -> list[Weight]:
    """The weights of both."""
    query, key, value = _widths(own)
    packed = (key, value) == (query, query)
    found = []
    for place, name in enumerate(("query", "key", "value")):
        part = getattr(own, f"_{name}_dense")
        rows = ("slice", 0, place * query, (place + 1) * query)
        kernel = (("permute", (1, 0)), ("reshape", tuple(part._kernel.shape)))
        source = "in_proj_weight" if packed else f"{name[0]}_proj_weight"
        found.append(Weight(f"{name}_dense.kernel", source, (rows, *kernel) if packed else kernel))
        if own._use_bias:
            bias = (rows, ("reshape", tuple(part.bias.shape)))
            found.append(Weight(f"{name}_dense.bias", "in_proj_bias", bias))
    shape = tuple(own._output_dense._kernel.shape)
    found.append(
        Weight("output_dense.kernel", "out_proj.weight", (("permute", (1, 0)), ("reshape", shape)))
    )
    if own._use_bias:
        found.append(Weight("output_dense.bias", "out_proj.bias"))
    return found


def _large_negative(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A bool mask (True: attend) as one to add, by Keras's number: a row masked throughout attends to all alike."""
    low = -0.7 * torch.finfo(like.dtype).max
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, low)


def causal(queries: Any, keys: Any) -> torch.Tensor:
    """True where a query may look at a key: at those before it, and its own."""
    return torch.ones(queries, keys, dtype=torch.bool).tril()


def _and(*masks: torch.Tensor | None) -> torch.Tensor | None:
    made = None
    for mask in masks:
        if mask is not None:
            made = mask if made is None else made & mask
    return made


def _run(
    run: LayerCall,
    query: torch.Tensor,
    value: torch.Tensor,
    key: torch.Tensor | None = None,
    query_mask: torch.Tensor | None = None,
    value_mask: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    own, key = run.layer, value if key is None else key
    keys = _and(*(m.to(torch.bool) for m in (value_mask, key_mask) if m is not None))
    options: dict[str, Any] = {
        "need_weights": return_attention_scores,
        "average_attn_weights": False,
    }
    rows: torch.Tensor | None = None
    if query_mask is None and attention_mask is None and keys is None:
        if use_causal_mask:
            options["attn_mask"] = ~causal(query.shape[1], key.shape[1])
    elif query_mask is None and attention_mask is None and not use_causal_mask:
        options["key_padding_mask"] = _large_negative(keys, query)
        rows = keys.unsqueeze(1)
    else:
        rows = _and(
            query_mask.to(torch.bool).unsqueeze(2) if query_mask is not None else None,
            keys.unsqueeze(1) if keys is not None else None,
            causal(query.shape[1], key.shape[1]) if use_causal_mask else None,
            _batched(attention_mask) if attention_mask is not None else None,
        )
        options["attn_mask"] = per_head(_large_negative(rows, query), query, key, own._num_heads)
    made, scores = call_module(run, (query, key, value), options)
    if rows is not None and (own._dropout > 0 or return_attention_scores):
        # Here Keras gives a row that is masked throughout scores of zero.
        attended = rows.any(dim=-1, keepdim=True)
        bias = run.module.out_proj.bias
        made = torch.where(
            attended if attended.dim() == 3 else attended[:, 0], made, 0.0 if bias is None else bias
        )
        if scores is not None:
            scores = scores * (attended.unsqueeze(1) if attended.dim() == 3 else attended).to(
                scores.dtype
            )
    return (made, scores) if return_attention_scores else made


def _batched(mask: torch.Tensor) -> torch.Tensor:
    """A mask with the batch as its first axis: (T, S) holds for every item."""
    return (mask if mask.dim() > 2 else mask.unsqueeze(0)).to(torch.bool)


def per_head(
    mask: torch.Tensor, query: torch.Tensor, key: torch.Tensor, heads: int
) -> torch.Tensor:
    """A mask (N or 1, T, S) or (N, heads, T, S) as PyTorch takes it: (N · heads, T, S)."""
    if mask.dim() == 3:
        mask = mask.unsqueeze(1)
    full = mask.expand(query.shape[0], heads, query.shape[1], key.shape[1])
    return full.reshape(-1, query.shape[1], key.shape[1])


def call_module(run: LayerCall, tensors: tuple, options: dict[str, Any]) -> Any:
    """Call the module in the mode that was asked for."""
    if run.forced is None or not run.layer._dropout:
        return run.module(*tensors, **options)
    before = run.module.training
    run.module.train(run.forced)
    try:
        return run.module(*tensors, **options)
    finally:
        run.module.train(before)


def _attend(
    own: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    training: Any = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    """Attention over (N, T, heads, size) with dropout or with its scores, which Keras makes of einsums.

    Both give a row that is masked throughout scores of zero, as PyTorch does. Without dropout Keras has one op of
    its own, in which such a row attends to all keys alike. Where the scores are read, the passes let them be what
    the values are weighed with (:mod:`diglot.passes.attention_scores`).
    """
    if query.dim() != 4 or not (own._dropout or return_attention_scores):
        return NotImplemented
    q, k, v = (t.transpose(1, 2) for t in (query, key, value))
    rate = float(own._dropout) if own._dropout and training else 0.0
    mask = None if attention_mask is None else _batched(attention_mask)
    if mask is not None and mask.dim() == 3:
        mask = mask.unsqueeze(1)
    if mask is not None and use_causal_mask:
        mask = mask & causal(q.shape[2], k.shape[2])
    by_order = use_causal_mask and mask is None
    scores = None
    if return_attention_scores:
        seen = mask
        if by_order:
            seen = causal(q.shape[2], k.shape[2])
        scores = q @ k.transpose(-2, -1) * own._inverse_sqrt_key_dim
        if seen is not None:
            scores = scores.masked_fill(~seen, -1e9)
        scores = F.softmax(scores, dim=-1)
        if seen is not None:
            scores = scores.masked_fill(~seen, 0.0)
    made = F.scaled_dot_product_attention(q, k, v, mask, rate, is_causal=by_order)
    return made.transpose(1, 2), scores


def _causal_mask(own: Any, query: torch.Tensor, value: torch.Tensor | None = None) -> torch.Tensor:
    """(1, T, S): Keras compares sums over ones."""
    return causal(query.shape[1], (query if value is None else value).shape[1]).unsqueeze(0)


method("MultiHeadAttention", "_compute_attention", _attend)
method("MultiHeadAttention", "_compute_causal_mask", _causal_mask)


def _sample(*shapes: str, call: Any = None, random: bool = False, **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        return keras.layers.MultiHeadAttention(**{"num_heads": 2, "key_dim": 3, **options})

    def two(own: Any, x: Any, *rest: Any) -> Any:
        return own(x, *(rest or (x,)))

    return Sample(make, shapes or ("2,5,6",), call or two, random, tolerance=1e-7)


def _keywords(**options: Any) -> Any:
    """Call with a query, a value and, where there is a third tensor, ``attention_mask``."""

    def call(own: Any, x: Any, *rest: Any) -> Any:
        if rest:
            options["attention_mask"] = rest[-1]
        return own(x, rest[0] if len(rest) > 1 else x, **options)

    return call


def _masked(own: Any, x: Any) -> Any:
    import keras

    x = keras.layers.Masking(0.0)(x)
    return own(x, x)


def _padded(own: Any, ids: Any) -> Any:
    import keras

    x = keras.layers.Embedding(9, 6, mask_zero=True)(ids)
    return own(x, x)


def _padded_causal(own: Any, ids: Any) -> Any:
    import keras

    x = keras.layers.Embedding(9, 6, mask_zero=True)(ids)
    return own(x, x, use_causal_mask=True)


layer(
    "MultiHeadAttention",
    when=is_stock,
    make=stock_module,
    call=_run,
    weights=stock_weights,
    samples=(
        _sample(),
        _sample("2,5,6", "2,4,7"),
        _sample("2,5,6", "2,4,7", "2,4,8"),
        _sample(use_bias=False),
        _sample(call=_keywords(use_causal_mask=True)),
        _sample("2,5,6", "bool[2,5,5]", call=_keywords()),
        _sample("2,5,6", "bool[2,5,5]", call=_keywords(use_causal_mask=True)),
        _sample("2,5,6", "bool[2,2,5,5]", call=_keywords()),
        _sample("2,5,6", "bool[5,5]", call=_keywords()),
        _sample(call=_keywords(return_attention_scores=True)),
        _sample("int[3,5]<3", call=_padded),
        _sample("int[3,5]<3", call=_padded_causal),
        _sample("int[3,5]<3", call=_padded, dropout=0.3, random=True),
        _sample(dropout=0.3, random=True),
        _sample("2,5,7", key_dim=3, value_dim=4),
        _sample("2,5,7", key_dim=3, output_shape=5),
        _sample("2,5,7", dropout=0.3, random=True),
        _sample("2,5,7", dropout=0.3, random=True, call=_keywords(use_causal_mask=True)),
        _sample("2,5,7", "bool[2,5,5]", dropout=0.3, random=True, call=_keywords()),
        _sample("int[3,5]<3", call=_padded_causal, dropout=0.3, random=True, value_dim=5),
        _sample("2,5,7", call=_keywords(return_attention_scores=True)),
        _sample("2,5,7", call=_keywords(return_attention_scores=True, use_causal_mask=True)),
        _sample("2,5,7", "bool[2,5,5]", call=_keywords(return_attention_scores=True)),
        _sample("2,5,4,6", attention_axes=(2,)),
        _sample("2,5,7", call=_keywords(use_causal_mask=True)),
        _sample("int[3,5]<3", call=_padded, value_dim=5),
        _sample(flash_attention=False),
    ),
)


def _grouped(keras: Any, **options: Any) -> Any:
    return keras.layers.GroupQueryAttention(3, 4, 2, **options)


def _itself(own: Any, x: Any) -> Any:
    return own(x, x)


own_call(
    "GroupQueryAttention",
    Sample(lambda keras: _grouped(keras), ("2,5,6",), _itself, tolerance=1e-7),
    Sample(
        lambda keras: _grouped(keras),
        ("2,5,6",),
        lambda own, x: own(x, x, use_causal_mask=True),
        tolerance=1e-7,
    ),
)


def _three(own: Any, q: Any, v: Any, k: Any) -> Any:
    return own([q, v, k])


own_call(
    "Attention",
    Sample(
        lambda keras: keras.layers.Attention(), ("2,5,6", "2,4,6"), lambda own, q, v: own([q, v])
    ),
    Sample(
        lambda keras: keras.layers.Attention(use_scale=True), ("2,5,6", "2,4,7", "2,4,6"), _three
    ),
    Sample(
        lambda keras: keras.layers.Attention(score_mode="concat"),
        ("2,5,6", "2,4,6", "bool[2,4]"),
        lambda own, q, v, m: own([q, v], mask=[None, m]),
    ),
    Sample(
        lambda keras: keras.layers.Attention(),
        ("2,5,6",),
        lambda own, x: own([x, x], use_causal_mask=True, return_attention_scores=True),
    ),
)
own_call(
    "AdditiveAttention",
    Sample(
        lambda keras: keras.layers.AdditiveAttention(),
        ("2,5,6", "2,4,6"),
        lambda own, q, v: own([q, v]),
    ),
    Sample(
        lambda keras: keras.layers.AdditiveAttention(use_scale=False),
        ("2,5,6", "2,4,6", "bool[2,4]"),
        lambda own, q, v, m: own([q, v], mask=[None, m]),
    ),
)
