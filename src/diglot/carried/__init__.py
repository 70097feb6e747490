"""Functions and classes that a generated module carries when it needs them.

They are real code, in the files beside this one: linted, tested, and copied as text into ``model.py`` (nothing here
imports them). A helper may use other helpers; :func:`sources` brings those along. Who reads such a module again
knows them by :func:`is_carried`.
"""

from __future__ import annotations

import ast
import functools
import inspect
from importlib import resources


@functools.lru_cache(maxsize=1)
def _all() -> dict[str, str]:
    """Return every helper's text by name, in the order of the files and in each file from the top."""
    found: dict[str, str] = {}
    folder = resources.files("diglot.carried")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".py") or file.name == "__init__.py":
            continue
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if node.name in found:
                    raise ValueError(f"two helpers are called {node.name}")
                found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def names() -> tuple[str, ...]:
    """Return the names of all helpers."""
    return tuple(_all())


def source(name: str) -> str:
    """Return one helper's text. Raises :class:`KeyError` for a name that is none."""
    return _all()[name]


@functools.lru_cache(maxsize=256)
def _needs(name: str) -> frozenset[str]:
    read = {n.id for n in ast.walk(ast.parse(_all()[name])) if isinstance(n, ast.Name)}
    return frozenset((read & set(_all())) - {name})


def sources(wanted: set[str]) -> list[str]:
    """Return the texts of the wanted helpers and of what they use, each before its user."""
    ordered: list[str] = []

    def add(name: str) -> None:
        for other in sorted(_needs(name)):
            add(other)
        if name not in ordered:
            ordered.append(name)

    for name in _all():
        if name in wanted:
            add(name)
    return [_all()[name] for name in ordered]


@functools.cache
def is_carried(cls: type) -> bool:
    """Whether a class is one of the helpers, by its text and not by its name alone."""
    text = _all().get(cls.__name__)
    if text is None:
        return False
    try:
        own = inspect.getsource(cls)
    except (OSError, TypeError):
        return False
    return ast.dump(ast.parse(own)) == ast.dump(ast.parse(text))
