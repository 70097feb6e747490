"""Recurrent layers as one node whose length may be dynamic.

PyTorch works out the shapes of an LSTM's results by running a Python loop over the time steps, which ties the
captured program to the length of the example. While a model is captured, the shapes are computed directly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def _results(
    inputs: torch.Tensor, states: list[torch.Tensor], bidirectional: bool
) -> tuple[torch.Tensor, ...]:
    directions = 2 if bidirectional else 1
    sequence = inputs.new_empty([*inputs.shape[:2], directions * states[0].shape[-1]])
    return (sequence, *(state.new_empty(state.shape) for state in states))


def _lstm(
    inputs, states, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
):
    return _results(inputs, list(states), bidirectional)


def _one_state(
    inputs, state, params, has_biases, num_layers, dropout, train, bidirectional, batch_first
):
    return _results(inputs, [state], bidirectional)


_SHAPES: dict[str, Callable[..., Any]] = {
    "lstm": _lstm,
    "gru": _one_state,
    "rnn_tanh": _one_state,
    "rnn_relu": _one_state,
}


@contextlib.contextmanager
def of_any_length() -> Iterator[None]:
    """Keep recurrent layers from fixing the length of what is captured, for the length of the context."""
    ops = {getattr(torch.ops.aten, name).input: shapes for name, shapes in _SHAPES.items()}
    saved = {op: dict(op.py_kernels) for op in ops}
    for op, shapes in ops.items():
        op.py_kernels.update(dict.fromkeys(op.py_kernels, shapes))
        op._dispatch_cache.clear()
    try:
        yield
    finally:
        for op, kernels in saved.items():
            op.py_kernels.update(kernels)
            op._dispatch_cache.clear()
