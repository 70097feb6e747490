"""A Linear that is called several times, each time on a flatten: its rows are turned once, or not at all."""

import numpy as np
import torch
from torch import nn

import diglot


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.fc = nn.Linear(5 * 4 * 3, 7)

    def embed(self, x):
        return self.fc(torch.relu(torch.flatten(torch.relu(self.conv(x)), 1)))

    def forward(self, a, b):
        return self.embed(a) - self.embed(b)


class FirstInAnotherOrder(Twins):
    """The second call's features are those of a plain input, which keeps PyTorch's order."""

    def forward(self, a, b):
        return self.embed(a) - self.fc(torch.flatten(b, 1))


def gap(model, inputs, turn):
    translation = diglot.translate(model.eval(), inputs)
    with torch.no_grad():
        expected = model(*inputs).numpy()
    arrays = [
        x.permute(0, 2, 3, 1).numpy() if t else x.numpy() for x, t in zip(inputs, turn, strict=True)
    ]
    found = np.asarray(translation.model(arrays, training=False))
    return translation.source, np.abs(found - expected).max()


def test_the_rows_of_a_shared_linear_are_turned_once():
    source, error = gap(Twins(), (torch.randn(2, 2, 6, 5), torch.randn(2, 2, 6, 5)), (True, True))
    assert error < 1e-5
    assert "ops.transpose" not in source


def test_calls_in_different_orders_agree_on_one():
    inputs = (torch.randn(2, 2, 6, 5), torch.randn(2, 5, 4, 3))
    source, error = gap(FirstInAnotherOrder(), inputs, (True, False))
    assert error < 1e-5
    assert source.count("ops.transpose") == 1
