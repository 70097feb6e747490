"""Reductions that keep their axes, tensors that broadcast by themselves: squeeze and excitation as people write it."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import diglot

pytestmark = pytest.mark.usefixtures("worker")

EXCITATIONS = {
    "view": lambda x, y: x * y.view(*y.shape, 1, 1),
    "None": lambda x, y: x * y[:, :, None, None],
    "unsqueeze": lambda x, y: x * y.unsqueeze(-1).unsqueeze(2),
    "expand_as": lambda x, y: x * y.reshape(*y.shape, 1, 1).expand_as(x),
    "expand": lambda x, y: x + y[..., None, None].expand(-1, -1, *x.shape[2:]),
}


class Excitation(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 5, 3)
        self.gate = nn.Linear(5, 5)

    def forward(self, x):
        x = self.conv(x)
        return self.how(x, torch.sigmoid(self.gate(x.mean((2, 3)))))


@pytest.mark.parametrize("how", EXCITATIONS)
def test_a_gate_is_seen_where_the_images_have_their_channels(how):
    translation = diglot.translate(Excitation(EXCITATIONS[how]), torch.randn(2, 3, 7, 10))
    assert "[:, None, None]" in translation.source
    assert not any(word in translation.source for word in ("reshape", "transpose", "broadcast_to"))
    assert diglot.prove(translation)


REDUCTIONS = {
    "mean": (lambda x: x.mean((2, 3)).view(*x.shape[:2], 1, 1), "ops.mean(c, axis=(1, 2), keepdims=True)"),
    "max": (lambda x: x.amax((-1, -2))[:, :, None, None], "ops.max(c, axis=(1, 2), keepdims=True)"),
    "one axis": (lambda x: x.sum(2).unsqueeze(2), "ops.sum(c, axis=1, keepdims=True)"),
}  # fmt: skip


class Reduction(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.c = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        return torch.tanh(self.how(self.c(x)))


@pytest.mark.parametrize("how", REDUCTIONS)
def test_an_axis_that_is_put_back_is_kept(how):
    make, written = REDUCTIONS[how]
    translation = diglot.translate(Reduction(make), torch.randn(2, 3, 7, 10))
    assert written.replace("(c,", "(self.c(x),") in translation.source
    assert diglot.prove(translation)


def test_an_axis_that_is_put_back_elsewhere_is_not():
    translation = diglot.translate(
        Reduction(lambda x: x.mean((2, 3)).view(x.shape[0], 1, 1, x.shape[1])),
        torch.randn(2, 3, 7, 10),
    )
    assert "keepdims" not in translation.source
    assert diglot.prove(translation)


def test_a_keras_gate_keeps_its_axes_in_pytorch():
    inputs = keras.Input((7, 10, 3))
    x = keras.layers.Conv2D(5, 3)(inputs)
    y = keras.layers.Reshape((1, 1, 5))(keras.layers.GlobalAveragePooling2D()(x))
    y = keras.layers.Conv2D(5, 1, activation="sigmoid")(y)
    translation = diglot.translate(keras.Model(inputs, x * y), to="torch")
    assert "mean(dim=(2, 3), keepdim=True)" in translation.source
    images = np.random.default_rng(0).normal(size=(2, 7, 10, 3)).astype("float32")
    assert translation.model(torch.from_numpy(images).permute(0, 3, 1, 2)).shape == (2, 5, 5, 8)
    assert diglot.prove(translation)
