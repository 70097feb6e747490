"""Small helpers on Python's own ``ast``: expressions are built as trees, so brackets are never wrong."""

from __future__ import annotations

import ast
import copy
import functools
from typing import Any


@functools.lru_cache(maxsize=4096)
def _parse(template: str) -> ast.expr:
    return ast.parse(template, mode="eval").body


class _Substitute(ast.NodeTransformer):
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.values:
            return copy.deepcopy(to_ast(self.values[node.id]))
        return node


def E(template: str, **values: Any) -> ast.expr:
    """Return ``template`` as an expression with each name in ``values`` replaced by its value.

    >>> ast.unparse(E("x * y", x=E("a + b"), y=2))
    '(a + b) * 2'
    """
    tree = copy.deepcopy(_parse(template))
    return _Substitute(values).visit(tree)


class _Large(float):
    """A large float, written ``1e9`` as a person does."""

    def __repr__(self) -> str:
        digits, _, exponent = f"{float(self):.16e}".partition("e")
        short = f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
        plain = float.__repr__(self)
        return short if len(short) < len(plain) and float(short) == self else plain

    __str__ = __repr__


def to_ast(value: Any) -> ast.expr:
    """Turn a Python value (number, string, ``None``, tuple, list, expression) into an expression."""
    if isinstance(value, ast.AST):
        return value  # type: ignore[return-value]
    if isinstance(value, tuple):
        return ast.Tuple([to_ast(v) for v in value], ast.Load())
    if isinstance(value, list):
        return ast.List([to_ast(v) for v in value], ast.Load())
    if isinstance(value, dict):
        return ast.Dict([to_ast(k) for k in value], [to_ast(v) for v in value.values()])
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return E("float('inf')") if value > 0 else E("-float('inf')")
    if isinstance(value, float) and value != value:
        return E("float('nan')")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), to_ast(-value))
    if type(value) is float and abs(value) >= 1e5:
        return ast.Constant(_Large(value))
    return ast.Constant(value)


def call(function: str | ast.expr, *args: Any, **kwargs: Any) -> ast.Call:
    """Return ``function(*args, **kwargs)``; keyword arguments that are ``...`` are left out."""
    name = _dotted(function) if isinstance(function, str) else function
    keywords = [ast.keyword(k, to_ast(v)) for k, v in kwargs.items() if v is not ...]
    return ast.Call(name, [to_ast(a) for a in args], keywords)


def _dotted(name: str) -> ast.expr:
    return copy.deepcopy(_parse(name))


def text(node: ast.AST) -> str:
    """Return an expression or statement as source text."""
    return ast.unparse(ast.fix_missing_locations(node))


def same(a: ast.AST, b: ast.AST) -> bool:
    """Tell whether two trees are the same text."""
    return ast.dump(a) == ast.dump(b)


def names_in(node: ast.AST) -> set[str]:
    """Return every plain name an expression reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
