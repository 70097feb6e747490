"""EinsumDense: a Linear where the equation is one, else a module that holds the equation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, Weight, bare, layer


class EinsumDense(nn.Module):
    """A contraction with a weight, by an einsum equation, and a bias."""

    bias: nn.Parameter | None

    def __init__(self, equation: str, shape: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
        super().__init__()
        self.equation = equation
        self.weight = nn.Parameter(torch.zeros(shape))
        self.bias = nn.Parameter(torch.zeros(bias)) if bias is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.einsum(self.equation, x, self.weight)
        return x if self.bias is None else x + self.bias


def linear_form(own: Any) -> tuple[int, tuple[int, ...]] | None:
    """``(axes that are summed, shape of the axes that are made)`` where the layer is a Linear, else None.

    The last axes of the input meet the first of the kernel, and the kernel's last ones end the output.
    """
    equation = own.equation.replace(" ", "")
    inputs, _, output = equation.partition("->")
    data, _, kernel = inputs.partition(",")
    data, output = data.replace("...", ""), output.replace("...", "")
    summed = "".join(c for c in kernel if c not in output)
    made = "".join(c for c in kernel if c in output)
    if not summed or kernel != summed + made or not data.endswith(summed):
        return None
    if output != data[: len(data) - len(summed)] + made or any(c in data for c in made):
        return None
    shape = tuple(own._kernel.shape[len(summed) :])
    if own.bias is not None and math.prod(own.bias.shape) != math.prod(shape):
        return None
    return len(summed), shape


def _make(own: Any) -> nn.Module:
    form = linear_form(own)
    bias = own.bias is not None
    if form is None:
        return EinsumDense(
            own.equation, tuple(own._kernel.shape), tuple(own.bias.shape) if bias else None
        )
    summed, shape = form
    return bare(nn.Linear, math.prod(own._kernel.shape[:summed]), math.prod(shape), bias=bias)


def linear_weights(own: Any, prefix: str = "") -> list[Weight]:
    """The weights of a layer that is a Linear."""
    kernel = tuple(own._kernel.shape)
    summed = math.prod(kernel[: linear_form(own)[0]])
    flat = (summed, math.prod(kernel) // summed)
    reshape = (("reshape", kernel),) if kernel != flat else ()
    found = [Weight(f"{prefix}kernel", "weight", (("permute", (1, 0)), *reshape))]
    if own.bias is not None:
        shape = tuple(own.bias.shape)
        found.append(
            Weight(f"{prefix}bias", "bias", (("reshape", shape),) if len(shape) > 1 else ())
        )
    return found


def _weights(own: Any) -> list[Weight]:
    if linear_form(own) is not None:
        return linear_weights(own)
    return [Weight("kernel", "weight"), *([Weight("bias", "bias")] if own.bias is not None else [])]


def _run(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    form = linear_form(run.layer)
    if form is None:
        return run.activate(run.module(x))
    summed, shape = form
    made = run.module(x.flatten(-summed) if summed > 1 else x)
    return run.activate(made.unflatten(-1, shape) if len(shape) > 1 else made)


def _sample(equation: str, output: Any, bias: str | None, shape: str, **options: Any) -> Sample:
    return Sample(
        lambda keras: keras.layers.EinsumDense(
            equation, output_shape=output, bias_axes=bias, **options
        ),
        (shape,),
    )


layer(
    "EinsumDense",
    make=_make,
    call=_run,
    weights=_weights,
    activates=True,
    samples=(
        _sample("ab,bc->ac", 6, "c", "2,4", activation="relu"),
        _sample("abc,cde->abde", (None, 3, 5), "de", "2,6,4"),
        _sample("abcd,cde->abe", (None, 5), None, "2,6,3,4"),
        _sample("...x,xy->...y", 7, "y", "2,6,4"),
        _sample("abc,bd->adc", (7, 4), "dc", "2,6,4"),
        _sample("abc,cde->abde", (None, 3, 5), "e", "2,6,4"),
    ),
)
