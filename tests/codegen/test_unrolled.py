"""A module called once for each step of a Python loop is one class, called again and again."""

import torch
from torch import nn

import diglot


class Cell(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.from_input = nn.Linear(width, 4 * width)
        self.from_hidden = nn.Linear(width, 4 * width)

    def forward(self, x, h, c):
        gates = self.from_input(x) + self.from_hidden(h)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, c


class Unrolled(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.cell = Cell(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        h, c = x[:, 0], x[:, 1]
        for t in range(2, x.shape[1]):
            h, c = self.cell(x[:, t], h, c)
        return self.head(h)


def test_the_last_step_whose_state_nobody_reads_is_a_call_like_the_others():
    source = diglot.translate(Unrolled().eval(), torch.randn(2, 5, 6)).source
    assert source.count("class Cell(") == 1
    assert source.count("h, c = self.cell(") == 3
