"""Recurrent layers on top of each other, where Keras's own layers say the same."""

import numpy as np
import pytest
import torch
from torch import nn

import diglot


class Reader(nn.Module):
    def __init__(self, kind="LSTM", read="last", **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 4, **options)
        self.read = read

    def forward(self, x):
        sequence, states = self.rnn(x)
        h = states[0] if isinstance(states, tuple) else states
        if self.read == "sequence":
            return sequence * 2
        if self.read == "last step":
            return sequence[:, -1]
        if self.read == "both ways":
            return torch.cat([h[-2], h[-1]], dim=1)
        if self.read == "turned round":
            return torch.cat([h[-1], h[-2]], dim=1)
        return h.squeeze(0) if self.read == "squeezed" else h[-1]


STACK = {"num_layers": 2, "batch_first": True}
CASES = {
    "sequence": ({"read": "sequence", "bidirectional": True, **STACK}, False),
    "time first": ({"kind": "GRU", "read": "sequence", "num_layers": 3}, False),
    "both ways": ({"read": "both ways", "bidirectional": True, "dropout": 0.3, **STACK}, False),
    "one layer, both ways": ({"read": "both ways", "bidirectional": True}, False),
    "last": ({"kind": "GRU", **STACK}, False),
    "squeezed": ({"kind": "RNN", "read": "squeezed", "batch_first": True}, False),
    "last step": ({"read": "last step", **STACK}, False),
    "backward first": ({"read": "turned round", "bidirectional": True, **STACK}, True),
    "backward only": ({"bidirectional": True, **STACK}, True),
}


@pytest.mark.parametrize("name", CASES)
def test_stacked_layers_are_a_sequential(name):
    options, helper = CASES[name]
    torch.manual_seed(0)
    model, x = Reader(**options).eval(), torch.randn(3, 7, 5)
    translation = diglot.translate(model, x)
    with torch.no_grad():
        expected = model(x).numpy()
    found = np.asarray(translation.model(x.numpy(), training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ("StackedRNN" in translation.source) == helper
    assert "expand_dims" not in translation.source and "[:, -1]" not in translation.source
