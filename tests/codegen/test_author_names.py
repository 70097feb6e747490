"""Variables keep the author's names, whatever form the assignment has."""

import pytest
import torch
from torch import nn

import diglot
from diglot.codegen import names


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x, angles):
        cos, sin = torch.cos(angles)[None], torch.sin(angles)[None]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        even, odd = q[..., ::2] * 2, q[..., 1::2] + 1
        return torch.cat([even * cos - odd * sin, odd * cos + even * sin], -1) * k + v


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

    def feed_forward(self, x):
        x = self.second(torch.relu(x))
        return torch.tanh(x)

    def forward(self, x):
        residual = x
        x = self.first(x)
        x = x + residual
        residual = x
        x = torch.relu(x)
        x = residual + x
        return x + self.feed_forward(x), residual


def test_values_assigned_side_by_side_are_named_by_place():
    source = diglot.translate(Rotary().eval(), (torch.randn(2, 5, 8), torch.randn(5, 4))).source
    assert "cos = ops.cos(angles)[None]" in source
    assert "sin = ops.sin(angles)[None]" in source
    assert "q, k, v = ops.split(self.qkv(x), 3, axis=-1)" in source
    assert "even = " in source
    assert "odd = " in source


def test_a_name_is_used_again_as_the_author_did():
    source = diglot.translate(Residual().eval(), torch.randn(2, 6)).source
    assert source.count("residual = x") == 2
    assert "x_2" not in source


def test_several_results_are_returned_without_brackets():
    source = diglot.translate(Residual().eval(), torch.randn(2, 6)).source
    assert "return x + ops.tanh(self.second(ops.relu(x))), residual" in source


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("BasicBlock", "basic_block"),
        ("MoE", "moe"),
        ("ViTForImageClassification", "vit_for_image_classification"),
        ("MoELayer", "moe_layer"),
        ("MyCNN", "my_cnn"),
        ("NetG", "net_g"),
        ("Block_Stage1", "block_stage1"),
    ],
)
def test_class_names_in_snake_case(name, wanted):
    assert names.snake(name) == wanted


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, y):
        x = self.linear(x) * y
        return x, torch.tanh(x)


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.pair = nn.Linear(4, 4), nn.Linear(4, 4), Pair()

    def forward(self, a, b):
        x = self.first(a)
        kept = x
        x = self.second(b)
        other = x
        x, s = self.pair(kept, x)
        return x + other * s


def test_a_name_is_not_free_for_the_statement_that_reads_it():
    """Before, ``kept = x`` stood a second time, in front of the call that reads the first."""
    made = diglot.translate(Aside(), (torch.randn(2, 4), torch.randn(2, 4)))
    assert "        other = x\n        x, s = self.pair(kept, x)\n" in made.source
    assert diglot.prove(made), made.source
