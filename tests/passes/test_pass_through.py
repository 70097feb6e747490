"""A module that hands an argument on unchanged does not return it."""

import numpy as np
import torch
from torch import nn

import diglot


class Block(nn.Module):
    def __init__(self, makes_bias):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.bias = nn.Linear(6, 6) if makes_bias else None

    def forward(self, x, bias=None):
        if bias is None:
            bias = self.bias(x)
        return torch.tanh(self.fc(x) + bias), bias


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block(i == 0) for i in range(4))

    def forward(self, x):
        bias = None
        for block in self.blocks:
            x, bias = block(x, bias)
        return x


class GivesItsInput(nn.Module):
    def forward(self, x):
        return x, x * 2


def test_blocks_that_share_a_value_are_a_loop():
    torch.manual_seed(0)
    model, x = Stack().eval(), torch.randn(3, 6)
    translation = diglot.translate(model, x)
    with torch.no_grad():
        expected = model(x).numpy()
    found = np.asarray(translation.model(x.numpy(), training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "for block in self.blocks[1:]:" in translation.source
    assert "x = block(x, bias)" in translation.source


def test_a_model_may_return_its_input():
    found = diglot.translate(GivesItsInput().eval(), torch.ones(2, 3)).model(np.ones((2, 3)))
    np.testing.assert_allclose([np.asarray(f)[0, 0] for f in found], [1, 2])
