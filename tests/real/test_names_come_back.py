"""A model that came from PyTorch has its names there again: those that Keras has no place for, too."""

from collections import OrderedDict

import keras
import numpy as np
import there_and_back
import torch
from torch import nn
from torch.nn import functional as F

import diglot
from diglot.runtime.afresh import import_afresh


def assert_same_state(model: nn.Module, back: nn.Module) -> None:
    before, after = model.state_dict(), back.state_dict()
    assert set(before) == set(after)
    for key, value in before.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, after[key]), key


class Named(nn.Module):
    """A sequence by names, with padding that Keras has a layer for; a list in which not every item has weights."""

    def __init__(self):
        super().__init__()
        block = OrderedDict(norm=nn.BatchNorm2d(8), conv=nn.Conv2d(8, 6, 1))
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, 8, 3, stride=2, padding=1),
                relu0=nn.ReLU(),
                block=nn.Sequential(block),
            )
        )
        self.layers = nn.ModuleList([nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 2)])

    def forward(self, x):
        x = self.features(x).mean((2, 3))
        for layer in self.layers:
            x = layer(x)
        return x


def seeded(cls):
    torch.manual_seed(0)
    return cls().eval()


def test_sequences_and_lists_keep_their_names_and_places():
    model, x = seeded(Named), torch.randn(2, 3, 13, 15)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert '("conv0", nn.Conv2d(3, 8, 3, stride=2, padding=1))' in back.source
    assert "nn.Linear(6, 5), nn.Identity(), nn.Linear(5, 4)" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


class Scaled(nn.BatchNorm2d):
    """A batch norm with its activation, as timm has them."""

    def forward(self, x):
        return F.silu(super().forward(x))


class Projection(nn.Module):
    """A product with a weight the other way round, as GPT-2 has them, and a table that two modules share."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class Holders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.bn1 = Scaled(5)
        self.conv2 = nn.Conv2d(5, 8, 3, bias=False)
        self.bn2 = Scaled(8, eps=1e-3)
        self.project = Projection()

    def forward(self, x):
        x = self.bn2(self.conv2(self.bn1(self.conv(x))))
        return self.project(x.mean((2, 3)))


def test_weights_that_a_module_held_itself_are_its_own_again():
    model, x = seeded(Holders), torch.randn(2, 3, 9, 11)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert "class Scaled(nn.BatchNorm2d):" in back.source
    assert "F.silu(super().forward(x))" in back.source
    assert "F.linear(x, self.weight.T, self.bias)" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)
    ours, theirs = (m.train()(x).detach() for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert torch.equal(back.model.bn1.running_mean, model.bn1.running_mean)


def test_a_model_read_from_a_translations_folder_has_them_too(tmp_path):
    """Also how the two biases of an LSTM share what Keras holds as one."""
    model, x = seeded(Tagger), torch.randint(0, 20, (3, 7))
    diglot.translate(model, x).save(tmp_path)
    loaded = import_afresh(tmp_path / "model.py").build_model(tmp_path / "model.weights.h5")
    back = diglot.translate(loaded, x.numpy().astype("int32"), to="torch")
    assert_same_state(model, back.model)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.heads = nn.ModuleDict({"tag": nn.Linear(6, 5), "chunk": nn.Linear(6, 3)})

    def forward(self, tokens):
        output, _ = self.lstm(self.embedding(tokens))
        return {name: head(F.relu(output)) for name, head in self.heads.items()}


def test_a_trained_sum_is_shared_out_between_its_parts():
    model, x = seeded(Tagger), torch.randint(0, 20, (3, 7))
    there = diglot.translate(model, x)
    bias = there.model.get_layer("tagger").lstm.cell.bias
    bias.assign(np.asarray(bias) + 0.25)
    back = diglot.translate(there.model, x.numpy().astype("int32"), to="torch")
    lstm = back.model.lstm
    torch.testing.assert_close(lstm.bias_ih_l0, model.lstm.bias_ih_l0 + 0.25)
    assert torch.equal(lstm.bias_hh_l0, model.lstm.bias_hh_l0)


def test_a_dict_of_layers_is_one_in_either_language():
    """Without a translation behind it, as in a model that its author wrote in Keras."""

    class Heads(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.heads = {"tag": keras.layers.Dense(5), "chunk": keras.layers.Dense(3)}

        def call(self, x):
            return [head(x) for head in self.heads.values()]

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Heads()(inputs))
    translation = diglot.translate(model, to="torch")
    assert set(translation.weights) == {
        f"heads.{n}.{w}" for n in ("tag", "chunk") for w in ("weight", "bias")
    }
    assert 'nn.ModuleDict({"tag": nn.Linear(4, 5), "chunk": nn.Linear(4, 3)})' in translation.source


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(12, 6))

    def forward(self, x):
        return x * 2 + self.table[: x.size(1)]


class Pair(nn.Module):
    """A module with a weight of its own that is called twice."""

    def __init__(self):
        super().__init__()
        self.positions = Positions()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(3, 6)

    def forward(self, a, b):
        return self.positions(self.left(a)).mean(1) + self.positions(self.right(b)).sum(1)


def test_a_module_with_a_weight_of_its_own_that_is_called_twice_stays_one():
    model, x = seeded(Pair), (torch.randn(2, 5, 4), torch.randn(2, 7, 3))
    there = diglot.translate(model, x)
    assert "class Positions(layers.Layer):" in there.source
    assert there.source.count("self.positions(") == 2
    back = diglot.translate(there.model, there_and_back.keras_inputs(there, x), to="torch")
    assert_same_state(model, back.model)


class Pooled(nn.Module):
    """Functions that a Keras program carries, since Keras has none: PyTorch has its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool = nn.AdaptiveAvgPool2d((3, 2))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.pixel_shuffle(F.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(self.pool(x), 1))


def test_carried_functions_are_pytorchs_own_again():
    model, x = seeded(Pooled), torch.randn(2, 3, 12, 14)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert "F.adaptive_avg_pool2d(" in back.source
    assert "F.pixel_shuffle(" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)
