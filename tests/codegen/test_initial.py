"""A program built without its weight file starts as the author's model does, and can be trained."""

import math

import keras
import numpy as np
import pytest
import torch
from torch import nn

import diglot


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, size, layer_scale):
        super().__init__()
        self.norm = RMSNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.gamma = nn.Parameter(layer_scale * torch.ones(dim))
        mask = torch.tril(torch.ones(size, size)).view(1, size, size)
        self.register_buffer("mask", mask)

    def forward(self, x):
        length = x.shape[1]
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        scores = q @ k.transpose(-2, -1)
        scores = scores.masked_fill(self.mask[:, :length, :length] == 0, float("-inf"))
        return x + self.gamma * (scores.softmax(-1) @ v)


class Decoder(nn.Module):
    def __init__(self, dim=12, size=10, scales=(0.1, 0.1)):
        super().__init__()
        self.embed = nn.Embedding(30, dim)
        self.layers = nn.ModuleList([Attention(dim, size, s) for s in scales])
        self.norm = RMSNorm(dim)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x) * self.scale.exp()


class Vision(nn.Module):
    def __init__(self, dim=256):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 5, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        angles = torch.arange(5)[:, None] * torch.exp(
            torch.arange(0, dim, 2) * (-math.log(10000.0) / dim)
        )
        table = torch.zeros(1, 5, dim)
        table[0, :, 0::2], table[0, :, 1::2] = angles.sin(), angles.cos()
        self.register_buffer("pe", table)
        self.register_buffer("mean", torch.randn(dim))
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.head((x + self.pos_embed + self.pe - self.mean)[:, 0:2])


IDS = torch.randint(0, 30, (2, 7))


def decoder():
    return Decoder(), IDS


def vision():
    return Vision(), torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    "make, style", [(decoder, "layers"), (vision, "layers"), (vision, "functional")]
)
def test_without_weights_outputs_are_finite_and_follow_the_input(make, style, tmp_path):
    model, inputs = make()
    translated = diglot.translate(model.eval(), inputs, style=style)
    scope = {}
    exec(translated.source, scope)
    built = scope["build_model"]()
    given = inputs.numpy() if make is decoder else inputs.permute(0, 2, 3, 1).numpy()
    found = np.asarray(built(given))
    assert np.isfinite(found).all()
    assert found.std() > 1e-3
    assert np.abs(found[0] - found[1]).max() > 1e-3
    built.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(np.asarray(again(given)), found, rtol=1e-5, atol=1e-6)


def test_weights_start_as_the_author_wrote():
    source = diglot.translate(Decoder().eval(), IDS).source
    assert 'shape=(12,), initializer="ones", name="weight"' in source
    assert "initializer=keras.initializers.Constant(0.1)" in source
    assert "initializer=keras.initializers.Constant(2.659)" in source
    assert "initializer=lambda shape, dtype=None: ops.tril(ops.ones(shape, dtype))" in source
    assert "come from that file alone" not in source


def test_a_trained_scale_of_ones_still_starts_at_one():
    model = Decoder()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    source = diglot.translate(model.eval(), IDS).source
    assert 'shape=(12,), initializer="ones", name="weight"' in source
    assert source.count("class Attention(") == source.count("class RMSNorm(") == 1


def test_a_constant_that_the_author_passes_is_a_constructor_argument():
    class Scaled(Attention):
        def __init__(self, dim, size, layer_scale):
            super().__init__(dim, size, layer_scale)
            self.layer_scale = layer_scale

    model = Decoder()
    model.layers = nn.ModuleList([Scaled(12, 10, s) for s in (0.1, 0.01)])
    source = diglot.translate(model.eval(), IDS).source
    assert source.count("class Scaled(") == 1
    assert "initializer=keras.initializers.Constant(layer_scale)" in source
    assert "Scaled(layer_scale=0.1), Scaled(layer_scale=0.01)" in source


def test_rotary_frequencies_are_computed():
    class Rotary(nn.Module):
        def __init__(self, dim=8):
            super().__init__()
            self.register_buffer("inv_freq", 1.0 / 500.0 ** (torch.arange(0, dim, 2) / dim))

        def forward(self, x):
            return x[..., None] * self.inv_freq

    source = diglot.translate(Rotary(), torch.randn(2, 3)).source
    scope = {}
    exec(source, scope)
    found = np.asarray(scope["build_model"]()(np.ones((1, 3), "float32")))
    np.testing.assert_allclose(found[0, 0], Rotary().inv_freq, rtol=1e-5)
    assert "come from that file alone" not in source


def test_random_weights_are_drawn_with_a_usual_spread_and_tables_are_computed():
    source = diglot.translate(*vision()).source
    assert "initializer=keras.initializers.RandomNormal(stddev=0.02)" in source
    assert "initializer=sinusoids" in source
    assert "come from that file alone: ``mean``." in source
