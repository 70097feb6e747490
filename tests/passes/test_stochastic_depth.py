"""Stochastic depth as timm, transformers and torchvision write it becomes Dropout with a noise shape."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class DropPath(nn.Module):
    """timm's."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        random_tensor = x.new_empty(shape).bernoulli_(keep_prob)
        random_tensor.div_(keep_prob)
        return x * random_tensor


class FlooredDropPath(DropPath):
    """That of transformers."""

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        random_tensor = keep_prob + torch.rand(shape, dtype=x.dtype, device=x.device)
        random_tensor.floor_()
        return x.div(keep_prob) * random_tensor


class ComparedDropPath(DropPath):
    """As a layer of Keras is written."""

    def forward(self, x):
        if not self.training:
            return x
        kept = (torch.rand((x.shape[0],) + (1,) * (x.ndim - 1)) > self.drop_prob).to(x.dtype)
        return x / (1 - self.drop_prob) * kept


class OnesDropPath(DropPath):
    """That of the programs that Diglot writes."""

    def forward(self, x):
        keep = x.new_ones(x.shape[0], *[1] * (x.dim() - 1))
        return x * nn.functional.dropout(keep, self.drop_prob, self.training)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, kind, convolutional):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1) if convolutional else nn.Linear(5, 5)
        self.drop_path = kind(0.2)

    def forward(self, x):
        return x + self.drop_path(self.layer(x))


@pytest.mark.parametrize("kind", [DropPath, FlooredDropPath, ComparedDropPath, OnesDropPath])
@pytest.mark.parametrize(("convolutional", "shape"), [(False, (2, 4, 5)), (True, (2, 3, 4, 5))])
def test_whole_rows_are_dropped(kind, convolutional, shape):
    """The same in evaluation; in training a row is dropped whole or kept and scaled by 1 / 0.8."""
    model = Block(kind, convolutional)
    translation = diglot.translate(model, torch.randn(shape))
    ones = ", ".join(["1"] * (len(shape) - 1))
    assert f"layers.Dropout(0.2, noise_shape=(None, {ones}))" in translation.source
    x = torch.randn(400, *shape[1:])
    own = np.moveaxis(x.numpy(), 1, -1) if convolutional else x.numpy()
    expected = model.eval()(x).detach().numpy()
    expected = np.moveaxis(expected, 1, -1) if convolutional else expected
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(translation.model(own, training=False)), expected, atol=1e-5
    )
    trained = keras.ops.convert_to_numpy(translation.model(own, training=True)) - own
    branch = expected - own
    rows = trained.reshape(400, -1), (branch / 0.8).reshape(400, -1)
    dropped = np.abs(rows[0]).max(axis=1) < 1e-6
    np.testing.assert_allclose(rows[0][~dropped], rows[1][~dropped], atol=1e-4)
    assert 40 < dropped.sum() < 125


def test_keras_dropout_of_rows_is_a_module():
    """Of its own name, with the same distribution; in evaluation it is not there."""
    layers = keras.layers
    inputs = keras.Input((4, 5, 3))
    branch = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="drop")(
        layers.Conv2D(3, 1, name="conv")(inputs)
    )
    model = keras.Model(inputs, layers.Add()([branch, inputs]))
    translation = diglot.translate(model, to="torch")
    assert "self.drop = DropPath(0.2)" in translation.source
    network, x = translation.model, torch.rand(400, 3, 4, 5)
    with torch.no_grad():
        branch = network.eval()(x) - x
        trained = network.train()(x) - x
    dropped = trained.flatten(1).abs().amax(1) < 1e-6
    torch.testing.assert_close(trained[~dropped], branch[~dropped] / 0.8, rtol=1e-4, atol=1e-5)
    assert 40 < dropped.sum() < 125
    assert diglot.prove(translation).verdict == "proven"


def test_noise_in_training_alone_asks_for_the_mode():
    """Other layers that draw in training only: both ways are in the program."""
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.GaussianNoise(0.3)(inputs))
    translation = diglot.translate(model, to="torch")
    assert "if self.training else inputs" in translation.source
    x = torch.ones(200, 5)
    assert torch.equal(translation.model.eval()(x), x)
    assert 0.2 < (translation.model.train()(x) - x).std() < 0.4


def test_other_noise_is_refused():
    """Noise that is not one number for each row stays what it was: random, and refused."""

    class Noise(nn.Module):
        def forward(self, x):
            return x * x.new_empty(x.shape).bernoulli_(0.8).div_(0.8)

    with pytest.raises(diglot.Unsupported, match="random numbers"):
        diglot.translate(Noise(), torch.randn(2, 4, 5))
