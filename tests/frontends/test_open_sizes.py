"""Open sizes that a model halves and doubles again, or that it computes with: none of them is fixed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import torch.nn.functional as F
from keras import layers
from torch import nn

import diglot
from diglot.errors import BadInput

pytestmark = pytest.mark.xdist_group("open_sizes")


def keras_unet():
    def block(x, filters):
        return layers.Conv2D(filters, 3, padding="same", activation="relu")(x)

    x = inputs = keras.Input((None, None, 3), name="image")
    skips = []
    for filters in (4, 6):
        x = block(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 7)
    for filters, skip in zip((6, 4), reversed(skips), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), filters)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


def deep():
    """What is pooled five times is one pixel of the usual example."""
    inputs = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.Conv2D(4, 1)(layers.MaxPooling2D(32)(x))
    return keras.Model(inputs, layers.Add()([x, layers.UpSampling2D(32)(y)]))


class Unet(nn.Module):
    """One level; what is joined has the skip's size where ``fitted``."""

    def __init__(self, fitted=False):
        super().__init__()
        self.fitted = fitted
        self.down = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 6, 3, padding=1)
        self.up = nn.Conv2d(10, 2, 3, padding=1)

    def forward(self, x):
        skip = self.down(x)
        y = self.middle(F.max_pool2d(skip, 2))
        y = (
            F.interpolate(y, size=skip.shape[2:])
            if self.fitted
            else F.interpolate(y, scale_factor=2.0)
        )
        return self.up(torch.cat([skip, y], dim=1))


class Even(Unet):
    """Its author asks for the size, and does something else where it is odd."""

    def forward(self, x):
        return super().forward(x if x.shape[2] % 2 == 0 else x[:, :, 1:])


SIDES = {"image": {0: True, 2: True, 3: True}}


def sides(translation):
    return [about for about in translation.info["dynamic"].values() if about["axis"] > 0]


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_unet_of_keras_takes_every_size_that_it_took(worker):
    model = keras_unet()
    translation = diglot.translate(model, to="torch")
    assert [about["multiple"] for about in sides(translation)] == [4, 4]
    assert not translation.info["warnings"]
    assert diglot.prove(translation, worker=worker).verdict == "proven"
    image = np.random.default_rng(0).standard_normal((1, 20, 36, 3)).astype("float32")
    with torch.no_grad():
        made = translation.model.eval()(torch.from_numpy(image).permute(0, 3, 1, 2))
    expected = np.moveaxis(np.asarray(model(image)), -1, 1)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error::UserWarning")
def test_examples_are_long_enough_for_sizes_to_differ_from_1(worker):
    translation = diglot.translate(deep(), to="torch")
    assert [about["multiple"] for about in sides(translation)] == [32, 32]
    assert diglot.prove(translation, worker=worker).verdict == "proven"


def test_a_unet_of_pytorch_says_which_sizes_it_takes(worker):
    translation = diglot.translate(
        Unet(), torch.randn(2, 3, 12, 16), dynamic={"x": {0: True, 2: True, 3: True}}
    )
    assert "keras.Input((None, None, 3)" in translation.source
    assert "``x`` holds a multiple of 2 along axis 1, as in the source." in translation.source
    assert "raise" not in translation.source
    assert diglot.prove(translation, worker=worker).verdict == "proven"


@pytest.mark.parametrize(("make", "multiple"), [(lambda: Unet(fitted=True), None), (Even, 0)])
def test_sizes_that_the_author_asks_for_are_as_they_were(make, multiple):
    """What fits itself takes every size; what does something else for some is of one alone."""
    translation = diglot.translate(
        make(), torch.randn(2, 3, 12, 16), dynamic={"x": {0: True, 2: True, 3: True}}
    )
    assert not any("multiple" in about for about in sides(translation))
    assert (2 in {about["axis"] for about in sides(translation)}) == (multiple is None)


def priors(image):
    """The middles of a detector's cells, by way of floats as authors of detectors write it."""
    side = tf.cast(tf.shape(image)[1:3], tf.float32)
    rows, columns = tf.unstack(tf.math.ceil(side / 8.0))
    x, y = tf.meshgrid((tf.range(columns) + 0.5) * 8.0, (tf.range(rows) + 0.5) * 8.0)
    found = tf.stack([x / side[1], y / side[0]], -1)
    return tf.reshape(found, [-1, 2]) * tf.reduce_mean(image)


def graph_of(function):
    signature = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    return tf.function(function).get_concrete_function(signature)


def test_ranges_may_be_as_long_as_a_size_that_went_through_floats(worker):
    translation = diglot.translate(graph_of(priors), to="torch")
    assert (
        "torch.arange((" in translation.source
        and "torch.stack([torch.full" not in translation.source
    )
    assert len(sides(translation)) == 2 and not any("multiple" in s for s in sides(translation))
    assert diglot.prove(translation, worker=worker).verdict == "proven"
    image = np.random.default_rng(0).standard_normal((1, 19, 32, 3)).astype("float32")
    with torch.no_grad():
        made = translation.model(torch.from_numpy(image))
    np.testing.assert_allclose(made.numpy(), priors(image).numpy(), rtol=1e-4, atol=1e-6)


def pyramid(image):
    """A detector's neck: images below 16 pixels are too small for it, and every side is a multiple of 8."""
    kernel = tf.ones((3, 3, 3, 3)) / 27.0
    levels = [image]
    for _ in range(3):
        padded = tf.pad(levels[-1], [[0, 0], [0, 1], [0, 1], [0, 0]])
        levels.append(tf.nn.conv2d(padded, kernel, 2, "VALID"))
    x = levels.pop()
    while levels:
        x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2) + levels.pop()
    return x


def test_examples_of_a_graph_fit_its_kernels_and_its_sizes(worker):
    translation = diglot.translate(graph_of(pyramid), to="torch")
    assert [about["multiple"] for about in sides(translation)] == [8, 8]
    assert diglot.prove(translation, worker=worker).verdict == "proven"


def test_examples_of_a_graph_may_be_given_by_name():
    graph = graph_of(priors)
    image = torch.randn(1, 16, 24, 3)
    made = diglot.translate(graph, {"image": image}, to="torch")
    assert made.info["example_inputs"][0]["shape"][1:] == [16, 24, 3]
    with pytest.raises(BadInput, match=r"expected: image(.|\n)*received: picture"):
        diglot.translate(graph, {"picture": image}, to="torch")
