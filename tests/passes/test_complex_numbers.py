"""Rotary positions as complex numbers (Llama's own code) become cosines and sines."""

import pytest
import torch
from in_process import translated
from torch import nn


def rotations(size, length):
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, size, 2).float() / size))
    angles = torch.outer(torch.arange(length).float(), frequencies)
    return torch.polar(torch.ones_like(angles), angles)


class Rotate(nn.Module):
    """A module that is handed the table."""

    def forward(self, x, freqs_cis):
        x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        freqs_cis = freqs_cis.view(1, x.shape[1], 1, x_.shape[-1])
        return torch.view_as_real(x_ * freqs_cis).flatten(3).type_as(x)


class Rotary(nn.Module):
    """The table is an attribute, a buffer, or made on the way."""

    def __init__(self, kept):
        super().__init__()
        self.fc = nn.Linear(4, 8)
        self.rotate = Rotate()
        self.kept = kept
        if kept == "attribute":
            self.freqs_cis = rotations(4, 9)
        elif kept is not None:
            self.register_buffer("freqs_cis", rotations(4, 9), persistent=kept == "persistent")

    def forward(self, x):
        x = self.fc(x).view(*x.shape[:2], 2, 4)
        table = rotations(4, x.shape[1]) if self.kept is None else self.freqs_cis[: x.shape[1]]
        return self.rotate(x, table)


@pytest.mark.parametrize("kept", ["attribute", "persistent", "buffer", None])
def test_complex_rotations_are_pairs_of_real_numbers(kept):
    """The parts are called by the author's names."""
    source = translated(Rotary(kept), torch.randn(2, 5, 4))
    assert "x_real = " in source and "x_imag = " in source
    assert "as_complex" not in source and "polar" not in source


class Conjugate(nn.Module):
    """exp, conj, products with numbers, and what is read off a complex value."""

    def forward(self, x, angles):
        turn = torch.exp(1j * angles)
        z = torch.complex(x, angles) * turn.conj() * 2.0 - turn + 1.0
        return torch.stack([z.real, -z.imag, z.abs()], dim=-1)


def test_arithmetic_on_complex_numbers():
    translated(Conjugate(), torch.randn(2, 5), torch.randn(2, 5))
