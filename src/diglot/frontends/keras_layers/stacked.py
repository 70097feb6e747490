"""Recurrent layers on top of each other that PyTorch has as one, with ``num_layers``.

A program written by Diglot has them as a ``StackedRNN``, or where only a sequence or the last states are read as a
``keras.Sequential``, which is a sequence in PyTorch, too, unless its weights' names say that it was one layer there.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch
from keras import Sequential
from torch import nn
from torch.nn.utils import rnn

from diglot.frontends import keras_layers
from diglot.frontends.keras_layers import recurrent
from diglot.frontends.keras_layers.records import (
    LayerCall,
    LayerRecord,
    Sample,
    Weight,
    carried,
)
from diglot.frontends.keras_tracing.original_names import Names


def _directions(own: Any) -> list[tuple[str, Any]]:
    """The recurrent layers of one level, each with the attribute that leads to it."""
    if type(own).__name__ == "Bidirectional":
        return [("forward_layer.", own.forward_layer), ("backward_layer.", own.backward_layer)]
    return [("", own)]


def _weights_of(levels: list[tuple[str, Any]]) -> list[Weight]:
    """The weights of layers on top of each other, each with the path that leads to it."""
    return [
        weight
        for level, (path, own) in enumerate(levels)
        for (way, each), suffix in zip(_directions(own), ("", "_reverse"), strict=False)
        for weight in recurrent.direction_weights(each, f"{path}{way}", place=f"l{level}{suffix}")
    ]


def _module_of(levels: list[Any], dropout: float, **more: Any) -> nn.Module:
    directions = [own for _, own in _directions(levels[0])]
    options = {"num_layers": len(levels), "dropout": dropout} if len(levels) > 1 else {}
    return recurrent.stock(directions[0], bidirectional=len(directions) > 1, **options, **more)


# --- the class that a program carries --------------------------------------------------------------------


def _stacked(own: Any) -> nn.Module:
    return _module_of(own.rnns, float(own.config["dropout"]), batch_first=own.batch_first)


def _run_stacked(
    run: LayerCall, x: torch.Tensor, initial_state: Any = None, steps: torch.Tensor | None = None
) -> Any:
    """As the class says, each sequence ends at its last real step: it is packed up to there."""
    first = list(initial_state) if initial_state is not None else None
    given: Any = x
    if steps is not None:
        given = rnn.pack_padded_sequence(
            x, steps.sum(dim=1).cpu(), run.layer.batch_first, enforce_sorted=False
        )
    hx = () if first is None else (tuple(first),) if len(first) > 1 else (first[0],)
    output, after = run.module(given, *hx)
    if steps is not None:
        output, _ = rnn.pad_packed_sequence(
            output, run.layer.batch_first, total_length=steps.shape[1]
        )
    return (output, *(after if isinstance(after, tuple) else (after,)))


def _example(*states: str, steps: bool = False, kind: str = "LSTM", **options: Any) -> Sample:
    def make(keras: Any) -> Any:
        from diglot.carried.recurrent import StackedRNN

        return StackedRNN(kind, 4, **options)

    def call(own: Any, x: Any, *rest: Any) -> Any:
        if steps:
            from keras import ops

            return own(x, steps=ops.less(ops.arange(5), ops.expand_dims(rest[0], 1) + 2))
        return own(x, initial_state=list(rest) or None)

    shape = "5,3,6" if options.get("batch_first") is False else "3,5,6"
    return Sample(make, (shape, *states, *(["int[3]<4"] if steps else [])), call)


carried(
    "StackedRNN",
    make=_stacked,
    call=_run_stacked,
    weights=lambda own: _weights_of([(f"rnns.{i}.", each) for i, each in enumerate(own.rnns)]),
    samples=(
        _example(num_layers=2),
        _example("4,3,4", "4,3,4", num_layers=2, bidirectional=True),
        _example("3,3,4", kind="GRU", num_layers=3, use_bias=False),
        _example(kind="SimpleRNN", activation="relu", batch_first=False),
        _example(steps=True, num_layers=2, bidirectional=True),
    ),
)


# --- a sequence that was one layer -----------------------------------------------------------------------


@dataclasses.dataclass
class _Sequence:
    """The recurrent layers of a ``keras.Sequential``, each with its place in it, and the dropout between them."""

    levels: list[tuple[str, Any]]
    dropout: float

    @property
    def last(self) -> Any:
        """The layer whose results are the sequence's."""
        return _directions(self.levels[-1][1])[0][1]

    @property
    def both(self) -> bool:
        """Whether each level runs in both directions."""
        return len(_directions(self.levels[0][1])) > 1


