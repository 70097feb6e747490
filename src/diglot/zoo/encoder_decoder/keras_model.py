"""An encoder-decoder Transformer, as T5: text in, text out, in Keras."""

import math

import keras
from keras import layers, ops


def sinusoids(length, width):
    """The fixed positions of "Attention is all you need": (length, width)."""
    position = ops.arange(length, dtype="float32")[:, None]
    rate = ops.exp(ops.arange(0, width, 2, dtype="float32") * (-math.log(10000.0) / width))
    angle = position * rate  # (length, width / 2)
    return ops.reshape(ops.stack([ops.sin(angle), ops.cos(angle)], axis=-1), (length, width))


@keras.saving.register_keras_serializable("encoder_decoder")
class Block(layers.Layer):
    """Attention and a feed-forward network, each followed by a norm of its sum with its input.

    With ``cross`` it is a decoder's: no position looks to its right, and a second attention looks at
    what the encoder made of the source.
    """

    def __init__(self, d_model, num_heads, d_ff, dropout, cross=False, **kwargs):
        super().__init__(**kwargs)
        self.sizes = dict(
            d_model=d_model, num_heads=num_heads, d_ff=d_ff, dropout=dropout, cross=cross
        )
        self.cross = cross
        head = (num_heads, d_model // num_heads)
        self.attention = layers.MultiHeadAttention(*head, dropout=dropout)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5)
        if cross:
            self.cross_attention = layers.MultiHeadAttention(*head, dropout=dropout)
            self.cross_norm = layers.LayerNormalization(epsilon=1e-5)
        self.hidden = layers.Dense(d_ff, activation="relu")
        self.hidden_dropout = layers.Dropout(dropout)
        self.output_dense = layers.Dense(d_model)
        self.output_norm = layers.LayerNormalization(epsilon=1e-5)
        self.dropout = layers.Dropout(dropout)

    def call(self, x, memory=None):
        a = self.attention(x, x, use_causal_mask=self.cross)  # (batch, length, d_model)
        x = self.attention_norm(x + self.dropout(a))
        if self.cross:
            x = self.cross_norm(x + self.dropout(self.cross_attention(x, memory)))
        h = self.output_dense(self.hidden_dropout(self.hidden(x)))
        return self.output_norm(x + self.dropout(h))

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("encoder_decoder")
class EncoderDecoderTransformer(layers.Layer):
    """Predict each next token of a target from those before it and from the whole source."""

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
        normal = keras.initializers.RandomNormal(stddev=d_model**-0.5)
        # source and target share it
        self.embedding = layers.Embedding(vocab_size, d_model, embeddings_initializer=normal)
        self.positions = self.add_weight(
            shape=(max_length, d_model),
            initializer=lambda shape, dtype: ops.cast(sinusoids(*shape), dtype),
            trainable=False,
            name="positions",
        )
        self.dropout = layers.Dropout(dropout)
        sizes = (d_model, num_heads, d_ff, dropout)
        self.encoder = [Block(*sizes) for _ in range(num_layers)]
        self.decoder = [Block(*sizes, cross=True) for _ in range(num_layers)]
        self.logits = layers.Dense(vocab_size)

    def embed(self, tokens):
        x = self.embedding(tokens) * self.scale  # (batch, length, d_model)
        return self.dropout(x + self.positions[: ops.shape(tokens)[1]])

    def encode(self, source):
        x = self.embed(source)
        for block in self.encoder:
            x = block(x)
        return x  # (batch, source, d_model)

    def decode(self, memory, target):
        x = self.embed(target)
        for block in self.decoder:
            x = block(x, memory)
        return self.logits(x)  # (batch, target, vocab)

    def call(self, source, target):
        return self.decode(self.encode(source), target)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def generate(model, source, start, end, count):
    """The likeliest tokens, one after the other, after `start`: until `end` in each row, or `count`."""
    transformer = model.get_layer("transformer")
    memory = transformer.encode(source)  # once
    tokens = ops.full((len(source), 1), start, dtype="int32")
    for _ in range(count):
        chosen = ops.argmax(transformer.decode(memory, tokens)[:, -1], axis=-1, keepdims=True)
        tokens = ops.concatenate([tokens, ops.cast(chosen, "int32")], axis=1)
        if ops.all(ops.any(tokens == end, axis=1)):
            break
    return tokens[:, 1:]


def build_model(**sizes):
    inputs = {
        "source": keras.Input((None,), dtype="int32", name="source"),
        "target": keras.Input((None,), dtype="int32", name="target"),
    }
    outputs = EncoderDecoderTransformer(**sizes, name="transformer")(**inputs)
    return keras.Model(inputs, outputs)


def compile_model(model, optimizer):
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
