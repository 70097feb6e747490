"""A Transformer for translation as TensorFlow's tutorial writes it: tables of NumPy, masks, scores that are kept."""

import numpy as np
import tensorflow as tf


def positional_encoding(length, depth):
    depth = depth / 2
    positions = np.arange(length)[:, np.newaxis]
    depths = np.arange(depth)[np.newaxis, :] / depth
    angles = positions / 10000**depths
    return tf.cast(np.concatenate([np.sin(angles), np.cos(angles)], axis=-1), dtype=tf.float32)


class PositionalEmbedding(tf.keras.layers.Layer):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.d_model = d_model
        self.embedding = tf.keras.layers.Embedding(vocab_size, d_model, mask_zero=True)
        self.pos_encoding = positional_encoding(length=64, depth=d_model)

    def compute_mask(self, *args, **kwargs):
        return self.embedding.compute_mask(*args, **kwargs)

    def call(self, x):
        length = tf.shape(x)[1]
        x = self.embedding(x)
        x *= tf.math.sqrt(tf.cast(self.d_model, tf.float32))
        x = x + self.pos_encoding[tf.newaxis, :length, :]
        return x


class BaseAttention(tf.keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__()
        self.mha = tf.keras.layers.MultiHeadAttention(**kwargs)
        self.layernorm = tf.keras.layers.LayerNormalization()
        self.add = tf.keras.layers.Add()


class CrossAttention(BaseAttention):
    def call(self, x, context):
        attn_output, attn_scores = self.mha(
            query=x, key=context, value=context, return_attention_scores=True
        )
        self.last_attn_scores = attn_scores
        x = self.add([x, attn_output])
        x = self.layernorm(x)
        return x


class CausalSelfAttention(BaseAttention):
    def call(self, x):
        attn_output = self.mha(query=x, value=x, key=x, use_causal_mask=True)
        x = self.add([x, attn_output])
        x = self.layernorm(x)
        return x


class GlobalSelfAttention(BaseAttention):
    def call(self, x):
        attn_output = self.mha(query=x, value=x, key=x)
        x = self.add([x, attn_output])
        x = self.layernorm(x)
        return x


class EncoderLayer(tf.keras.layers.Layer):
    def __init__(self, d_model, num_heads, dropout_rate=0.1):
        super().__init__()
        self.self_attention = GlobalSelfAttention(
            num_heads=num_heads, key_dim=d_model, dropout=dropout_rate
        )
        self.ffn = tf.keras.layers.Dense(d_model, activation="relu")

    def call(self, x):
        x = self.self_attention(x)
        x = self.ffn(x)
        return x


class DecoderLayer(tf.keras.layers.Layer):
    def __init__(self, d_model, num_heads, dropout_rate=0.1):
        super().__init__()
        options = {"num_heads": num_heads, "key_dim": d_model, "dropout": dropout_rate}
        self.causal_self_attention = CausalSelfAttention(**options)
        self.cross_attention = CrossAttention(**options)
        self.ffn = tf.keras.layers.Dense(d_model, activation="relu")

    def call(self, x, context):
        x = self.causal_self_attention(x=x)
        x = self.cross_attention(x=x, context=context)
        self.last_attn_scores = self.cross_attention.last_attn_scores
        x = self.ffn(x)
        return x


class Encoder(tf.keras.layers.Layer):
    def __init__(self, num_layers, d_model, num_heads, vocab_size):
        super().__init__()
        self.num_layers = num_layers
        self.pos_embedding = PositionalEmbedding(vocab_size, d_model)
        self.enc_layers = [EncoderLayer(d_model, num_heads) for _ in range(num_layers)]

    def call(self, x):
        x = self.pos_embedding(x)
        for i in range(self.num_layers):
            x = self.enc_layers[i](x)
        return x


class Decoder(tf.keras.layers.Layer):
    def __init__(self, num_layers, d_model, num_heads, vocab_size):
        super().__init__()
        self.num_layers = num_layers
        self.pos_embedding = PositionalEmbedding(vocab_size, d_model)
        self.dec_layers = [DecoderLayer(d_model, num_heads) for _ in range(num_layers)]

    def call(self, x, context):
        x = self.pos_embedding(x)
        for i in range(self.num_layers):
            x = self.dec_layers[i](x, context)
        return x


class Transformer(tf.keras.Model):
    def __init__(self, num_layers, d_model, num_heads, input_vocab_size, target_vocab_size):
        super().__init__()
        self.encoder = Encoder(num_layers, d_model, num_heads, input_vocab_size)
        self.decoder = Decoder(num_layers, d_model, num_heads, target_vocab_size)
        self.final_layer = tf.keras.layers.Dense(target_vocab_size)

    def call(self, inputs):
        context, x = inputs
        context = self.encoder(context)
        x = self.decoder(x, context)
        return self.final_layer(x)


def make():
    """The model, built, and a pair of sequences of ids."""
    model = Transformer(2, 12, 3, input_vocab_size=40, target_vocab_size=50)
    rng = np.random.default_rng(0)
    inputs = (rng.integers(1, 40, (2, 7)), rng.integers(1, 50, (2, 9)))
    inputs[0][:, -2:] = 0
    model(inputs)
    return model, inputs
