"""Models that must be turned down, with a reason and the source line."""

import torch
from randomise import seeded
from torch import nn


class BranchesOnData(nn.Module):
    """The path taken depends on the values of the input: no graph can hold it."""

    def __init__(self, dim):
        super().__init__()
        self.small = nn.Linear(dim, dim)
        self.large = nn.Linear(dim, dim)

    def forward(self, x):
        if x.sum() > 0:
            return self.large(x)
        return self.small(x)


@seeded
def make_branches_on_data():
    return BranchesOnData(6), torch.randn(3, 6)


class UnsupportedOps(nn.Module):
    """Two operations without a translation, on two different lines."""

    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        x = self.fc(x)
        singular_values = torch.linalg.svdvals(x)
        spectrum = torch.fft.rfft(x, dim=-1).abs()
        return singular_values.sum() + spectrum


@seeded
def make_unsupported_ops():
    return UnsupportedOps(6), torch.randn(2, 5, 6)
