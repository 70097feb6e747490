"""Where a TensorFlow graph that the user names begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GraphEnds:
    """What is read of a graph: a signature of a SavedModel, or the tensors that go in (``NAME``, or ``NAME=VALUE`` for
    one that is given a value) and out; and the tags of the SavedModel's graph."""

    signature: str | None = None
    feeds: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


WHOLE = GraphEnds()


def returned(structure: Any, results: Sequence[Any]) -> Any:
    """What a graph returns, of its outputs in order.

    ``structure`` is ``"tensor"``, ``"tuple"``, the names of a dict, or ``{"nest": …}``: a nest of dicts and lists with
    the outputs' numbers in it.
    """
    if structure == "tensor":
        return results[0]
    if structure == "tuple":
        return tuple(results)
    if isinstance(structure, list):
        return dict(zip(structure, results, strict=True))
    return _filled(structure["nest"], results)


def _filled(nest: Any, results: Sequence[Any]) -> Any:
    if isinstance(nest, dict):
        return {key: _filled(value, results) for key, value in nest.items()}
    if isinstance(nest, list):
        return tuple(_filled(value, results) for value in nest)
    return None if nest is None else results[nest]
