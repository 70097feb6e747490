"""Computing in float64, whatever was computed before in the same process."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from diglot.runtime.keras_exact import exact, set_width


@pytest.fixture(autouse=True)
def restored():
    """Leave Keras in float32."""
    yield
    set_width("float32")


@pytest.mark.parametrize("width", ["float64", "float32"])
def test_a_policy_in_use_follows(width):
    """A layer made under one width fixes Keras's default policy; the next width still counts."""
    set_width("float32" if width == "float64" else "float64")
    keras.layers.Dense(2)
    set_width(width)
    layer = keras.layers.Dense(3)
    layer.build((None, 5))
    assert layer.kernel.dtype == width
    assert layer.compute_dtype == width


CONVOLUTIONS = [
    # shape of the inputs, of the kernel, strides, padding, dilation
    ((2, 7, 6), (3, 2, 9), 1, "same", 2),
    ((2, 7, 6), (3, 1, 12), 2, "same", 1),
    ((2, 7, 5, 6), (3, 2, 3, 4), 1, "valid", 1),
    ((2, 7, 5, 6), (3, 3, 1, 18), [1, 1], "same", [1, 1]),
    ((2, 7, 5, 6), (3, 2, 1, 6), (2, 1), "same", 1),
    ((2, 7, 5, 6), (3, 2, 1, 6), 1, "valid", (2, 1)),
    ((2, 4, 5, 3, 4), (2, 2, 2, 1, 8), 1, "same", 1),
]


@pytest.mark.parametrize(("shape", "kernel", "strides", "padding", "dilation"), CONVOLUTIONS)
def test_convolutions_in_groups(shape, kernel, strides, padding, dilation):
    """They are what Keras compiles, and have gradients without being compiled."""
    generator = np.random.default_rng(0)
    x, w = (tf.constant(generator.standard_normal(size)) for size in (shape, kernel))
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation}
    set_width("float64")

    def differentiated():
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = keras.ops.conv(x, w, **options)
            loss = tf.reduce_sum(y**3)
        return [y, *tape.gradient(loss, [x, w])]

    compiled = differentiated()
    tf.config.run_functions_eagerly(True)
    try:
        with exact() as used:
            ours = differentiated()
    finally:
        tf.config.run_functions_eagerly(False)
    assert used["conv"] == 1
    for a, b in zip(ours, compiled, strict=True):
        assert a.shape == b.shape and np.abs(a - b).max() < 1e-13 * np.abs(b).max()


def test_convolutions_that_are_refused_are_refused_in_the_same_words():
    """Eight outputs of three groups, and channels that no whole number of groups has."""
    set_width("float64")
    for channels, outputs in ((6, 8), (5, 6)):
        x, w = tf.zeros((2, 7, channels), tf.float64), tf.zeros((3, 2, outputs), tf.float64)
        said = []
        for scope in (exact, contextlib.nullcontext):
            with scope(), pytest.raises((ValueError, tf.errors.OpError)) as caught:
                keras.ops.conv(x, w)
            said.append(str(caught.value).splitlines()[0])
        assert said[0] == said[1]


def test_convolutions_channels_first_in_three_dimensions():
    """TensorFlow computes them on the CPU where they are compiled only; so Keras compiles them, in groups, too."""
    set_width("float64")
    generator = np.random.default_rng(0)
    x, w = (tf.constant(generator.standard_normal(s)) for s in ((2, 4, 5, 3, 4), (2, 2, 2, 2, 6)))
    y = keras.ops.conv(x, w, data_format="channels_first")
    with exact() as used:
        ours = keras.ops.conv(x, w, data_format="channels_first")
    assert used["conv"] == 1 and np.abs(ours - y).max() < 1e-13


def test_numbers_of_rescaling():
    """Keras rounds them to float32, whatever the layer computes in."""
    set_width("float64")
    layer, x = keras.layers.Rescaling(0.1, offset=0.3), np.float64([1.0, 7.0])
    with exact() as used:
        ours = layer(x)
    assert used["Rescaling"] == 1 and np.abs(ours - (x * 0.1 + 0.3)).max() < 1e-15
    assert np.abs(layer(x) - ours).max() > 1e-9
