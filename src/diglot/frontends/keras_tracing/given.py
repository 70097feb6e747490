"""What a model is given, as its ``call`` takes it."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from keras import Layer, tree
from keras.src.models.functional import Functional
from torch import nn

from diglot.frontends.keras_tracing.inputs import looked_up
from diglot.frontends.keras_tracing.tensor import Tracer


def flat_inputs(model: Layer, values: list[Any]) -> list[Any]:
    """The inputs of a model in the order of its own, from a list, a dict by name, or one after the other."""
    if len(values) == 1 and isinstance(values[0], dict):
        given = values[0]
        struct = model._inputs_struct if isinstance(model, Functional) else None
        if isinstance(struct, dict):
            return tree.flatten({k: given[k] for k in struct})
        names = [t._keras_history.operation.name for t in model.inputs]
        return [given[n] for n in names]
    return tree.flatten(values)


def fitted(value: Any, wanted: Any) -> Any:
    """A Functional model's input with the rank and the kind of number that the model declares."""
    if not isinstance(value, Tracer):
        return value
    held = value.value
    rank = len(wanted.shape)
    if held.dim() == rank + 1 and held.shape[-1] == 1:
        held = held.squeeze(-1)
    elif held.dim() == rank - 1 and wanted.shape[-1] == 1:
        held = held.unsqueeze(-1)
    floats = str(wanted.dtype).startswith(("float", "bfloat"))
    if floats and not held.dtype.is_floating_point and not looked_up(wanted):
        held = held.to(torch.get_default_dtype())
    if str(wanted.dtype).startswith(("int", "uint")) and held.dtype.is_floating_point:
        held = held.to(torch.int64)
    if held is value.value:
        return value
    made = Tracer(held)
    made._keras_mask = value._keras_mask
    return made


def packed(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The root's inputs as its ``call`` takes them: one argument that is a list or a dict gets all of them."""
    structure = getattr(module, "taken_apart", None)
    if structure is None:
        return args, kwargs
    names = list(inspect.signature(module.forward).parameters)
    given = {
        **dict(zip(names, args, strict=False)),
        **{n: v for n, v in kwargs.items() if n in names},
    }
    others = {n: v for n, v in kwargs.items() if n not in names}
    return (given if structure == "dict" else list(given.values()),), others
