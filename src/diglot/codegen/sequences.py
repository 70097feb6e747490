"""A Functional program that is one layer after the other, as the ``keras.Sequential`` that it was in Keras."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from diglot.codegen.statements import Statement
from diglot.rules.as_layers import joined

if TYPE_CHECKING:
    from diglot.codegen.functional import FunctionalWriter

_NUMBER = re.compile(r"n\d+")  # the name of a step without one


def layers_of(writer: FunctionalWriter) -> list[tuple[ast.expr, Statement]] | None:
    """The layers that a body applies one after the other, each with its statement; None where it does more.

    A function of ``keras.ops`` becomes the layer that is the same: ``layers.ReLU()``.
    """
    found: list[tuple[ast.expr, Statement]] = []
    previous = writer.params[0]
    for statement in writer.statements:
        node = statement.node
        if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)):
            return None
        made = _peeled(node.value, previous)
        if made is None:
            layer = writer.program.as_layer(writer, statement)
            if layer is None or not _reads_only(node.value, previous, writer.program.helpers):
                return None
            made = [layer]
        for layer in made:
            whole = joined(found[-1][0], layer) if found else None
            if whole is not None:
                found[-1] = whole, statement
            else:
                found.append((layer, statement))
        previous = node.targets[0].id
    result = writer.results[0]
    return found if isinstance(result, ast.Name) and result.id == previous else None


def _peeled(value: ast.expr, innermost: str) -> list[ast.expr] | None:
    """The layers in ``layers.B(…)(layers.A(…)(x))``, innermost first."""
    made: list[ast.expr] = []
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Call):
        if len(value.args) != 1 or value.keywords:
            return None
        made.append(_unnumbered(value.func))
        value = value.args[0]
    if not made or not (isinstance(value, ast.Name) and value.id == innermost):
        return None
    return made[::-1]


def _reads_only(value: ast.expr, name: str, functions: Collection[str]) -> bool:
    """Tell whether an expression reads one variable, once, and what every program imports or carries."""
    read = [n.id for n in ast.walk(value) if isinstance(n, ast.Name)]
    return read.count(name) == 1 and set(read) <= {name, "ops", "layers", "keras", *functions}


def _unnumbered(layer: ast.Call) -> ast.Call:
    layer.keywords = [
        k
        for k in layer.keywords
        if not (
            k.arg == "name"
            and isinstance(k.value, ast.Constant)
            and _NUMBER.fullmatch(str(k.value.value))
        )
    ]
    return layer
