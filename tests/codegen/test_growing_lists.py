"""A module that takes a list of tensors, longer at each call, is one class; its calls are a loop."""

import numpy as np
import torch
from torch import nn

import diglot


class DenseLayer(nn.Module):
    def __init__(self, width, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, growth, 3, padding=1)

    def forward(self, features):
        return self.conv(torch.relu(self.norm(torch.cat(features, 1))))


class DenseBlock(nn.ModuleDict):
    def __init__(self, num_layers, width, growth):
        super().__init__()
        for i in range(num_layers):
            self.add_module(f"layer{i + 1}", DenseLayer(width + i * growth, growth))

    def forward(self, first):
        features = [first]
        for layer in self.values():
            new_features = layer(features)
            features.append(new_features)
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = DenseBlock(2, 3, 4)
        self.block2 = DenseBlock(3, 11, 4)

    def forward(self, x):
        return self.block2(self.block1(x))


class PartsRead(nn.Module):
    """Reads one of the results by itself, and the list under another order."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(3 + i * 4, 4) for i in range(3))

    def forward(self, x):
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features[::-1], 1) * features[2].mean() + x.mean()


def written(model, x):
    """Return the generated source after comparing what it computes with PyTorch."""
    translation = diglot.translate(model.eval(), x)
    with torch.no_grad():
        expected = model(x).permute(0, 2, 3, 1).numpy()
    found = translation.model(x.permute(0, 2, 3, 1).numpy(), training=False)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)
    return translation.source


def test_one_class_for_layers_and_blocks_of_any_length():
    source = written(DenseNet(), torch.randn(2, 3, 6, 5))
    assert source.count("class DenseLayer") == 1
    assert source.count("class DenseBlock") == 1
    assert "ops.concatenate(features, axis=-1)" in source
    assert "features.append(layer(features))" in source
    assert "DenseBlock(num_layers=3)" in source


def test_a_part_of_the_list_is_read_out_of_it():
    source = written(PartsRead(), torch.randn(2, 3, 6, 5))
    assert "for layer in self.layers_:" in source or "for layer in self.layers:" in source
    assert "[features[3], features[2], features[1], x]" in source
