"""Recurrences, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from diglot.frontends.keras_ops.table import op


@op("core.lstm", "core.gru")
def fused(*_: Any, **__: Any) -> Any:
    """There is no fused layer for this setting: Keras then runs the cell for each step."""
    raise NotImplementedError


def _flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, (list, tuple)):
        return [t for v in value for t in _flat(v)]
    return [value]


def _like(structure: Any, flat: list[torch.Tensor]) -> Any:
    """Pack flat tensors into lists as ``structure`` is."""
    if isinstance(structure, (list, tuple)):
        return [_like(v, flat) for v in structure]
    return flat.pop(0)


def _kept(mask: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.where(mask.reshape(-1, *[1] * (new.dim() - 1)), new, old)


@op("core.rnn")
def rnn(
    step_function: Callable,
    inputs: torch.Tensor,
    initial_states: Any,
    go_backwards: bool = False,
    mask: torch.Tensor | None = None,
    constants: Any = None,
    unroll: bool = False,
    input_length: Any = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple:
    """Run a cell over axis 1, one step after the other; masked steps keep the states and repeat the output."""
    from diglot.frontends.keras_tracing.tensor import unwrap, wrap

    if time_major:
        inputs = inputs.transpose(0, 1)
    steps = list(inputs.unbind(1))
    kept = [None] * len(steps) if mask is None else list(mask.to(torch.bool).unbind(1))
    if go_backwards:
        steps, kept = steps[::-1], kept[::-1]
    states, outputs = list(initial_states), []
    for step, keep in zip(steps, kept, strict=True):
        output, after = unwrap(step_function(wrap(step), wrap([*states, *(constants or [])])))
        if keep is not None:
            before = outputs[-1] if outputs else torch.zeros_like(output)
            output = _kept(keep, output, before)
            pairs = zip(_flat(after), _flat(states), strict=True)
            after = _like(after, [_kept(keep, new, old) for new, old in pairs])
        outputs.append(output)
        states = after
    shown = outputs
    if zero_output_for_mask and mask is not None:
        shown = [_kept(k, o, torch.zeros_like(o)) for k, o in zip(kept, outputs, strict=True)]
    return shown[-1], torch.stack(shown, dim=0 if time_major else 1), states
