"""What masks are simplified to keeps its shape, dtype and values."""

import numpy as np
import pytest
import torch
from torch import nn

import diglot


class Seen(nn.Module):
    """A conjunction with ``True`` in a shape of its own."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, mask):
        return mask & torch.ones(self.shape, dtype=torch.bool)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 1, 1), (3, 4, 5), (2, 1, 1, 1)], ids=str)
def test_and_true_keeps_the_shape(shape):
    mask = torch.rand(4, 5) > 0.5
    translation = diglot.translate(Seen(*shape), mask, dynamic={})
    expected = Seen(*shape)(mask).numpy()
    np.testing.assert_array_equal(np.asarray(translation.model(mask.numpy())), expected)


def test_and_true_of_the_same_shape_is_dropped():
    translation = diglot.translate(Seen(1, 5), torch.rand(4, 5) > 0.5, dynamic={})
    assert "logical_and" not in translation.source
    assert "ones" not in translation.source
    assert "&" not in translation.source


def test_times_true_of_integers_keeps_the_dtype():
    class Times(nn.Module):
        def forward(self, mask):
            return mask * torch.ones(5, dtype=torch.bool)

    numbers = torch.randint(0, 7, (4, 5))
    translation = diglot.translate(Times(), numbers, dynamic={})
    np.testing.assert_array_equal(np.asarray(translation.model(numbers.numpy())), numbers.numpy())
