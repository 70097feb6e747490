"""Recurrent layers over images, in a PyTorch program."""

import torch
import torch.nn.functional as F
from torch import nn


class ConvLSTM(nn.Module):
    """An LSTM over images, (batch, steps, channels, *sides), whose products are convolutions."""

    def __init__(
        self,
        in_channels,
        hidden_channels,
        kernel_size,
        stride=1,
        padding="valid",
        dilation=1,
        bias=True,
        activation=torch.tanh,
        recurrent_activation=torch.sigmoid,
    ):
        super().__init__()
        self.conv = (F.conv1d, F.conv2d, F.conv3d)[len(kernel_size) - 1]
        self.options = (stride, padding, dilation)
        self.activation, self.recurrent_activation = activation, recurrent_activation
        gates = 4 * hidden_channels
        self.weight_ih = nn.Parameter(torch.empty(gates, in_channels, *kernel_size))
        self.weight_hh = nn.Parameter(torch.empty(gates, hidden_channels, *kernel_size))
        self.bias = nn.Parameter(torch.zeros(gates)) if bias else None
        nn.init.xavier_uniform_(self.weight_ih)
        nn.init.xavier_uniform_(self.weight_hh)

    def forward(self, x, state=None):
        read = self.conv(x.flatten(0, 1), self.weight_ih, self.bias, *self.options)
        steps = read.unflatten(0, x.shape[:2]).unbind(1)
        h, c = state or [torch.zeros_like(steps[0].chunk(4, dim=1)[0])] * 2
        outputs = []
        for step in steps:
            kept = self.conv(h, self.weight_hh, padding="same")
            i, f, g, o = (step + kept).chunk(4, dim=1)
            c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
            h = self.recurrent_activation(o) * self.activation(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)
