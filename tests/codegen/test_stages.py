"""Stages of a network that differ in depth, width and whether they begin with a downsampling: one class."""

import ast
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

import diglot
from diglot.codegen.rows import parameters


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + torch.relu(self.conv(x))


class Stage(nn.Module):
    def __init__(self, inputs, width, depth):
        super().__init__()
        self.downsample = nn.Identity()
        if inputs != width:
            self.downsample = nn.Sequential(nn.BatchNorm2d(inputs), nn.Conv2d(inputs, width, 2, 2))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])

    def forward(self, x):
        x = self.downsample(x)
        x = self.blocks(x)
        return x


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(Stage(4, 4, 2), Stage(4, 6, 3), Stage(6, 8, 2))

    def forward(self, x):
        return self.stages(x)


def test_one_class_for_stages_of_any_depth():
    torch.manual_seed(0)
    model, x = Stages().eval(), torch.randn(2, 4, 8, 12)
    translation = diglot.translate(model, x)
    with torch.no_grad():
        expected = model(x).permute(0, 2, 3, 1).numpy()
    found = np.asarray(translation.model(x.permute(0, 2, 3, 1).numpy(), training=False))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert translation.source.count("class Stage") == 1 + translation.source.count("class Stages")
    assert "for _ in range(depth)]" in translation.source
    assert "if self.downsample is not None:\n            x = self.downsample(x)" in (
        translation.source
    )


def test_a_size_is_not_named_like_another_that_a_class_within_has_named():
    """Before, both were ``hidden_channels``, and the second one's numbers stood for both."""
    params = {"out_channels": [128, 192], "out_channels_2": [64, 128], "hidden_channels": [64, 256]}
    made = ast.parse("Inner(128, 64, 64)", mode="eval").body
    places = {0: "out_channels", 1: "hidden_channels", 2: "out_channels_2"}
    renamed, at = parameters(params, places, [SimpleNamespace(inits=[("inner", made)])])
    assert {at[p]: renamed[at[p]] for p in at} == {
        "hidden_channels_2": [128, 192],
        "hidden_channels": [64, 256],
        "out_channels": [64, 128],
    }
