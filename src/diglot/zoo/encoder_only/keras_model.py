"""An encoder-only Transformer, as BERT, with the two heads of its pretraining, in Keras."""

import math

import keras
from keras import layers, ops


def sinusoids(length, width):
    """The fixed positions of "Attention is all you need": (length, width)."""
    position = ops.arange(length, dtype="float32")[:, None]
    rate = ops.exp(ops.arange(0, width, 2, dtype="float32") * (-math.log(10000.0) / width))
    angle = position * rate  # (length, width / 2)
    return ops.reshape(ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1), (length, width))


def gelu(x):
    # activation="gelu" is the same function, but in float64 it is only as exact as float32.
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


@keras.saving.register_keras_serializable("encoder_only")
class Block(layers.Layer):
    """Attention and a feed-forward network, each followed by a norm of its sum with its input."""

    def __init__(self, d_model, num_heads, d_ff, dropout, **kwargs):
        super().__init__(**kwargs)
        self.sizes = dict(d_model=d_model, num_heads=num_heads, d_ff=d_ff, dropout=dropout)
        self.attention = layers.MultiHeadAttention(num_heads, d_model // num_heads, dropout=dropout)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        self.hidden = layers.Dense(d_ff, activation="relu")
        self.hidden_dropout = layers.Dropout(dropout)
        self.output_dense = layers.Dense(d_model)
        self.output_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)

    def call(self, x, visible):
        # visible (batch, 1, length): the keys that every query may look at
        a = self.attention(x, x, attention_mask=visible)  # (batch, length, d_model)
        x = self.attention_norm(x + self.dropout(a))
        h = self.output_dense(self.hidden_dropout(self.hidden(x)))
        return self.output_norm(x + self.dropout(h))

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("encoder_only")
class EncoderOnlyTransformer(layers.Layer):
    """A vector for each token, which knows the tokens on both sides of it."""

    def __init__(
        self,
        vocab_size,
        d_model=512,
        num_heads=8,
        num_layers=6,
        d_ff=2048,
        max_length=512,
        dropout=0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sizes = dict(
            vocab_size=vocab_size,
            d_model=d_model,
            num_heads=num_heads,
            num_layers=num_layers,
            d_ff=d_ff,
            max_length=max_length,
            dropout=dropout,
        )
        self.scale = math.sqrt(d_model)
        # times sqrt(d_model): as large as the positions that are added
        normal = dict(embeddings_initializer=keras.initializers.RandomNormal(stddev=d_model**-0.5))
        self.embedding = layers.Embedding(vocab_size, d_model, **normal)
        self.segment_embedding = layers.Embedding(2, d_model, **normal)
        self.positions = self.add_weight(
            shape=(max_length, d_model),
            initializer=lambda shape, dtype: ops.cast(sinusoids(*shape), dtype),
            trainable=False,
            name="positions",
        )
        self.dropout = layers.Dropout(dropout)
        self.blocks = [Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers)]
        self.norm = layers.LayerNormalization(epsilon=1e-5)

    def call(self, tokens, segments, padding):
        # tokens, segments and padding (True: no token) are (batch, length).
        x = (self.embedding(tokens) + self.segment_embedding(segments)) * self.scale
        x = self.dropout(x + self.positions[: ops.shape(tokens)[1]])  # (batch, length, d_model)
        visible = ops.logical_not(padding)[:, None]
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("encoder_only")
class MLMHead(layers.Layer):
    """The logits of the word at each position: (batch, length, vocab)."""

    def __init__(self, d_model, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.sizes = dict(d_model=d_model, vocab_size=vocab_size)
        self.dense = layers.Dense(d_model)
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.output_dense = layers.Dense(vocab_size)

    def call(self, x):
        return self.output_dense(self.norm(gelu(self.dense(x))))

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def build_model(vocab_size, d_model=512, **sizes):
    """Which words were there, and whether the second sentence followed the first one."""
    inputs = {
        "tokens": keras.Input((None,), dtype="int32", name="tokens"),
        "segments": keras.Input((None,), dtype="int32", name="segments"),
        "padding": keras.Input((None,), dtype="bool", name="padding"),
    }
    x = EncoderOnlyTransformer(vocab_size, d_model, **sizes, name="encoder")(**inputs)
    outputs = {
        "words": MLMHead(d_model, vocab_size, name="words")(x),
        # The first token of a row stands for all of it.
        "follows": layers.Dense(2, name="follows")(x[:, 0]),
    }
    return keras.Model(inputs, outputs, name="pretraining")


def compile_model(model, optimizer):
    # Words count where they were hidden: weight 1, elsewhere 0. The usual reduction would divide by
    # the number of all tokens.
    cross_entropy = keras.losses.SparseCategoricalCrossentropy
    loss = {
        "words": cross_entropy(from_logits=True, reduction="mean_with_sample_weight"),
        "follows": cross_entropy(from_logits=True),
    }
    model.compile(optimizer, loss)
