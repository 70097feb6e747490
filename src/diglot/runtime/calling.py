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
        names = _parameters(model)
        return "keywords" if names and set(inputs) <= set(names) else "dict"
    if not isinstance(inputs, (list, tuple)):
        return "single"
    if isinstance(inputs, tuple) and len(inputs) == 1:
        return "single"
    return "positional" if len(_parameters(model)) >= len(inputs) > 1 else "list"


def _parameters(model: Any) -> list[str]:
    """The parameters of `call` that take tensors; none for a model that calls its layers itself."""
    if hasattr(model, "_inputs_struct") or hasattr(model, "_functional"):
        return []
    found = inspect.signature(model.call).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in found if p.kind in kinds and p.name not in ("training", "mask")]


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
