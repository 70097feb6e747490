"""Models that write to their own weights, and keep values, when they are called."""

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import diglot
from diglot.errors import Unsupported

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class PixelConv(layers.Layer):
    """Keras's own example of a PixelCNN: a convolution that may not look ahead."""

    def __init__(self, **kwargs):
        super().__init__()
        self.conv = layers.Conv2D(**kwargs)

    def build(self, input_shape):
        self.conv.build(input_shape)
        height, width, *_ = shape = self.conv.kernel.shape
        self.mask = np.zeros(shape)
        self.mask[: height // 2, ...] = 1.0
        self.mask[height // 2, : width // 2, ...] = 1.0

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


class MaskedConv2d(nn.Conv2d):
    """The same as PyTorch's users write it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("mask", torch.ones_like(self.weight))
        self.mask[:, :, 1, 1:] = 0
        self.mask[:, :, 2] = 0

    def forward(self, x):
        self.weight.data *= self.mask
        return super().forward(x)


def _proven(translation):
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.first_divergence


def test_a_masked_convolution_of_keras():
    """The weight that trains is the weight that is masked: its gradient is its own, not the mask's."""
    inputs = keras.Input((6, 5, 1))
    x = PixelConv(filters=4, kernel_size=5, activation="relu", padding="same")(inputs)
    model = keras.Model(inputs, PixelConv(filters=2, kernel_size=3, padding="same")(x))
    translation = diglot.translate(model, to="torch")
    assert (
        "with torch.no_grad():\n            self.conv.weight.mul_(self.mask)" in translation.source
    )
    _proven(translation)
    exported = torch.export.export(translation.model, (torch.randn(2, 1, 6, 5),))
    assert "set_grad_enabled" in str(exported.graph)


def test_a_masked_convolution_of_pytorch():
    """Though ``torch.export`` cannot follow ``weight.data``."""
    model = nn.Sequential(MaskedConv2d(1, 4, 3, padding=1), nn.ReLU(), MaskedConv2d(4, 2, 3))
    translation = diglot.translate(model, torch.randn(2, 1, 6, 5))
    assert "self.weight.assign(self.weight * self.mask)" in translation.source
    _proven(translation)


class Halved(keras.Model):
    """Writes to a weight that is one of two in PyTorch."""

    def __init__(self):
        super().__init__()
        self.gru = layers.GRU(4)

    def call(self, x):
        y = self.gru(x)
        self.gru.cell.bias.assign(self.gru.cell.bias * 0.5)
        return y


def test_an_assignment_that_cannot_be_translated_is_refused():
    """With the author's line; it was dropped in silence."""
    model = Halved()
    model(np.zeros((2, 3, 5), "float32"))
    with pytest.raises(Unsupported, match=r"test_own_weights\.py:\d+: Variable\.assign"):
        diglot.translate(model, np.zeros((2, 3, 5), "float32"), to="torch")


class Centred(keras.Model):
    """Subtracts a moving average that it keeps, of what a trained layer made; counts its mean loss."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(6), layers.Dense(2)
        self.seen = keras.metrics.Mean()

    def build(self, input_shape):
        self.mean = self.add_weight(shape=(6,), initializer="zeros", trainable=False, name="mean")

    def call(self, x):
        x = self.first(x)
        before = self.mean * 2.0
        self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=0))
        self.seen.update_state(ops.mean(x))
        return self.last(x - self.mean + before)


def test_what_is_kept_keeps_no_gradient():
    """A second backward pass must not go through the first call again."""
    model = Centred()
    model(np.zeros((2, 5), "float32"))
    translation = diglot.translate(model, np.random.randn(4, 5).astype("float32"), to="torch")
    _proven(translation)
    for _ in range(2):
        translation.model(torch.randn(3, 5)).sum().backward()
    assert translation.model.mean.grad_fn is None


class Penalised(keras.Model):
    """Adds to its loss in both of Keras's ways."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(6, kernel_regularizer="l2", name="first")
        self.last = layers.Dense(2)

    def call(self, x):
        x = self.first(x)
        self.add_loss(ops.sum(x**2))
        return self.last(x)

    def train_step(self, data):
        return super().train_step(data)


def test_what_is_for_training_alone_is_said():
    """In the program, and in the proof; the model that is read keeps its losses."""
    model = Penalised()
    x = np.random.randn(4, 5).astype("float32")
    model(x)
    translation = diglot.translate(model, x, to="torch")
    assert f"``first`` (regularizer), ``{model.name}``" in translation.source
    proof = diglot.prove(translation)
    assert proof.verdict == "proven"
    assert f"what {model.name} does for training alone (train_step, add_loss)" in [
        n["what"] for n in proof.not_compared
    ]
    assert len(model.losses) == 2 and all(np.isfinite(float(loss)) for loss in model.losses)
