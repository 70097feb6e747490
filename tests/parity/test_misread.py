"""Gradients whose strides PyTorch's batch norm reads wrongly: recognised, laid out anew, and said in the proof."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import diglot
from diglot.parity.misread import is_misread
from diglot.parity.torch_modes import computing

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs

SHAPES_AND_STRIDES = [
    ((1, 5, 2, 3), (5, 1, 15, 5)),
    ((1, 5, 2, 3), (30, 1, 15, 5)),
    ((1, 5, 2, 3), (30, 6, 3, 1)),
    ((1, 5, 2, 3), (999, 6, 3, 1)),
    ((2, 5, 2, 3), (30, 1, 15, 5)),
    ((2, 5, 3, 1), (15, 1, 5, 1)),
    ((2, 5, 3, 1), (15, 1, 5, 5)),
    ((2, 5, 1, 3), (15, 1, 1, 5)),
    ((2, 5, 2, 3), (1, 2, 10, 30)),
    ((1, 5, 2, 3, 2), (5, 1, 30, 10, 5)),
    ((2, 5, 2, 3, 2), (60, 1, 30, 10, 5)),
]


def _bias_gradient(gradient: torch.Tensor) -> torch.Tensor:
    norm = (nn.BatchNorm2d if gradient.dim() == 4 else nn.BatchNorm3d)(gradient.shape[1]).double()
    norm.eval()(torch.ones(gradient.shape, dtype=torch.float64)).backward(gradient)
    assert norm.bias.grad is not None
    return norm.bias.grad


@pytest.mark.parametrize(("shape", "strides"), SHAPES_AND_STRIDES)
def test_what_is_called_misread_is_what_pytorch_misreads(
    shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Where this fails for another PyTorch, its kernel has changed, and `is_misread` must follow."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradient = torch.empty_strided(shape, strides, dtype=torch.float64).copy_(values)
    right = values.transpose(0, 1).flatten(1).sum(1)
    assert torch.allclose(_bias_gradient(gradient), right) != is_misread(gradient)
    with computing(torch.float64) as relaid:
        assert torch.allclose(_bias_gradient(gradient), right)
    assert relaid.used == is_misread(gradient)


class Columns(nn.Module):
    """A text reader: features, one pixel wide where an image is five, become a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, (3, 5))
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return self.last(x.mean(-1).transpose(1, 2))


@pytest.mark.parametrize("width", [5, 7])
def test_a_proof_says_that_pytorch_computes_wrong_gradients(width: int) -> None:
    translation = diglot.translate(Columns(), torch.randn(2, 3, 9, width))
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.reason
    said = [item["what"] for item in proof.explained]
    assert ("gradients of batch norms on the CPU" in said) == (width == 5)
