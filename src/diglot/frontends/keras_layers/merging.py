"""Layers that merge several tensors into one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from diglot.frontends.keras_layers.records import LayerCall, Sample, layer


def _aligned(values: list[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors of one rank: Keras lines up the batch, then puts axes of size 1 right after it."""
    rank = max(v.dim() for v in values)
    made = []
    for value in values:
        while value.dim() < rank:
            value = value.unsqueeze(1)
        made.append(value)
    return made


def _folded(function: Callable) -> Callable:
    def call(run: LayerCall, inputs: Any) -> torch.Tensor:
        return functools.reduce(function, _aligned(list(inputs)))

    return call


def _average(run: LayerCall, inputs: Any) -> torch.Tensor:
    values = _aligned(list(inputs))
    return functools.reduce(torch.add, values) / len(values)


def _samples(name: str, two: bool = False) -> tuple[Sample, ...]:
    def make(keras: Any) -> Any:
        return getattr(keras.layers, name)()

    more = () if two else (Sample(make, ("2,3,4", "2,3,4", "2,3,4")),)
    return (Sample(make, ("2,3,4", "2,3,4")), Sample(make, ("2,3,4", "2,1,4")), *more)


for _name, _function in {
    "Add": lambda a, b: a + b,
    "Multiply": lambda a, b: a * b,
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}.items():
    layer(_name, call=_folded(_function), samples=_samples(_name))
layer("Subtract", call=_folded(lambda a, b: a - b), samples=_samples("Subtract", two=True))
layer("Average", call=_average, samples=_samples("Average"))
layer(
    "Concatenate",
    call=lambda run, inputs: torch.cat(list(inputs), dim=run.layer.axis),
    samples=(
        Sample(lambda keras: keras.layers.Concatenate(), ("2,3,4", "2,3,5")),
        Sample(lambda keras: keras.layers.Concatenate(axis=1), ("2,3,4", "2,6,4")),
    ),
)


def _dot(run: LayerCall, inputs: Any) -> torch.Tensor:
    first, second = inputs
    axes = run.layer.axes
    one, two = (axes, axes) if isinstance(axes, int) else axes
    one, two = one % first.dim(), two % second.dim()
    if run.layer.normalize:
        first = torch.nn.functional.normalize(first, dim=one, eps=1e-6)
        second = torch.nn.functional.normalize(second, dim=two, eps=1e-6)
    left = first.movedim(one, -1)
    right = second.movedim(two, 1)
    if first.dim() == second.dim() == 2:
        return (left * right).sum(dim=1, keepdim=True)
    sizes = (*left.shape[1:-1], *right.shape[2:])
    made = torch.matmul(left.flatten(1, -2) if left.dim() > 2 else left.unsqueeze(1),
                        right.flatten(2) if right.dim() > 2 else right.unsqueeze(-1))  # fmt: skip
    return made.reshape(left.shape[0], *sizes)


layer(
    "Dot",
    call=_dot,
    samples=(
        Sample(lambda keras: keras.layers.Dot(axes=1), ("2,4", "2,4")),
        Sample(lambda keras: keras.layers.Dot(axes=(2, 1)), ("2,3,4", "2,4,5")),
        Sample(lambda keras: keras.layers.Dot(axes=(1, 2), normalize=True), ("2,4,3", "2,5,4")),
        Sample(lambda keras: keras.layers.Dot(axes=(2, 1)), ("2,3,4", "2,4")),
    ),
)
