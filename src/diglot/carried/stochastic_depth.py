"""Stochastic depth, in a PyTorch program."""

import torch.nn.functional as F
from torch import nn


class DropPath(nn.Module):
    """Drop whole samples of a batch, as stochastic depth does."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        keep = x.new_ones(x.shape[0], *[1] * (x.dim() - 1))
        return x * F.dropout(keep, self.p, self.training)
