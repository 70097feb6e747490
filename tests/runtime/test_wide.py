"""A Keras model made in float32 computes in float64 where it is, and is afterwards as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from diglot.runtime.keras_exact import exact, set_width
from diglot.runtime.wide import Widened, wide_literals


class Spelt(layers.Layer):
    """Says float32 in so many words, in every way that people do."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(units)
        self.scale = tf.constant([0.5, 0.25])
        self.table = {"steps": np.linspace(0, 1, units, dtype=np.float32)}
        self.traced = tf.function(lambda x: tf.cast(x, tf.float32) + self.dense.bias)

    def build(self, shape):
        self.dense.build(shape)
        self.weight = self.add_weight(shape=(shape[-1],), dtype="float32", name="w")

    def call(self, x):
        x = ops.cast(x, "float32") * self.weight
        x = tf.cast(x, tf.float32) * self.scale[0] + self.table["steps"][0]
        x = self.dense(x) + tf.constant(0.1) + tf.zeros(tf.shape(x)[:1])[:, None]
        positions = tf.range(tf.shape(x)[0], dtype=tf.float32)[:, None]
        return self.traced(x + positions / tf.cast(tf.shape(x)[0], tf.float32)) * ops.ones((1,))


def inside_out(x):
    y = layers.Dense(4, activation="relu", name="first")(x)
    return ops.cast(layers.BatchNormalization()(y), "float32")


@pytest.fixture
def model():
    x = keras.Input((3,))
    y = Spelt(4)(inside_out(x))
    nested = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="inner")])
    model = keras.Model(x, [nested(y), ops.mean(y, axis=-1)])
    yield model
    set_width("float32")


def test_everything_is_float64_and_then_as_it_was(model):
    x = np.random.default_rng(0).standard_normal((5, 3))
    before = [v.numpy().copy() for v in model.variables]
    held = [v._value for v in model.variables]
    single = [y.numpy() for y in model(x.astype("float32"))]
    set_width("float64")
    widened = Widened(model)
    with wide_literals():
        outputs = model(x)
        assert [y.dtype.name for y in outputs] == ["float64", "float64"]
        for ours, theirs in zip(outputs, single, strict=True):
            assert np.abs(ours.numpy() - theirs).max() < 1e-5
        for variable in model.trainable_variables:
            variable.assign(variable.value + 1.0)
    widened.restore()
    set_width("float32")
    for variable, value, own in zip(model.variables, before, held, strict=True):
        assert variable._value is own and np.array_equal(variable.numpy(), value)
    again = model(x.astype("float32"))
    assert all(np.array_equal(a, b) for a, b in zip(again, single, strict=True))
    assert {y.dtype.name for y in again} == {"float32"}


def test_nothing_stays_replaced():
    held = (tf.cast, tf.constant, ops.cast, keras.src.backend.cast, tf.math.cumsum)
    with wide_literals():
        assert tf.constant(0.1).dtype == tf.float64 and tf.constant(1).dtype == tf.int32
        assert tf.one_hot([1], 3).dtype == tf.float64
        assert tf.one_hot([1], 3, dtype=tf.int32).dtype == tf.int32
        assert float(tf.constant(0.1)) == 0.1
    assert held == (tf.cast, tf.constant, ops.cast, keras.src.backend.cast, tf.math.cumsum)
    assert tf.constant(0.1).dtype == tf.float32


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_is_exact_in_float64(approximate):
    """On TensorFlow its constants are float32, whatever the input is."""
    from math import erf, pi, tanh

    values = np.linspace(-3, 3, 13)
    if approximate:
        inner = [tanh((2 / pi) ** 0.5 * (v + 0.044715 * v**3)) for v in values]
    else:
        inner = [erf(v / 2**0.5) for v in values]
    expected = 0.5 * values * (1 + np.array(inner))
    set_width("float64")
    with exact() as used:
        found = keras.activations.gelu(ops.convert_to_tensor(values), approximate=approximate)
        raw = tf.nn.gelu(tf.constant(values, tf.float64), approximate=approximate)
    set_width("float32")
    assert used["gelu"] == 2
    assert np.abs(found.numpy() - expected).max() < 1e-15
    assert np.abs(raw.numpy() - expected).max() < 1e-15


class Response(layers.Layer):
    def call(self, x):
        return tf.nn.lrn(x, depth_radius=1, alpha=1e-2, beta=0.75)


def test_ops_that_tensorflow_has_in_float32_only():
    """Pooling of volumes, and the response norm, by whatever name the model has them."""
    volumes = keras.Input((7, 6, 8, 2))
    x = layers.AveragePooling3D(2)(layers.MaxPooling3D(3, strides=1, padding="same")(volumes))
    images = keras.Input((5, 4, 6))
    model = keras.Model([volumes, images], [x, Response()(images)])
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((2, *v.shape[1:])).astype("float32") for v in (volumes, images)]
    single = [y.numpy() for y in model(given)]
    set_width("float64")
    widened = Widened(model)
    try:
        with wide_literals():
            wide = model([v.astype("float64") for v in given])
    finally:
        widened.restore()
        set_width("float32")
    for ours, theirs in zip(wide, single, strict=True):
        assert ours.dtype.name == "float64"
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
