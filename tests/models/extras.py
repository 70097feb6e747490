"""Small models, each with something that real ones do and translators tend to miss."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from randomise import seeded
from torch import nn


class CalledTwice(nn.Module):
    """One block object, called twice in a row and once more after a projection."""

    def __init__(self, dim):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.GELU())
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        x = self.block(self.block(x))
        return self.block(self.proj(x)) + x


@seeded
def make_called_twice():
    return CalledTwice(10), torch.randn(3, 10)


class AudioNet(nn.Module):
    """One-dimensional convolutions with dilation, pooling and batch norm over a waveform."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv1d(2, 8, kernel_size=5, stride=2, padding=2)
        self.bn1 = nn.BatchNorm1d(8)
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(8, 12, kernel_size=3, dilation=2, padding=2)
        self.act = nn.LeakyReLU(0.2)
        self.fc = nn.Linear(12, num_classes)

    def forward(self, wave):
        x = self.pool(F.relu(self.bn1(self.conv1(wave))))
        x = self.act(self.conv2(x))
        return self.fc(x.mean(dim=-1))


@seeded
def make_conv1d():
    return AudioNet(5), torch.randn(3, 2, 34)


class InPlace(nn.Module):
    """Operations that overwrite their input: +=, mul_, clamp_, slice assignment, masked_fill_."""

    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x):
        y = self.fc(x)
        y += x
        y.mul_(0.5).clamp_(min=-1.0)
        y[:, 0] = x[:, 1]
        z = y.clone()
        z[:, 2:4] *= 2
        return z.masked_fill_(x > 1.0, 0.25)


@seeded
def make_in_place():
    return InPlace(7), torch.randn(3, 7)


class MultiTask(nn.Module):
    """Heads in a ModuleDict over a trunk that is a Sequential of Sequentials."""

    def __init__(self, tasks):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Sequential(nn.Linear(9, 14), nn.ReLU(), nn.Dropout(0.2)),
            nn.Sequential(nn.Linear(14, 10), nn.Sequential(nn.LayerNorm(10), nn.SiLU())),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(10, size) for name, size in tasks.items()})

    def forward(self, x):
        x = self.trunk(x)
        return {name: head(x) for name, head in self.heads.items()}


@seeded
def make_module_dict():
    return MultiTask({"color": 5, "shape": 3}), torch.randn(4, 9)


class ResidualUnit(nn.Module):
    """A residual whose shortcut is a projection only where the width changes."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.fc = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.shortcut = nn.Linear(inputs, outputs) if inputs != outputs else None

    def forward(self, x):
        identity = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.norm(self.fc(x)) + identity)


class TwoOutputs(nn.Module):
    """Units of both kinds in a loop; returns a tuple (logits, list of hidden states)."""

    def __init__(self, sizes, num_classes):
        super().__init__()
        self.units = nn.ModuleList(ResidualUnit(a, b) for a, b in pairwise(sizes))
        self.fc = nn.Linear(sizes[-1], num_classes)

    def forward(self, x):
        hidden = []
        for unit in self.units:
            x = unit(x)
            hidden.append(x)
        return self.fc(x), hidden


@seeded
def make_tuple_output():
    return TwoOutputs([6, 10, 10, 14], 5), torch.randn(4, 6)


class FunctionalStyle(nn.Module):
    """Parameters used through torch.nn.functional, and a cast, a where, a cumulative sum."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("threshold", torch.tensor(0.1))

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        y = F.layer_norm(y, y.shape[-1:])
        keep = (y > self.threshold).to(y.dtype)
        y = torch.where(y > 0, y, 0.1 * torch.expm1(y)) + keep
        return F.log_softmax(torch.cumsum(y, dim=-1), dim=-1)


@seeded
def make_functional_style():
    return FunctionalStyle(6, 9), torch.randn(4, 6)
