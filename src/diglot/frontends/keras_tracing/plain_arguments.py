"""What a layer is called with besides tensors."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from keras import Layer, Sequential, tree
from keras.src.models.functional import Functional

from diglot.frontends.keras_model import Given
from diglot.frontends.keras_tracing.tensor import Tracer


def plain_arguments(layer: Layer, args: tuple, kwargs: dict[str, Any]) -> Given | None:
    """Return a call's plain arguments and the names of its masks; None for a model, or where there is anything else."""
    if isinstance(layer, (Functional, Sequential)):
        return None
    names = [n for n in inspect.signature(type(layer).call).parameters if n != "self"]
    said = {**dict(zip(names, args, strict=False)), **kwargs}
    plain = {n: v for n, v in said.items() if isinstance(v, (bool, int, float, str))}
    given = [v for v in tree.flatten((args, kwargs)) if v is not None]
    if sum(not isinstance(v, Tracer) for v in given) != len(plain):
        return None
    masks = tuple(n for n, v in kwargs.items() if "mask" in n and v is not None and n not in plain)
    return Given(plain, masks, _tensors(said))


def with_results(given: Given | None, made: Any) -> Given | None:
    """Add what a call gave."""
    return None if given is None else dataclasses.replace(given, results=_tensors({"": made}))


def _tensors(said: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The tensors in some values, each by its path with its rank."""
    found: list[tuple[str, int]] = []

    def visit(path: str, value: Any) -> None:
        if isinstance(value, Tracer):
            found.append((path.lstrip("."), value.value.dim()))
        elif isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                visit(f"{path}.{place}", item)

    for name, value in said.items():
        visit(name, value)
    return tuple(found)
