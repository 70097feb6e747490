"""What the writers of regions pass on to those who build classes: statements and members."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen.expr import text
from diglot.ir.hub import Call, Frame, is_mark

if TYPE_CHECKING:
    from diglot.codegen.dialect import Dialect


@dataclasses.dataclass
class Statement:
    """One statement of a body, with the author's line it came from."""

    node: ast.stmt
    origin: Frame | None = None
    rules: tuple[str, ...] = ()
    value: fx.Node | None = None  # the value that the statement computes


@dataclasses.dataclass
class Member:
    """One attribute of the class: how it is built, and where it came from."""

    construct: ast.expr
    source: str  # path of the source module or weight, below the region's own
    child: Call | None = None
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    source_class: str = ""
    kind: str = "layer"  # "layer" | "weight" | "child"
    node: fx.Node | None = None  # the op whose value is the layer's result
    layout: Any = ...  # of that value
    output_shape: tuple[Any, ...] = ()
    whole: bool = False  # the layer computes exactly what the source module does


class ListIndex(ast.Constant):
    """A place in a list attribute by the author's numbering; made dense when the class is finished."""


#: An attribute, or an item of one: its number in a list, its key in a dict, or what leads to it through several.
Key = tuple[str, int | str | tuple[int | str, ...] | None]


def placed_at(holder: ast.expr, place: Any, index: type[ast.Constant] = ListIndex) -> ast.expr:
    """``holder[place]``; for several places one after the other, ``holder[0]["norm"]``."""
    for part in place if isinstance(place, tuple) else (place,):
        holder = ast.Subscript(holder, index(part), ast.Load())
    return holder


def place_of(parts: Sequence[str]) -> Any:
    """The place that names lead to in lists and dicts within each other: ``0``, ``"norm"`` or ``(0, "norm")``."""
    found = tuple(int(part) if part.isdigit() else part for part in parts)
    return found if len(found) > 1 else found[0]


def through(node: fx.Node) -> fx.Node:
    """Follow marks to the node that computed a value."""
    while is_mark(node):
        node = node.args[0]
    return node


def is_pure(value: ast.expr, dialect: Dialect) -> bool:
    """Tell whether an expression only computes a value: it calls no layer with a state."""
    return all(dialect.is_pure(text(n.func)) for n in ast.walk(value) if isinstance(n, ast.Call))


def assignment(name: str, value: ast.expr) -> ast.Assign:
    """``name = value``."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def part_noun(node: fx.Node, index: int, noun: str) -> str:
    """Return a name for one of an op's results: its name in the schema (``values``), or a number."""
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    name = returns[index].name if len(returns) > 1 and index < len(returns) else ""
    return name or f"{noun or 'part'}_{index + 1}"


def flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in flat(v)]
    if isinstance(value, dict):
        return [x for v in value.values() for x in flat(v)]
    return [value]


def weight_nodes(value: Any) -> list[fx.Node]:
    """Return the weight nodes of a layer's weight entry."""
    source = value["nodes"] if isinstance(value, dict) else value[0]
    return list(source) if isinstance(source, (list, tuple)) else [source]
