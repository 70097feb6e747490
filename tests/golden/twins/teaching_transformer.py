"""The taught encoder-decoder Transformer in Keras, by hand."""

import math

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="transformer")
class InputEmbeddings(layers.Layer):
    """Token ids to vectors, scaled by sqrt(d_model)."""

    def __init__(self, d_model, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.vocab_size = vocab_size
        self.embedding = layers.Embedding(vocab_size, d_model)

    def call(self, x):
        return self.embedding(x) * math.sqrt(self.d_model)

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
        }


@keras.saving.register_keras_serializable(package="transformer")
class PositionalEncoding(layers.Layer):
    """Adds fixed sinusoids to the first seq_len positions."""

    def __init__(self, d_model, seq_len, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.seq_len = seq_len
        self.dropout_rate = dropout
        self.dropout = layers.Dropout(dropout)
        position = np.arange(seq_len)[:, None]
        frequency = np.exp(np.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = np.zeros((1, seq_len, d_model))
        pe[0, :, 0::2] = np.sin(position * frequency)
        pe[0, :, 1::2] = np.cos(position * frequency)
        self.pe = self.add_weight(shape=pe.shape, initializer="zeros", trainable=False, name="pe")
        self.pe.assign(pe)

    def call(self, x, training=None):
        x = x + self.pe[:, : ops.shape(x)[1], :]
        return self.dropout(x, training=training)

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "seq_len": self.seq_len,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class LayerNormalization(layers.Layer):
    """(x - mean) / (std + eps) over the last axis, with the unbiased standard deviation."""

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


@keras.saving.register_keras_serializable(package="transformer")
class FeedForwardBlock(layers.Layer):
    """Two linear layers with a relu and dropout between them."""

    def __init__(self, d_model, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.d_ff = d_ff
        self.dropout_rate = dropout
        self.linear_1 = layers.Dense(d_ff)
        self.dropout = layers.Dropout(dropout)
        self.linear_2 = layers.Dense(d_model)

    def call(self, x, training=None):
        x = ops.relu(self.linear_1(x))
        return self.linear_2(self.dropout(x, training=training))

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "d_ff": self.d_ff,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class MultiHeadAttentionBlock(layers.Layer):
    """Scaled dot-product attention in h heads."""

    def __init__(self, d_model, h, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.h = h
        self.d_k = d_model // h
        self.dropout_rate = dropout
        self.w_q = layers.Dense(d_model, use_bias=False)
        self.w_k = layers.Dense(d_model, use_bias=False)
        self.w_v = layers.Dense(d_model, use_bias=False)
        self.w_o = layers.Dense(d_model, use_bias=False)
        self.dropout = layers.Dropout(dropout)

    def split_heads(self, x):
        """(batch, length, d_model) to (batch, h, length, d_k)."""
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.h, self.d_k))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, q, k, v, mask, training=None):
        query = self.split_heads(self.w_q(q))
        key = self.split_heads(self.w_k(k))
        value = self.split_heads(self.w_v(v))

        attention_scores = query @ ops.swapaxes(key, -2, -1) / math.sqrt(self.d_k)
        attention_scores = ops.where(mask == 0, -1e9, attention_scores)
        attention_scores = ops.softmax(attention_scores, axis=-1)
        attention_scores = self.dropout(attention_scores, training=training)
        x = attention_scores @ value

        x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (-1, ops.shape(x)[1], self.d_model))
        return self.w_o(x)

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "h": self.h,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class ResidualConnection(layers.Layer):
    """x + sublayer(norm(x)): the norm comes first."""

    def __init__(self, features, dropout, **kwargs):
        super().__init__(**kwargs)
        self.features = features
        self.dropout_rate = dropout
        self.dropout = layers.Dropout(dropout)
        self.norm = LayerNormalization(features)

    def call(self, x, sublayer, training=None):
        return x + self.dropout(sublayer(self.norm(x)), training=training)

    def get_config(self):
        return {
            **super().get_config(),
            "features": self.features,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class EncoderBlock(layers.Layer):
    """Self-attention and feed-forward, each with its residual connection."""

    def __init__(self, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.h = h
        self.d_ff = d_ff
        self.dropout_rate = dropout
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = [ResidualConnection(d_model, dropout) for _ in range(2)]

    def call(self, x, src_mask, training=None):
        x = self.residual_connections[0](
            x,
            sublayer=lambda x: self.self_attention_block(x, x, x, src_mask, training=training),
            training=training,
        )
        return self.residual_connections[1](
            x, sublayer=lambda x: self.feed_forward_block(x, training=training), training=training
        )

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "h": self.h,
            "d_ff": self.d_ff,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class Encoder(layers.Layer):
    """A stack of EncoderBlocks and a final norm."""

    def __init__(self, num_layers, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.num_layers = num_layers
        self.d_model = d_model
        self.h = h
        self.d_ff = d_ff
        self.dropout_rate = dropout
        self.layers = [EncoderBlock(d_model, h, d_ff, dropout) for _ in range(num_layers)]
        self.norm = LayerNormalization(d_model)

    def call(self, x, mask, training=None):
        for layer in self.layers:
            x = layer(x, mask, training=training)
        return self.norm(x)

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "d_model": self.d_model,
            "h": self.h,
            "d_ff": self.d_ff,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class DecoderBlock(layers.Layer):
    """Self-attention, cross-attention and feed-forward, each with its residual connection."""

    def __init__(self, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.d_model = d_model
        self.h = h
        self.d_ff = d_ff
        self.dropout_rate = dropout
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.cross_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = [ResidualConnection(d_model, dropout) for _ in range(3)]

    def call(self, x, encoder_output, src_mask, tgt_mask, training=None):
        x = self.residual_connections[0](
            x,
            sublayer=lambda x: self.self_attention_block(x, x, x, tgt_mask, training=training),
            training=training,
        )
        x = self.residual_connections[1](
            x,
            sublayer=lambda x: self.cross_attention_block(
                x, encoder_output, encoder_output, src_mask, training=training
            ),
            training=training,
        )
        return self.residual_connections[2](
            x, sublayer=lambda x: self.feed_forward_block(x, training=training), training=training
        )

    def get_config(self):
        return {
            **super().get_config(),
            "d_model": self.d_model,
            "h": self.h,
            "d_ff": self.d_ff,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
class Decoder(layers.Layer):
    """A stack of DecoderBlocks and a final norm."""

    def __init__(self, num_layers, d_model, h, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.num_layers = num_layers
        self.d_model = d_model
        self.h = h
        self.d_ff = d_ff
        self.dropout_rate = dropout
        self.layers = [DecoderBlock(d_model, h, d_ff, dropout) for _ in range(num_layers)]
        self.norm = LayerNormalization(d_model)

    def call(self, x, encoder_output, src_mask, tgt_mask, training=None):
        for layer in self.layers:
            x = layer(x, encoder_output, src_mask, tgt_mask, training=training)
        return self.norm(x)

    def get_config(self):
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "d_model": self.d_model,
            "h": self.h,
            "d_ff": self.d_ff,
            "dropout": self.dropout_rate,
        }


@keras.saving.register_keras_serializable(package="transformer")
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


@keras.saving.register_keras_serializable(package="transformer")
class Transformer(layers.Layer):
    """Source and target ids with their masks to logits (batch, target length, vocabulary)."""

    def __init__(
        self,
        src_vocab_size,
        tgt_vocab_size,
        src_seq_len,
        tgt_seq_len,
        d_model=512,
        num_layers=6,
        h=8,
        dropout=0.1,
        d_ff=2048,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.src_vocab_size = src_vocab_size
        self.tgt_vocab_size = tgt_vocab_size
        self.src_seq_len = src_seq_len
        self.tgt_seq_len = tgt_seq_len
        self.d_model = d_model
        self.num_layers = num_layers
        self.h = h
        self.dropout_rate = dropout
        self.d_ff = d_ff
        self.encoder = Encoder(num_layers, d_model, h, d_ff, dropout)
        self.decoder = Decoder(num_layers, d_model, h, d_ff, dropout)
        self.src_embed = InputEmbeddings(d_model, src_vocab_size)
        self.tgt_embed = InputEmbeddings(d_model, tgt_vocab_size)
        self.src_pos = PositionalEncoding(d_model, src_seq_len, dropout)
        self.tgt_pos = PositionalEncoding(d_model, tgt_seq_len, dropout)
        self.projection_layer = ProjectionLayer(tgt_vocab_size)

    def encode(self, src, src_mask, training=None):
        src = self.src_embed(src)
        src = self.src_pos(src, training=training)
        return self.encoder(src, src_mask, training=training)

    def decode(self, encoder_output, src_mask, tgt, tgt_mask, training=None):
        tgt = self.tgt_embed(tgt)
        tgt = self.tgt_pos(tgt, training=training)
        return self.decoder(tgt, encoder_output, src_mask, tgt_mask, training=training)

    def project(self, x):
        return self.projection_layer(x)

    def call(self, src, tgt, src_mask, tgt_mask, training=None):
        encoder_output = self.encode(src, src_mask, training=training)
        decoder_output = self.decode(encoder_output, src_mask, tgt, tgt_mask, training=training)
        return self.project(decoder_output)

    def get_config(self):
        return {
            **super().get_config(),
            "src_vocab_size": self.src_vocab_size,
            "tgt_vocab_size": self.tgt_vocab_size,
            "src_seq_len": self.src_seq_len,
            "tgt_seq_len": self.tgt_seq_len,
            "d_model": self.d_model,
            "num_layers": self.num_layers,
            "h": self.h,
            "dropout": self.dropout_rate,
            "d_ff": self.d_ff,
        }


def build_model(weights=None):
    """A small model, with the weights of the file `weights` where one is given."""
    src = keras.Input((None,), dtype="int64", name="src")
    tgt = keras.Input((None,), dtype="int64", name="tgt")
    src_mask = keras.Input((1, 1, None), dtype="int64", name="src_mask")
    tgt_mask = keras.Input((1, None, None), dtype="int64", name="tgt_mask")
    transformer = Transformer(
        31, 37, 97, 101, d_model=24, num_layers=2, h=4, dropout=0.1, d_ff=40, name="transformer"
    )
    inputs = [src, tgt, src_mask, tgt_mask]
    model = keras.Model(inputs, transformer(*inputs))
    if weights is not None:
        model.load_weights(weights)
    return model
