"""Recurrent layers with dropout as Keras has it, and any functions and resets, in a PyTorch program."""

import torch
import torch.nn.functional as F
from torch import nn


def gates_of(x, weight, bias, masks):
    """The products of all gates; where there is a mask for each, each drops features of its own."""
    if masks is None:
        return F.linear(x, weight, bias)
    biases = [None] * len(masks) if bias is None else bias.chunk(len(masks))
    parts = zip(masks, weight.chunk(len(masks)), biases, strict=True)
    return torch.cat([F.linear(x * mask, *part) for mask, *part in parts], dim=-1)


class RecurrentLayer(nn.Module):
    """A recurrent layer over (batch, steps, features) whose gates read through dropout, step for step the same."""

    gates, states = 1, 1

    def __init__(
        self,
        input_size,
        hidden_size,
        bias=True,
        dropout=0.0,
        recurrent_dropout=0.0,
        activation=torch.tanh,
        recurrent_activation=torch.sigmoid,
    ):
        super().__init__()
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.dropout, self.recurrent_dropout = dropout, recurrent_dropout
        self.weight_ih = nn.Parameter(torch.empty(self.gates * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(self.gates * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(self.gates * hidden_size)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.orthogonal_(self.weight_hh)

    def masks(self, x, p):
        """What a sequence keeps of its features, at every step alike."""
        if not p or not self.training:
            return None
        count = self.gates if self.recurrent_dropout else 1
        return F.dropout(x.new_ones(count, *x.shape), p, self.training)

    def forward(self, x, state=None):
        first = x.new_zeros(x.shape[0], self.weight_hh.shape[1])
        if state is None:
            state = (first,) * self.states
        elif not isinstance(state, tuple):
            state = (state,)
        read = gates_of(x, self.weight_ih, self.bias_ih, self.masks(x[:, :1], self.dropout))
        kept = self.masks(first, self.recurrent_dropout)
        outputs = []
        for step in read.unbind(1):
            state = self.step(step, kept, *state)
            outputs.append(state[0])
        return torch.stack(outputs, dim=1), state if self.states > 1 else state[0]


class RNNWithDropout(RecurrentLayer):
    """A plain recurrent layer with dropout of what it reads and of its state."""

    def step(self, read, kept, h):
        return (self.activation(read + gates_of(h, self.weight_hh, None, kept)),)


class LSTMWithDropout(RecurrentLayer):
    """An LSTM with dropout of what it reads and of its state."""

    gates, states = 4, 2

    def step(self, read, kept, h, c):
        i, f, g, o = (read + gates_of(h, self.weight_hh, None, kept)).chunk(4, dim=-1)
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        return self.recurrent_activation(o) * self.activation(c), c


class GRUWithDropout(RecurrentLayer):
    """A GRU with dropout, which may reset the state before the product; nn.GRU does after it."""

    gates = 3

    def __init__(self, input_size, hidden_size, bias=True, reset_after=True, **options):
        super().__init__(input_size, hidden_size, bias, **options)
        self.reset_after = reset_after
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size)) if bias and reset_after else None

    def step(self, read, kept, h):
        both = 2 * h.shape[-1]
        if self.reset_after:
            again = gates_of(h, self.weight_hh, self.bias_hh, kept)
        else:
            again = gates_of(h, self.weight_hh[:both], None, None if kept is None else kept[:2])
        r, z = self.recurrent_activation(read[:, :both] + again[:, :both]).chunk(2, dim=-1)
        if self.reset_after:
            n = r * again[:, both:]
        else:
            n = F.linear(r * (h if kept is None else h * kept[2]), self.weight_hh[both:])
        n = self.activation(read[:, both:] + n)
        return (z * h + (1 - z) * n,)
