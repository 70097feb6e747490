"""A program holds one way of a branch: sizes that decide one are fixed or stated, never assumed."""

import pytest
import torch
from torch import nn

import diglot


class Parity(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] % 2 == 0 else x * 3


class Short(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] > 10 else x + 1


def test_a_size_that_decides_a_branch_is_fixed():
    translation = diglot.translate(Parity(), torch.randn(2, 6, 5))
    assert translation.info["dynamic"].keys() == {
        k for k, v in translation.info["dynamic"].items() if v["axis"] == 0
    }
    with pytest.raises(ValueError, match="expected shape"):
        translation.model(torch.randn(2, 13, 5).numpy())


def test_a_limit_is_stated_where_the_model_is_built():
    translation = diglot.translate(Short(), torch.randn(2, 6, 5))
    assert "``x`` holds at most 10 along axis 1" in translation.source
    (limit,) = [v["max"] for v in translation.info["dynamic"].values() if v["axis"] == 1]
    assert limit == 10
