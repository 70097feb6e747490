"""Layers whose weights are those of the module around them: it was such a layer itself, or used a function.

A ``BatchNormAct2d`` that is a batch norm with an activation, a ``Conv1D`` that multiplies by weights of its own: in
Keras it holds a layer, and in PyTorch the weights. The layer's module then is no child; it reads its holder's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.carried import is_carried
from diglot.frontends.keras_layers.records import LayerRecord, Weight
from diglot.frontends.keras_tracing.original_names import Names
from diglot.ir.weight_entry import WeightEntry

Step = Callable[[tuple, torch.Tensor], torch.Tensor]


def holders_own(
    names: Names, layer: Any, weights: Sequence[Weight], path: str
) -> dict[str, WeightEntry] | None:
    """The entries of a layer's weights, by their names, where all of them are of the module at ``path`` itself."""
    found: dict[str, WeightEntry] = {}
    for weight in weights:
        entry = names.entry(getattr(layer, weight.keras, None))
        plain = isinstance(weight.torch, str) and all(s[0] == "permute" for s in weight.steps)
        if not plain or entry is None or entry.combine is not None:
            return None
        owner, _, last = entry.sources[0].rpartition(".")
        if owner != path or last != weight.torch:
            return None
        found[last] = entry
    return found or None


def lend(
    module: nn.Module,
    holder: nn.Module,
    weights: Sequence[Weight],
    entries: dict[str, WeightEntry],
    step: Step,
) -> None:
    """Give a layer's weights to its holder, in the shapes that they had there, and let the layer read them."""
    links = []
    for weight in weights:
        assert isinstance(weight.torch, str)
        entry, own = entries[weight.torch], getattr(module, weight.torch)
        value = torch.zeros(entry.source_shapes[0], dtype=own.dtype)
        if isinstance(own, nn.Parameter):
            holder.register_parameter(weight.torch, nn.Parameter(value))
        else:
            holder.register_buffer(weight.torch, value)
        back = [("permute", [int(i) for i in np.argsort(s[1])]) for s in reversed(weight.steps)]
        same = tuple(entry.steps) == tuple(weight.steps)
        links.append((weight.torch, () if same else (*entry.steps, *back)))
    if "num_batches_tracked" in module._buffers:
        holder.register_buffer("num_batches_tracked", module._buffers["num_batches_tracked"])
        links.append(("num_batches_tracked", ()))
    cls = type(module)

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.training = holder.training
        for name, steps in links:
            value = getattr(holder, name)
            for each in steps:
                value = step(each, value)
            self.__dict__[name] = value
        return cls.forward(self, *args, **kwargs)

    module.__class__ = type(cls.__name__, (cls,), {"__call__": call})


class Lent(nn.Module):
    """Gives a weight of its holder's in the shape that Keras has it in."""

    def __init__(self, holder: nn.Module, name: str, steps: Sequence[tuple], step: Step) -> None:
        super().__init__()
        self.__dict__["holder"] = holder  # no child
        self.name, self.steps, self.step = name, steps, step

    def forward(self) -> torch.Tensor:
        value = getattr(self.holder, self.name)
        for each in self.steps:
            value = self.step(each, value)
        return value


#: A layer of a Functional model that only holds a weight.
FREE = LayerRecord("Parameter", call=lambda run, *_: run.module(), weights=lambda own: [])


def only_holds(layer: Any) -> bool:
    """Tell whether a layer gives a weight of its own, and computes nothing."""
    return type(layer).__name__ == "Parameter" and is_carried(type(layer))


def free_weight(names: Names, layer: Any, path: str) -> WeightEntry | None:
    """The entry of the weight that a layer only holds, where it is one of the module at ``path``; else None."""
    if not only_holds(layer):
        return None
    entry = names.entry(layer.value)
    if entry is None or entry.combine is not None:
        return None
    return entry if entry.sources[0].rpartition(".")[0] == path else None


def lend_free(holder: nn.Module, entry: WeightEntry, dtype: torch.dtype, step: Step) -> Lent:
    """Give such a weight to its holder."""
    name = entry.sources[0].rpartition(".")[2]
    value = torch.zeros(entry.source_shapes[0], dtype=dtype)
    if entry.kind == "buffer":
        holder.register_buffer(name, value, entry.persistent)
    else:
        holder.register_parameter(name, nn.Parameter(value, requires_grad=entry.trainable))
    return Lent(holder, name, entry.steps, step)
