"""Keras layers whose ``call`` uses TensorFlow's own functions: their sublayers, names and modes stay what they are."""

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402
from diglot.errors import Unsupported  # noqa: E402


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim):
        super().__init__()
        self.token_emb = layers.Embedding(vocab_size, embed_dim)
        self.pos_emb = layers.Embedding(maxlen, embed_dim)

    def call(self, x):
        maxlen = tf.shape(x)[-1]
        positions = tf.range(start=0, limit=maxlen, delta=1)
        positions = self.pos_emb(positions)
        return self.token_emb(x) + positions


class SelfAttention(layers.Layer):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.query = layers.Dense(embed_dim)
        self.key = layers.Dense(embed_dim)

    def heads(self, x):
        x = tf.reshape(x, (tf.shape(x)[0], -1, self.num_heads, x.shape[-1] // self.num_heads))
        return tf.transpose(x, perm=[0, 2, 1, 3])

    def call(self, inputs):
        query, key = self.heads(self.query(inputs)), self.heads(self.key(inputs))
        scores = tf.matmul(query, key, transpose_b=True)
        scores = scores / tf.math.sqrt(tf.cast(tf.shape(key)[-1], tf.float32))
        mixed = tf.matmul(tf.nn.softmax(scores, axis=-1), key)
        mixed = tf.transpose(mixed, perm=[0, 2, 1, 3])
        return tf.reshape(mixed, (tf.shape(inputs)[0], -1, inputs.shape[-1]))


class Angles(layers.Layer):
    """A table made of TensorFlow's constants, cut to the length."""

    def __init__(self, position, width):
        super().__init__()
        steps = tf.range(position, dtype=tf.float32)[:, tf.newaxis]
        self.angles = tf.math.sin(steps / tf.range(1, width + 1, dtype=tf.float32))[tf.newaxis]

    def call(self, inputs):
        return inputs * 0.1 + self.angles[:, : tf.shape(inputs)[1], :]


class Gated(layers.Layer):
    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(0.3)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 10), name="w")

    def call(self, x, training=None):
        a, b = tf.split(tf.matmul(self.norm(x, training=training), self.w), 2, axis=-1)
        y = tf.concat([a * tf.sigmoid(b), self.drop(tf.nn.relu(a), training=training)], axis=-1)
        if training:
            y = y * 2.0
        return tf.where(y > 0.3, y, tf.exp(y) - tf.constant(0.7))


class Sized(layers.Layer):
    @tf.function
    def call(self, x):
        n = x.shape.as_list()[-1]
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)
        z = tf.reshape(y, tf.concat([tf.shape(y)[:-1], [n // 2, 2]], 0))
        return z + tf.zeros([tf.shape(y)[0], 1, 2]) + tf.cast(tf.shape(y)[0], y.dtype)


def randomise(model):
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(rng.standard_normal(weight.shape) * 0.4)
        if "variance" in weight.path:
            weight.assign(rng.random(weight.shape) + 0.5)
    return model


def proven(model, worker):
    translation = diglot.translate(randomise(model), to="torch")
    proof = diglot.prove(translation, worker=worker)
    assert proof.verdict == "proven", proof.reason
    return translation


def test_a_transformer_keeps_its_layers_and_its_open_length(worker):
    inputs = keras.Input((None,), dtype="int32")
    x = SelfAttention(10, 2)(TokenAndPositionEmbedding(32, 20, 10)(inputs))
    model = keras.Model(inputs, layers.Dense(2, activation=tf.nn.gelu)(x))
    translation = proven(model, worker)
    assert "positions = torch.arange(x.shape[1], device=x.device)" in translation.source
    assert "self.pos_emb = nn.Embedding(32, 10)" in translation.source
    assert "self.query = nn.Linear(10, 10)" in translation.source
    assert len(translation.info["dynamic"]) == 2


def test_a_layer_alone_in_a_model_keeps_its_open_length(worker):
    inputs = keras.Input((None, 6))
    translation = proven(keras.Model(inputs, Angles(30, 6)(inputs)), worker)
    assert ": inputs.shape[1]]" in translation.source


def test_training_is_told_from_evaluation(worker):
    model = keras.Sequential([keras.Input((7,)), Gated(), layers.Dense(3)])
    translation = proven(model, worker)
    assert "nn.BatchNorm1d(7" in translation.source and "nn.Dropout(0.3)" in translation.source
    assert "y * 2.0 if self.training else y" in translation.source
    assert "a, b = " in translation.source


def test_a_tf_function_and_a_cond_and_sizes(worker):
    inputs = keras.Input((6,))
    translation = proven(keras.Model(inputs, Sized()(inputs)), worker)
    assert "torch.where" in translation.source


class Loop(layers.Layer):
    def call(self, x):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), [0, x])[1]


def test_a_loop_of_known_length_is_written_out(worker):
    inputs = keras.Input((6,))
    translation = proven(keras.Model(inputs, Loop()(inputs)), worker)
    assert translation.source.count("* 2.0") == 3


class Distinct(layers.Layer):
    def call(self, x):
        return tf.unique(tf.reshape(x, [-1]))[0]


def test_what_has_no_rule_is_named_with_its_line():
    layer = Distinct()
    layer(np.ones((2, 3), "float32"))
    with pytest.raises(Unsupported) as caught:
        diglot.translate(layer, np.ones((2, 3), "float32"), to="torch")
    assert "tf.unique" in str(caught.value) and "test_tf_in_layers.py:" in str(caught.value)
    shape = tf.shape  # what was replaced while it was read is back
    assert shape(tf.ones([2, 3])).numpy().tolist() == [2, 3]
