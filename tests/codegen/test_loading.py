"""A saved model is loaded without a word from Keras."""

import warnings

import keras
import torch
from torch import nn

import diglot


class Inner(nn.Module):
    """A module with a layer of its own."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.fc(x)) + x


class Outer(nn.Module):
    """Modules in a module."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Inner() for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_a_saved_model_is_loaded_without_warnings(tmp_path):
    """Keras would say that a layer without `build()` has unbuilt state."""
    x = torch.randn(3, 4)
    translation = diglot.translate(Outer().eval(), x)
    translation.model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = keras.models.load_model(tmp_path / "model.keras")
    expected = translation.model(x.numpy())
    assert keras.ops.max(abs(again(x.numpy()) - expected)) == 0
