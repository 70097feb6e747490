"""Recurrent layers with other functions and resets than PyTorch's, in a PyTorch program.

Each is whole in itself: a program seldom has more than one of them.
"""

import torch
import torch.nn.functional as F
from torch import nn


def hard_sigmoid(x):
    """x / 5 + 1/2 between 0 and 1, as Keras 2 has it; F.hardsigmoid takes x / 6."""
    return (0.2 * x + 0.5).clamp(0, 1)


class RNN(nn.Module):
    """A plain recurrent layer over (batch, steps, features); nn.RNN has tanh and ReLU only."""

    def __init__(self, input_size, hidden_size, bias=True, activation=torch.tanh):
        super().__init__()
        self.activation = activation
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(hidden_size)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, x, h=None):
        if h is None:
            h = x.new_zeros(x.shape[0], self.weight_hh.shape[1])
        outputs = []
        for step in F.linear(x, self.weight_ih, self.bias_ih).unbind(1):
            h = self.activation(step + F.linear(h, self.weight_hh))
            outputs.append(h)
        return torch.stack(outputs, dim=1), h


class LSTM(nn.Module):
    """An LSTM over (batch, steps, features) with any functions; nn.LSTM has tanh and the sigmoid only."""

    def __init__(
        self,
        input_size,
        hidden_size,
        bias=True,
        activation=torch.tanh,
        recurrent_activation=torch.sigmoid,
    ):
        super().__init__()
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(4 * hidden_size)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, x, state=None):
        zeros = x.new_zeros(x.shape[0], self.weight_hh.shape[1])
        h, c = (zeros, zeros) if state is None else state
        outputs = []
        for step in F.linear(x, self.weight_ih, self.bias_ih).unbind(1):
            i, f, g, o = (step + F.linear(h, self.weight_hh)).chunk(4, dim=-1)
            i, f, o = map(self.recurrent_activation, (i, f, o))
            c = f * c + i * self.activation(g)
            h = o * self.activation(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)


class GRU(nn.Module):
    """A GRU over (batch, steps, features) with any functions; nn.GRU has tanh and the sigmoid only."""

    def __init__(
        self,
        input_size,
        hidden_size,
        bias=True,
        activation=torch.tanh,
        recurrent_activation=torch.sigmoid,
    ):
        super().__init__()
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, x, h=None):
        if h is None:
            h = x.new_zeros(x.shape[0], self.weight_hh.shape[1])
        outputs = []
        for step in F.linear(x, self.weight_ih, self.bias_ih).unbind(1):
            again = F.linear(h, self.weight_hh, self.bias_hh)
            (r, z, n), (hr, hz, hn) = step.chunk(3, dim=-1), again.chunk(3, dim=-1)
            r, z = self.recurrent_activation(r + hr), self.recurrent_activation(z + hz)
            h = z * h + (1 - z) * self.activation(n + r * hn)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h


class ResetBeforeGRU(nn.Module):
    """A GRU over (batch, steps, features) that resets its state before the product; nn.GRU does after it."""

    def __init__(
        self,
        input_size,
        hidden_size,
        bias=True,
        activation=torch.tanh,
        recurrent_activation=torch.sigmoid,
    ):
        super().__init__()
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def forward(self, x, h=None):
        if h is None:
            h = x.new_zeros(x.shape[0], self.weight_hh.shape[1])
        hidden = h.shape[-1]
        outputs = []
        for step in F.linear(x, self.weight_ih, self.bias_ih).unbind(1):
            gates = step[:, : 2 * hidden] + F.linear(h, self.weight_hh[: 2 * hidden])
            r, z = self.recurrent_activation(gates).chunk(2, dim=-1)
            n = step[:, 2 * hidden :] + F.linear(r * h, self.weight_hh[2 * hidden :])
            h = z * h + (1 - z) * self.activation(n)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h
