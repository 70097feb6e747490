"""Attention in the precision of its inputs, with PyTorch's masks."""

import math

import keras
from keras import layers, ops


def masked_softmax(scores, mask):
    """Softmax over the last axis where ``mask`` is True; 0 elsewhere, even if nothing is left."""
    scores = ops.where(mask, scores, -1e9)
    return ops.where(mask, ops.softmax(scores, axis=-1), 0)


def scaled_dot_product_attention(
    query, key, value, mask=None, bias=None, is_causal=False, scale=None, dropout=None
):
    """softmax(query · keyᵀ · scale + bias) · value over the last two axes.

    ``mask`` is True where a query may look at a key; ``dropout`` is a layer for the weights.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
    if bias is not None:
        scores = scores + bias
    if is_causal:
        causal = ops.arange(ops.shape(query)[-2])[:, None] >= ops.arange(ops.shape(key)[-2])
        mask = causal if mask is None else ops.logical_and(mask, causal)
    weights = ops.softmax(scores, axis=-1) if mask is None else masked_softmax(scores, mask)
    if dropout is not None:
        weights = dropout(weights)
    return ops.matmul(weights, value)


@keras.saving.register_keras_serializable()
class ExactMultiHeadAttention(layers.MultiHeadAttention):
    """Keras's attention in the precision of its inputs: its own scale of 1 / sqrt(size) is a
    float32.
    """

    def _compute_attention(
        self,
        query,
        key,
        value,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
    ):
        scores = ops.einsum("btnh,bsnh->bnts", query / math.sqrt(self.key_dim), key)
        if attention_mask is None:
            weights = ops.softmax(scores, axis=-1)
        else:
            while len(attention_mask.shape) < 4:
                attention_mask = ops.expand_dims(attention_mask, -3)
            weights = masked_softmax(scores, attention_mask)
        dropped = self._dropout_layer(weights, training=training)
        return ops.einsum("bnts,bsnh->btnh", dropped, value), weights


@keras.saving.register_keras_serializable()
class MultiheadAttention(layers.Layer):
    """Attention with several heads. Returns the output and the weights, by default the heads' mean.

    A boolean mask hides a key where it is True; a float mask is added to the scores.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        use_bias=True,
        batch_first=True,
        average_weights=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = {
            "embed_dim": embed_dim,
            "num_heads": num_heads,
            "dropout": dropout,
            "use_bias": use_bias,
            "batch_first": batch_first,
            "average_weights": average_weights,
        }
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.batch_first = batch_first
        self.average_weights = average_weights
        self.query_dense = layers.Dense(embed_dim, use_bias=use_bias)
        self.key_dense = layers.Dense(embed_dim, use_bias=use_bias)
        self.value_dense = layers.Dense(embed_dim, use_bias=use_bias)
        self.output_dense = layers.Dense(embed_dim, use_bias=use_bias)
        self.dropout = layers.Dropout(dropout)

    def split_heads(self, x):
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.num_heads, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, query, key, value, attn_mask=None, key_padding_mask=None):
        if not self.batch_first:
            query, key, value = (ops.swapaxes(x, 0, 1) for x in (query, key, value))
        q = self.split_heads(self.query_dense(query))
        k = self.split_heads(self.key_dense(key))
        v = self.split_heads(self.value_dense(value))
        scores = ops.matmul(q / math.sqrt(self.head_dim), ops.swapaxes(k, -1, -2))
        visible = None
        for mask in (attn_mask, key_padding_mask):
            if mask is None:
                continue
            if mask is key_padding_mask:
                mask = mask[:, None, None]
            elif len(mask.shape) == 3:
                mask = ops.reshape(mask, (-1, self.num_heads, *ops.shape(mask)[1:]))
            if keras.backend.standardize_dtype(mask.dtype) != "bool":
                scores = scores + mask
            elif visible is None:
                visible = ops.logical_not(mask)
            else:
                visible = ops.logical_and(visible, ops.logical_not(mask))
        weights = ops.softmax(scores) if visible is None else masked_softmax(scores, visible)
        weights = self.dropout(weights)
        x = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        x = self.output_dense(
            ops.reshape(x, (-1, ops.shape(query)[1], self.num_heads * self.head_dim))
        )
        if not self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        return x, ops.mean(weights, axis=1) if self.average_weights else weights

    def get_config(self):
        return {**super().get_config(), **self.config}
