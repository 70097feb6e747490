"""The lines of a builder function at which each layer of a Functional or Sequential model is made."""

from __future__ import annotations

import ast
import contextlib
import linecache
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import keras
from keras import Layer

from diglot.frontends.listing import Listing

_DIGLOT = str(Path(__file__).parents[2]) + os.sep
_LIBRARIES = (
    str(Path(keras.__file__).parent) + os.sep,
    str(Path(contextlib.__file__).parent) + os.sep,  # where packages are installed, too
)
_MOST_KINDS = 4
"""A line that makes layers of more classes calls a builder of somebody else's, and says little."""
_PLACES: weakref.WeakKeyDictionary[Layer, tuple[str, int]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Note the author's line of each layer that is made in the context."""
    plain = Layer.__new__

    def made(cls: type[Layer], *args: Any, **kwargs: Any) -> Layer:
        layer = plain(cls, *args, **kwargs)
        place = _place(sys._getframe(1))
        if place is not None:
            _PLACES[layer] = place
        return layer

    Layer.__new__ = made  # type: ignore[method-assign]
    try:
        yield
    finally:
        Layer.__new__ = plain  # type: ignore[method-assign]


def _place(frame: FrameType | None) -> tuple[str, int] | None:
    """File and line of the innermost frame that is an author's; ``None`` within a layer, which has lines of its own."""
    while frame is not None:
        file = frame.f_code.co_filename
        library = file.startswith("<") or file.startswith(_LIBRARIES)
        library |= file.startswith(_DIGLOT) and not file.startswith(_DIGLOT + "zoo")
        if not library:
            within = isinstance(frame.f_locals.get("self"), Layer)
            return None if within else (file, frame.f_lineno)
        frame = frame.f_back
    return None


def authored(model: Layer, layers: Mapping[str, Any]) -> tuple[str, Listing] | None:
    """The file of a model's builder and, as a :class:`Listing`, its lines; ``None`` where they are not known.

    ``layers`` are the model's, by the paths of their modules.
    """
    found = {path: _PLACES[layer] for path, layer in layers.items() if layer in _PLACES}
    if model not in _PLACES or 2 * len(found) < len(layers):
        return None
    file, line = _PLACES[model]
    kinds: dict[int, set[type]] = {}
    for path, place in found.items():
        if place[0] == file and layers[path] is not model:
            kinds.setdefault(place[1], set()).add(type(layers[path]))
    if not kinds or max(map(len, kinds.values())) > _MOST_KINDS:
        return None
    text = linecache.getlines(file)
    made = Listing([row.rstrip("\n") for row in text])
    for path, place in found.items():
        if place[0] == file:
            made.places[id(layers[path])] = [place[1]]
    within = _functions("".join(text))
    made.spans[""] = within([line]) or [min([line, *kinds]), max([line, *kinds])]
    for path in layers:
        for owner in _owners(path):
            if owner not in made.spans:
                inner = [
                    p[1] for q, p in found.items() if p[0] == file and q.startswith(f"{owner}.")
                ]
                if inner:
                    span = within(inner)
                    own = span is not None and span != made.spans[""]
                    made.spans[owner] = span if own and span else [min(inner), max(inner)]
    return file, made


def _owners(path: str) -> Iterator[str]:
    parts = path.split(".")
    for size in range(len(parts) - 1, 0, -1):
        yield ".".join(parts[:size])


def _functions(text: str) -> Callable[[list[int]], list[int] | None]:
    """First and last line of the innermost function that holds some lines, by the lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    try:
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    except SyntaxError:
        nodes = []
    spans = [
        [min([n.lineno, *(d.lineno for d in n.decorator_list)]), n.end_lineno or n.lineno]
        for n in nodes
    ]

    def within(lines: list[int]) -> list[int] | None:
        around = [s for s in spans if s[0] <= min(lines) and max(lines) <= s[1]]
        return max(around, default=None)

    return within


__all__ = ["authored", "watched"]
