"""ConvLSTM1D, 2D and 3D: a layer that the program carries, and here one op, whatever the number of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.carried.conv_recurrent import ConvLSTM
from diglot.frontends.keras_layers.activation import function_named, name_of
from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    holder,
    layer,
    masks_flow,
    to_first,
    to_last,
)

#: Functions between its gates that the program has a name for; see rules/spelling/sequences.py.
_FUNCTIONS = {"tanh", "sigmoid", "relu", "hard_sigmoid"}
_WEIGHTS = ("weight_ih", "weight_hh", "bias")
_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define(
    "conv_lstm(Tensor input, Tensor[] hx, Tensor[] params, int[] stride, str padding, int[] dilation, "
    "str activation, str recurrent_activation) -> (Tensor, Tensor, Tensor)"
)


def _module(
    params: list[torch.Tensor], stride: Any, padding: str, dilation: Any, *functions: str
) -> ConvLSTM:
    gates, channels, *kernel = params[0].shape
    activations = [function_named(name) for name in functions]
    options = (tuple(stride), padding, tuple(dilation), len(params) == 3)
    return ConvLSTM(channels, gates // 4, tuple(kernel), *options, *activations)


def _run_op(
    input: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor], *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weights = dict(zip(_WEIGHTS, params, strict=False))
    module = _module(params, *options)
    sequence, (h, c) = torch.func.functional_call(module, weights, (input, tuple(hx) or None))
    return sequence, h.clone(), c.clone()


def _shape_op(
    input: torch.Tensor,
    hx: list[torch.Tensor],
    params: list[torch.Tensor],
    stride: list[int],
    padding: str,
    dilation: list[int],
    *functions: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gates, _, *kernel = params[0].shape
    sides = list(input.shape[3:])
    if padding == "valid":
        sides = [
            (side - step * (size - 1) - 1) // each + 1
            for side, size, each, step in zip(sides, kernel, stride, dilation, strict=True)
        ]
    shape = (gates // 4, *sides)
    batch, steps = input.shape[:2]
    states = (input.new_empty(batch, *shape) for _ in range(2))  # two, lest they be taken for one
    return input.new_empty(batch, steps, *shape), *states


_LIBRARY.impl("conv_lstm", _run_op, "CompositeExplicitAutograd")
torch.library.register_fake("diglot::conv_lstm", _shape_op, lib=_LIBRARY)


def _is_plain(own: Any) -> bool:
    """Whether a layer is one that the carried class can be."""
    cell = own.cell
    known = {name_of(cell.activation), name_of(cell.recurrent_activation)} <= _FUNCTIONS
    strided = cell.padding == "same" and set(cell.strides) != {1}
    dropped = cell.dropout or cell.recurrent_dropout
    last = cell.data_format == "channels_last"
    return known and last and not (strided or dropped or own.stateful or masks_flow())


def _make(own: Any) -> nn.Module:
    """The weights, in the order in which the op takes them."""
    *sides, channels, gates = own.cell.kernel.shape
    shapes = [(gates, channels, *sides), (gates, gates // 4, *sides), (gates,)]
    names = _WEIGHTS[: 3 if own.cell.use_bias else 2]
    return holder("ConvLSTM", dict(zip(names, shapes, strict=False)))


def _weights(own: Any) -> list[Weight]:
    rank = len(own.cell.kernel_size)
    back = (("permute", (*range(2, rank + 2), 1, 0)),)
    found = [
        Weight("cell.kernel", "weight_ih", back),
        Weight("cell.recurrent_kernel", "weight_hh", back),
    ]
    return [*found, Weight("cell.bias", "bias")] if own.cell.use_bias else found


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    """(N, T, …, C) -> (N, T, C, …)."""
    return x.permute(0, 1, x.dim() - 1, *range(2, x.dim() - 1))


def _run(
    run: LayerCall, sequences: torch.Tensor, initial_state: Any = None, mask: Any = None
) -> Any:
    own, cell = run.layer, run.layer.cell
    if any(m is not None for m in (mask if isinstance(mask, (list, tuple)) else [mask])):
        raise run.refused("a mask that is handed to it, where no layer makes masks")
    x = sequences.flip(1) if own.go_backwards else sequences
    states = [to_first(state) for state in initial_state or ()]
    sequence, h, c = torch.ops.diglot.conv_lstm(
        _channels_first(x),
        states,
        list(run.module.parameters()),
        list(cell.strides),
        cell.padding,
        list(cell.dilation_rate),
        name_of(cell.activation),
        name_of(cell.recurrent_activation),
    )
    if own.return_sequences:
        output = sequence.permute(0, 1, *range(3, sequence.dim()), 2)
    else:
        output = to_last(h)
    return (output, to_last(h), to_last(c)) if own.return_state else output


def _sample(rank: int, shape: str, *more: str, **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        return getattr(keras.layers, f"ConvLSTM{rank}D")(4, 3, **options)

    def call(own: Any, x: Any, *states: Any) -> Any:
        return own(x, initial_state=list(states)) if states else own(x)

    return Sample(make, (shape, *more), call, single=rank == 3)


def _with_states() -> tuple[Sample, ...]:
    state = "2,6,5,4"
    return (_sample(2, "2,3,6,5,3", state, state, padding="same", return_sequences=True),)


for _rank, _shape in ((1, "2,4,6,3"), (2, "2,3,6,5,3"), (3, "2,2,4,3,5,3")):
    layer(
        f"ConvLSTM{_rank}D",
        when=_is_plain,
        make=_make,
        call=_run,
        weights=_weights,
        samples=(
            _sample(_rank, _shape),
            _sample(_rank, _shape, padding="same", return_sequences=True, activation="relu"),
            _sample(_rank, _shape, go_backwards=True, use_bias=False, return_state=True),
            _sample(_rank, _shape, strides=2, recurrent_activation="hard_sigmoid"),
            _sample(_rank, _shape, padding="same", strides=2),
            _sample(_rank, _shape, activation="softsign"),
            *(_with_states() if _rank == 2 else ()),
        ),
    )
