"""How a Keras model takes its inputs: one by one, in a list, in a dict, or by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

WAYS = ("single", "list", "dict", "positional", "keywords")


def how_called(model: Any, inputs: Any) -> str:
    """One of `WAYS`, for a Keras model or layer and example inputs: an array, or a list, tuple or
    dict of them."""
    if isinstance(inputs, dict):
        names = [p.name for p in _parameters(model)]
        return "keywords" if names and set(inputs) <= set(names) else "dict"
    if not isinstance(inputs, (list, tuple)):
        return "single"
    if isinstance(inputs, tuple) and len(inputs) == 1:
        return "single"
    taken = len(tensor_parameters(model))
    return (
        "positional" if taken >= len(inputs) > 1 and not _was_built_with_a_list(model) else "list"
    )


def tensor_parameters(model: Any) -> list[str]:
    """The parameters of `call` that take tensors: an option has a default other than None. A model that calls its
    layers itself has none."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = (None, inspect.Parameter.empty)
    return [
        p.name
        for p in _parameters(model)
        if p.kind in kinds and any(p.default is o for o in options)
    ]


def _parameters(model: Any) -> list[inspect.Parameter]:
    if hasattr(model, "_inputs_struct") or hasattr(model, "_functional"):
        return []
    found = inspect.signature(model.call).parameters.values()
    return [p for p in found if p.name not in ("training", "mask")]


def _was_built_with_a_list(model: Any) -> bool:
    """Tell whether Keras has noted a list of shapes for the one argument that the model was first called with."""
    noted = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    shapes = noted[0] if len(noted) == 1 else None
    return (
        isinstance(shapes, (list, tuple)) and bool(shapes) and isinstance(shapes[0], (list, tuple))
    )


def call_model(
    model: Any, way: str, names: Sequence[Any], values: Sequence[Any], **options: Any
) -> Any:
    """Call a Keras model in one of the `WAYS` on tensors in order; `names` are the inputs'."""
    if way == "single":
        return model(values[0], **options)
    if way in ("dict", "keywords"):
        given = dict(zip(map(str, names), values, strict=True))
        return model(given, **options) if way == "dict" else model(**given, **options)
    return model(*values, **options) if way == "positional" else model(list(values), **options)
