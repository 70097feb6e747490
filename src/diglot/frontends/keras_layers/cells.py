"""Cells of recurrent layers that take one step: PyTorch's own where their functions are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, bare, layer
from diglot.frontends.keras_layers.recurrent import (
    cell_weights,
    has_stock_functions,
    options_of,
    without_second_biases,
)

_KINDS: dict[str, type[nn.RNNCellBase]] = {
    "LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell, "SimpleRNNCell": nn.RNNCell
}  # fmt: skip


def _is_stock(own: Any) -> bool:
    return not own.dropout and not own.recurrent_dropout and has_stock_functions(own)


def _module(own: Any) -> nn.Module:
    kind = _KINDS[type(own).__name__]
    module = bare(kind, own.kernel.shape[0], own.units, **options_of(own))
    return module if kind is nn.GRUCell else without_second_biases(module)


def _run(run: LayerCall, x: torch.Tensor, states: Any, **_: Any) -> tuple[torch.Tensor, Any]:
    """As Keras: the output and the new states, one state in a list where it was given in one."""
    listed = isinstance(states, (list, tuple))
    given = list(states) if listed else [states]
    if len(given) == 2:
        h, c = run.module(x, (given[0], given[1]))
        return h, [h, c]
    h = run.module(x, given[0])
    return h, [h] if listed else h


def _samples(name: str, states: int) -> tuple[Sample, ...]:
    def make(**options: Any) -> Any:
        return lambda keras: getattr(keras.layers, name)(4, **options)

    def step(cell: Any, x: Any, *given: Any) -> Any:
        return cell(x, list(given))

    def steps(**options: Any) -> Any:
        return lambda keras: keras.layers.RNN(getattr(keras.layers, name)(4, **options))

    shapes = ("2,3", *["2,4"] * states)
    return (
        Sample(make(), shapes, step),
        Sample(make(use_bias=False), shapes, step),
        Sample(make(activation="relu"), shapes, step),
        Sample(steps(), ("2,5,3",)),
        Sample(steps(activation="softsign"), ("2,5,3",)),
        Sample(steps(dropout=0.3, recurrent_dropout=0.2), ("2,5,3",), random=True),
    )


for _name in _KINDS:
    layer(
        _name,
        when=_is_stock,
        make=_module,
        call=_run,
        weights=cell_weights,
        samples=_samples(_name, 2 if _name == "LSTMCell" else 1),
    )