def _sequence(own: Any) -> _Sequence | None:
    """Read a sequence as one layer; None where it is more than that."""
    levels: list[tuple[str, Any]] = []
    rates: list[float] = []
    for number, part in enumerate(own.layers):
        if type(part).__name__ == "Dropout" and len(rates) == len(levels) - 1:
            rates.append(float(part.rate))
            continue
        levels.append((f"layers.{number}.", part))
        if len(rates) < len(levels) - 1:
            rates.append(0.0)
    if len(levels) < 2 or len(rates) != len(levels) - 1 or len(set(rates)) != 1:
        return None
    return _Sequence(levels, rates[0]) if _alike([part for _, part in levels]) else None


def _alike(parts: list[Any]) -> bool:
    """Whether layers differ in nothing but what they take, and hand their sequences on."""
    if not all(_is_plain(part) for part in parts):
        return False
    each = [own for part in parts for _, own in _directions(part)]
    settings = {
        (type(own).__name__, own.units, own.use_bias, own.activation.__name__) for own in each
    }
    on = all(own.return_sequences for part in parts[:-1] for _, own in _directions(part))
    return on and len(settings) == 1 and len({type(part).__name__ for part in parts}) == 1


def _is_plain(part: Any) -> bool:
    record = keras_layers.find(part)
    if record is None or record.layer not in ("LSTM", "GRU", "SimpleRNN", "Bidirectional"):
        return False
    if record.layer == "Bidirectional" and part.merge_mode != "concat":
        return False
    return not any(
        own.dropout or own.stateful or own.return_state for _, own in _directions(part)
    ) and (record.layer == "Bidirectional" or not part.go_backwards)


def _run_sequence(sequence: _Sequence, run: LayerCall, x: torch.Tensor, mask: Any = None) -> Any:
    if mask is None:
        output, after = run.module(x)
        states = after[0] if isinstance(after, tuple) else after
    elif not sequence.both:
        zero = sequence.last.zero_output_for_mask
        output = recurrent.masked_sequence(run.module, x, mask, None, zero)
        return output if sequence.last.return_sequences else output[:, -1]
    else:
        output, after = recurrent.packed_sequence(run.module, x, mask, None, True)
        states = after[0]
    if sequence.last.return_sequences:
        return output
    return torch.cat([states[-2], states[-1]], dim=-1) if sequence.both else states[-1]


def find(layer: Any, names: Names | None) -> LayerRecord | None:
    """The record of a sequence whose weights were those of one layer in PyTorch; None for any other."""
    if names is None or not isinstance(layer, Sequential) or not layer.built:
        return None
    sequence = _sequence(layer)
    if sequence is None:
        return None
    weights = _weights_of(sequence.levels)
    for weight in weights:
        entry = names.entry(weight.variable(layer))
        said = (weight.torch,) if isinstance(weight.torch, str) else weight.torch
        if entry is None or tuple(s.rpartition(".")[2] for s in entry.sources) != tuple(said):
            return None
    if names.path(layer, leaf=True) is None:
        return None
    levels = [part for _, part in sequence.levels]
    return LayerRecord(
        "Sequential",
        make=lambda own: _module_of(levels, sequence.dropout),
        call=functools.partial(_run_sequence, sequence),
        weights=lambda own: weights,
    )
