"""Blocks with and without a shortcut, with and without a stride, are one class."""

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
