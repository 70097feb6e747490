"""Blocks with and without a shortcut, with and without a stride, are one class."""

import warnings

import keras
import numpy as np
import torch
from torch import nn

import diglot


class Inverted(nn.Module):
    def __init__(self, in_chs, out_chs, stride):
        super().__init__()
        self.has_skip = in_chs == out_chs and stride == 1
        self.expand = nn.Conv2d(in_chs, 3 * in_chs, 1, bias=False)
        self.depthwise = nn.Conv2d(
            3 * in_chs, 3 * in_chs, 3, stride, 1, groups=3 * in_chs, bias=False
        )
        self.project = nn.Conv2d(3 * in_chs, out_chs, 1)

    def forward(self, x):
        shortcut = x
        x = torch.relu(self.expand(x))
        x = torch.relu(self.depthwise(x))
        x = self.project(x)
        if self.has_skip:
            x = x + shortcut
        return x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Inverted(4, 6, 2), Inverted(6, 6, 1), Inverted(6, 5, 1))

    def forward(self, x):
        return self.blocks(x)


def test_one_class_with_flags_for_what_varies():
    model, x = Net().eval(), torch.randn(2, 4, 9, 12)
    translated = diglot.translate(model, x)
    source = translated.source
    assert source.count("class Inverted") == 1
    assert "if self.has_skip:\n            x = x + shortcut" in source
    assert "has_skip=True" in source and "has_skip=False" in source
    assert "padded_depthwise_conv2d(3, strides=" in source
    with torch.no_grad():
        expected = model(x).permute(0, 2, 3, 1).numpy()
    found = np.asarray(translated.model(x.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(found, expected, atol=1e-5)


class Residual(nn.Module):
    """The shortcut is a projection, or a module that does nothing."""

    def __init__(self, in_chs, out_chs):
        super().__init__()
        self.conv = nn.Conv2d(in_chs, out_chs, 3, padding=1)
        self.skip = nn.Conv2d(in_chs, out_chs, 1) if in_chs != out_chs else nn.Identity()

    def forward(self, x):
        return torch.relu(self.conv(x) + self.skip(x))


def test_a_shortcut_that_does_nothing_is_an_identity(tmp_path):
    model = nn.Sequential(Residual(3, 5), Residual(5, 5), Residual(5, 4))
    translated = diglot.translate(model, torch.randn(2, 3, 9, 7))
    assert translated.source.count("class ") == 1
    assert "if skip else layers.Identity()" in " ".join(translated.source.split())
    assert diglot.prove(translated)
    translated.model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # about a layer that was built and has nothing in it
        back = keras.models.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 9, 7, 3)).astype("float32")
    np.testing.assert_array_equal(np.asarray(back(x)), np.asarray(translated.model(x)))
