"""A block that a Functional model applies again and again, in a loop."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
from typing import TYPE_CHECKING

from diglot.codegen import names
from diglot.codegen.expr import call, names_in, text
from diglot.codegen.statements import Statement

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter

_NUMBERED = re.compile(r"(.*\D)(\d+)")
_FEWEST = 3  # applications of a block in a loop


def roll(statements: list[Statement], writer: RegionWriter) -> list[Statement]:
    """Return a body in which a block that is applied again and again stands in a loop.

    Before: ``x = block(x, name="blocks_0")``, and so on. After: ``for i in range(12)``, one statement.
    """
    made: list[Statement] = []
    position = 0
    while position < len(statements):
        length = _run(statements, position)
        if length < _FEWEST:
            made.append(statements[position])
            position += 1
            continue
        first = statements[position]
        stem, start = _numbered(first.node) or ("", 0)
        count = names.unique("i", writer.holder)
        span = [start + length] if not start else [start, start + length]
        body = copy.deepcopy(first.node)
        named = _name_of(body)[-1]
        prefix = named.value.values[:-1] if isinstance(named.value, ast.JoinedStr) else []
        number = ast.FormattedValue(ast.Name(count, ast.Load()), -1)
        named.value = ast.JoinedStr([*prefix, ast.Constant(stem), number])
        loop = ast.For(ast.Name(count, ast.Store()), call("range", *span), [body], [])
        made.append(dataclasses.replace(first, node=loop))
        position += length
    return made


def _run(statements: list[Statement], position: int) -> int:
    """Return how many statements from a place on differ only in the number at the end of a name."""
    first = _numbered(statements[position].node)
    length = 1
    while first and position + length < len(statements):
        node = statements[position + length].node
        if _numbered(node) != (first[0], first[1] + length):
            break
        if _nameless(node) != _nameless(statements[position].node):
            break
        length += 1
    return length if first else 0


def _name_of(node: ast.stmt) -> list[ast.keyword]:
    """Return the ``name=`` of ``x = block(x, name=…)``, where the block takes what it gives."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
        return []
    target, made = node.targets[0], node.value
    plain = isinstance(target, ast.Name) and isinstance(made.func, ast.Name)
    if not plain or target.id not in {n for a in made.args for n in names_in(a)}:
        return []
    return [k for k in made.keywords if k.arg == "name"]


def _numbered(node: ast.stmt) -> tuple[str, int] | None:
    """Return the stem and the number of ``name="blocks_3"``."""
    found = _name_of(node)
    last = found[-1].value if found else None
    if isinstance(last, ast.JoinedStr):
        last = last.values[-1]
    match = _NUMBERED.fullmatch(str(last.value)) if isinstance(last, ast.Constant) else None
    return (match[1], int(match[2])) if match else None


def _nameless(node: ast.stmt) -> str:
    other = copy.deepcopy(node)
    for keyword_ in _name_of(other):
        keyword_.value = ast.Constant("")
    return text(other)


__all__ = ["roll"]
