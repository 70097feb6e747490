"""The encoder-decoder Transformer from scratch, in Keras."""

import math

import keras
import numpy as np
from keras import layers, ops

PAD = 0


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class InputEmbeddings(layers.Layer):
    """Token ids (batch, length) to vectors (batch, length, d_model), scaled by √d_model."""

    def __init__(self, d_model, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.vocab_size = vocab_size
        self.embedding = layers.Embedding(vocab_size, d_model)

    def call(self, x):
        return self.embedding(x) * math.sqrt(self.d_model)

    def get_config(self):
        return {**super().get_config(), "d_model": self.d_model, "vocab_size": self.vocab_size}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class PositionalEncoding(layers.Layer):
    """Adds sinusoids, one wavelength for each pair of features: a fixed table, no parameter."""

    def __init__(self, d_model, seq_len, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.seq_len = seq_len
        self.rate = dropout
        self.dropout = layers.Dropout(dropout)
        position = np.arange(seq_len)[:, None]  # (seq_len, 1)
        frequency = np.exp(np.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = np.zeros((1, seq_len, d_model))
        pe[0, :, 0::2] = np.sin(position * frequency)
        pe[0, :, 1::2] = np.cos(position * frequency)
        self.pe = self.add_weight(shape=pe.shape, initializer="zeros", trainable=False, name="pe")
        self.pe.assign(pe)

    def call(self, x):
        return self.dropout(x + self.pe[:, : ops.shape(x)[1]])

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "seq_len": self.seq_len,
            "dropout": self.rate,
        }


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class LayerNormalization(layers.Layer):
    """Unlike layers.LayerNormalization: the unbiased standard deviation, and eps outside the root."""

    def __init__(self, features, eps=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.features = features
        self.eps = eps
        self.alpha = self.add_weight(shape=(features,), initializer="ones", name="alpha")
        self.bias = self.add_weight(shape=(features,), initializer="zeros", name="bias")

    def call(self, x):
        mean = ops.mean(x, axis=-1, keepdims=True)
        variance = ops.sum(ops.square(x - mean), axis=-1, keepdims=True) / (self.features - 1)
        return self.alpha * (x - mean) / (ops.sqrt(variance) + self.eps) + self.bias

    def get_config(self):
        return {**super().get_config(), "features": self.features, "eps": self.eps}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class FeedForwardBlock(layers.Layer):
    """Two dense layers, the same at every position."""

    def __init__(self, d_model, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.d_ff = d_ff
        self.rate = dropout
        self.linear_1 = layers.Dense(d_ff, activation="relu")
        self.dropout = layers.Dropout(dropout)
        self.linear_2 = layers.Dense(d_model)

    def call(self, x):
        return self.linear_2(self.dropout(self.linear_1(x)))

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "d_ff": self.d_ff,
            "dropout": self.rate,
        }


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class MultiHeadAttentionBlock(layers.Layer):
    """Scaled dot-product attention in h heads; the weights of the last call stay in attention_scores."""

    def __init__(self, d_model, h, dropout, **kwargs):
        super().__init__(**kwargs)
        assert d_model % h == 0, "d_model is not divisible by h"
        self.d_model = d_model
        self.h = h
        self.d_k = d_model // h
        self.rate = dropout
        self.w_q = layers.Dense(d_model, use_bias=False)
        self.w_k = layers.Dense(d_model, use_bias=False)
        self.w_v = layers.Dense(d_model, use_bias=False)
        self.w_o = layers.Dense(d_model, use_bias=False)
        self.dropout = layers.Dropout(dropout)

    def split_heads(self, x):
        """(batch, length, d_model) -> (batch, h, length, d_k)."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.h, self.d_k))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, q, k, v, mask):
        query = self.split_heads(self.w_q(q))
        key = self.split_heads(self.w_k(k))
        value = self.split_heads(self.w_v(v))
        scores = query @ ops.swapaxes(key, -2, -1) / math.sqrt(self.d_k)  # (batch, h, q, k)
        # Numbers only where the model is called eagerly: in a traced one this is a symbol.
        self.attention_scores = ops.softmax(ops.where(mask, scores, -1e9), axis=-1)
        x = self.dropout(self.attention_scores) @ value  # (batch, h, q, d_k)
        x = ops.transpose(x, (0, 2, 1, 3))
        return self.w_o(ops.reshape(x, (-1, ops.shape(x)[1], self.d_model)))

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "h": self.h,
            "dropout": self.rate,
        }


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class ResidualConnection(layers.Layer):
    """x + sublayer(norm(x)): pre-norm."""

    def __init__(self, features, dropout, **kwargs):
        super().__init__(**kwargs)
        self.features = features
        self.rate = dropout
        self.dropout = layers.Dropout(dropout)
        self.norm = LayerNormalization(features)

    def call(self, x, sublayer):
        return x + self.dropout(sublayer(self.norm(x)))

    def get_config(self):
        return {**super().get_config(), "features": self.features, "dropout": self.rate}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class EncoderBlock(layers.Layer):
    """Every position looks at all the others, both ways."""

    def __init__(self, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.config = {"d_model": d_model, "h": h, "d_ff": d_ff, "dropout": dropout}
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = [ResidualConnection(d_model, dropout) for _ in range(2)]

    def call(self, x, src_mask):
        x = self.residual_connections[0](
            x, sublayer=lambda x: self.self_attention_block(x, x, x, src_mask)
        )
        return self.residual_connections[1](x, sublayer=self.feed_forward_block)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class Encoder(layers.Layer):
    """A stack of EncoderBlocks; after pre-norm blocks a last norm is needed."""

    def __init__(self, num_layers, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        sizes = {"d_model": d_model, "h": h, "d_ff": d_ff, "dropout": dropout}
        self.config = {"num_layers": num_layers, **sizes}
        self.layers = [EncoderBlock(**sizes) for _ in range(num_layers)]
        self.norm = LayerNormalization(d_model)

    def call(self, x, src_mask):
        for layer in self.layers:
            x = layer(x, src_mask)
        return self.norm(x)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class DecoderBlock(layers.Layer):
    """Every position looks back at the target so far, then at the whole source."""

    def __init__(self, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.config = {"d_model": d_model, "h": h, "d_ff": d_ff, "dropout": dropout}
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.cross_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = [ResidualConnection(d_model, dropout) for _ in range(3)]

    def call(self, x, memory, src_mask, tgt_mask):
        x = self.residual_connections[0](
            x, sublayer=lambda x: self.self_attention_block(x, x, x, tgt_mask)
        )
        x = self.residual_connections[1](
            x, sublayer=lambda x: self.cross_attention_block(x, memory, memory, src_mask)
        )
        return self.residual_connections[2](x, sublayer=self.feed_forward_block)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class Decoder(layers.Layer):
    """A stack of DecoderBlocks and the last norm."""

    def __init__(self, num_layers, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        sizes = {"d_model": d_model, "h": h, "d_ff": d_ff, "dropout": dropout}
        self.config = {"num_layers": num_layers, **sizes}
        self.layers = [DecoderBlock(**sizes) for _ in range(num_layers)]
        self.norm = LayerNormalization(d_model)

    def call(self, x, memory, src_mask, tgt_mask):
        for layer in self.layers:
            x = layer(x, memory, src_mask, tgt_mask)
        return self.norm(x)

    def get_config(self):
        return {**super().get_config(), **self.config}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class ProjectionLayer(layers.Layer):
    """Vectors to logits over the vocabulary."""

    def __init__(self, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size
        self.proj = layers.Dense(vocab_size)

    def call(self, x):
        return self.proj(x)

    def get_config(self):
        return {**super().get_config(), "vocab_size": self.vocab_size}


@keras.saving.register_keras_serializable(package="dna_seq2seq")
class Transformer(layers.Layer):
    """Source ids and the target ids so far to logits of the next one: (batch, target length, vocab)."""

    def __init__(
        self,
        vocab_size,
        seq_len,
        d_model=512,
        num_layers=6,
        h=8,
        d_ff=2048,
        dropout=0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = {"d_model": d_model, "h": h, "d_ff": d_ff, "dropout": dropout}
        self.config = {
            "vocab_size": vocab_size,
            "seq_len": seq_len,
            "num_layers": num_layers,
            **sizes,
        }
        self.src_embed = InputEmbeddings(d_model, vocab_size)
        self.tgt_embed = InputEmbeddings(d_model, vocab_size)
        self.src_pos = PositionalEncoding(d_model, seq_len, dropout)
        self.tgt_pos = PositionalEncoding(d_model, seq_len, dropout)
        self.encoder = Encoder(num_layers, **sizes)
        self.decoder = Decoder(num_layers, **sizes)
        self.projection_layer = ProjectionLayer(vocab_size)

    def encode(self, src, src_mask):
        return self.encoder(self.src_pos(self.src_embed(src)), src_mask)

    def decode(self, memory, src_mask, tgt, tgt_mask):
        return self.decoder(self.tgt_pos(self.tgt_embed(tgt)), memory, src_mask, tgt_mask)

    def project(self, x):
        return self.projection_layer(x)

    def call(self, src, tgt):
        src_mask, tgt_mask = padding_mask(src), padding_mask(tgt) & causal_mask(tgt)
        memory = self.encode(src, src_mask)
        return self.project(self.decode(memory, src_mask, tgt, tgt_mask))

    def get_config(self):
        return {**super().get_config(), **self.config}


def padding_mask(ids):
    """(batch, 1, 1, length): True where there is something to look at."""
    return ops.not_equal(ids, PAD)[:, None, None, :]


def causal_mask(ids):
    """(length, length): True on and below the diagonal, so that nobody looks ahead."""
    position = ops.arange(ops.shape(ids)[1])
    return position[:, None] >= position[None, :]


def build_model(**sizes):
    src = keras.Input((None,), dtype="int64", name="src")
    tgt = keras.Input((None,), dtype="int64", name="tgt")
    logits = Transformer(**sizes, name="transformer")(src, tgt)
    return keras.Model({"src": src, "tgt": tgt}, logits)


def compile_model(model, optimizer):
    # The mean over all tokens that are no padding: padding has a sample weight of 0.
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(optimizer, loss, weighted_metrics=["accuracy"])
