"""Heads that are repeated by way of a new axis are one repeat; what only looks like it stays."""

import numpy as np
import pytest
import torch
from torch import nn

import diglot


class Repeated(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        batch, heads, length, width = x.shape
        if self.dim == 1:
            wide = x[:, :, None].expand(batch, heads, 3, length, width)
        else:  # the whole set of heads three times over, not each of them
            wide = x[:, None].expand(batch, 3, heads, length, width)
        return wide.reshape(batch, heads * 3, length, width)


@pytest.mark.parametrize("dim", [1, 0])
def test_a_repeat(dim):
    model, x = Repeated(dim), torch.randn(2, 4, 5, 6)
    translation = diglot.translate(model, x)
    found = np.asarray(translation.model(x.numpy()))
    np.testing.assert_array_equal(found, model(x).numpy())
    assert ("ops.repeat(x, 3, axis=1)" in translation.source) == (dim == 1)
