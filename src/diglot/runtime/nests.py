"""Flattening what models take and return, the same way for both frameworks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


def tensors(structure: Any) -> list[Any]:
    """The tensors in a nest of lists, tuples, dicts and dataclasses, in the order written.

    Everything else (None, numbers, flags, caches) is left out. Dicts keep their own order: Keras's
    and PyTorch's own tree functions disagree about it.
    """
    if hasattr(structure, "shape") and hasattr(structure, "dtype"):
        return [structure]
    if isinstance(structure, Mapping):
        items = list(structure.values())
    elif isinstance(structure, (list, tuple)):
        items = list(structure)
    elif dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        items = [getattr(structure, field.name) for field in dataclasses.fields(structure)]
    else:
        return []
    return [leaf for item in items for leaf in tensors(item)]


def follow(structure: Any, path: tuple[str | int, ...]) -> Any:
    """The part of a returned structure that `path` (keys, attributes and indices) names.

    Raises KeyError, IndexError or AttributeError where there is none.
    """
    for part in path:
        if isinstance(part, str) and not isinstance(structure, Mapping):
            structure = getattr(structure, part)
        else:
            structure = structure[part]
    return structure


def results_at(structure: Any, paths: Sequence[Sequence[str | int]]) -> list[Any]:
    """The tensors that `paths` name in what a module returned, or all of them, where there are no paths."""
    try:
        found = [follow(structure, tuple(path)) for path in paths]
    except (KeyError, IndexError, AttributeError, TypeError):
        found = []  # a structure of the author's own
    if found and all(hasattr(value, "shape") for value in found):
        return found
    return tensors(structure)
