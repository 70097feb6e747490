"""A mask that a model builds from positions alone is attention's own causal flag, and nothing else is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import diglot


class Causal(nn.Module):
    """Builds its mask as transformers does for a model that is given none."""

    def __init__(self, width=8):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def positions(self, x):
        return torch.arange(x.shape[1])[None].expand(x.shape[0], -1)

    def allowed(self, keys, queries):
        return keys <= queries

    def forward(self, x):
        positions = self.positions(x)
        steps = torch.diff(positions, prepend=positions[:, :1] - 1, dim=-1)
        sequence = (steps != 1).cumsum(-1)
        mask = sequence[:, None, :, None] == sequence[:, None, None, :]
        mask = mask & self.allowed(positions[:, None, None, :], positions[:, None, :, None])
        q, k, v = self.qkv(x)[:, None].chunk(3, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[:, 0]


class Forwards(Causal):
    def allowed(self, keys, queries):
        return keys >= queries


class Packed(Causal):
    """Two sequences in each row."""

    def positions(self, x):
        return (torch.arange(x.shape[1]) % 4)[None].expand(x.shape[0], -1)


class Everything(Causal):
    def allowed(self, keys, queries):
        return torch.ones_like(keys <= queries)


def translated(cls):
    torch.manual_seed(0)
    model = cls().eval()
    made = diglot.translate(model, torch.randn(2, 7, 8))
    x = torch.randn(3, 9, 8)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(np.asarray(made.model(x.numpy())), expected, atol=1e-5)
    return made.source


def test_positions_that_count_on_make_a_causal_mask():
    source = translated(Causal)
    assert "is_causal=True" in source
    assert "cumsum" not in source
    assert "arange(ops.shape(query)" in source
    assert source.count("arange") == 2  # in the attention that the program carries


@pytest.mark.parametrize("cls", [Forwards, Packed])
def test_another_mask_stays_a_mask(cls):
    source = translated(cls)
    assert "is_causal=True" not in source
    assert "mask=" in source.replace("mask=None", "")


def test_a_mask_of_true_is_no_mask():
    assert "mask=" not in translated(Everything).replace("mask=None", "")
