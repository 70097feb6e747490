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


def test_what_pytorch_does_not_train_keras_does_not_train(tmp_path):
    """A layer, an item of a list, a layer of a sequence, a weight; of a class of which other layers are trained."""
    model = nn.Sequential(Outer(), nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    model[0].blocks[0].requires_grad_(False)
    model[1][0].requires_grad_(False)
    translation = diglot.translate(model, torch.randn(2, 4))
    assert translation.source.count("class Inner") == 1
    for made in (translation.model, _saved(translation.model, tmp_path)):
        trained = {v.path.rpartition("/")[0].rpartition("/")[2] for v in made.trainable_weights}
        assert len(made.trainable_weights) == sum(p.requires_grad for p in model.parameters())
        assert len(trained) == 2
    entries = translation.weight_map.entries
    live = translation.weight_map.variables(translation.model)
    assert all(live[e.target].trainable == e.trainable for e in entries)


def _saved(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")
