"""Stochastic depth as timm, transformers and torchvision write it becomes Dropout with a noise shape."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import diglot


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


class Block(nn.Module):
    """A residual block."""

    def __init__(self, kind, convolutional):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1) if convolutional else nn.Linear(5, 5)
        self.drop_path = kind(0.2)

    def forward(self, x):
        return x + self.drop_path(self.layer(x))


@pytest.mark.parametrize("kind", [DropPath, FlooredDropPath])
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


def test_other_noise_is_refused():
    """Noise that is not one number for each row stays what it was: random, and refused."""

    class Noise(nn.Module):
        def forward(self, x):
            return x * x.new_empty(x.shape).bernoulli_(0.8).div_(0.8)

    with pytest.raises(diglot.Unsupported, match="random numbers"):
        diglot.translate(Noise(), torch.randn(2, 4, 5))
