"""Sizes: plain ints, or sympy expressions where a size is dynamic."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import sympy

if TYPE_CHECKING:
    import torch

Size = Any  # int | sympy.Expr

#: Symbols that stand for one size, for each program's ShapeEnv.
_SAME: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def expression(value: torch.SymInt) -> Any:
    """Return a ``SymInt``'s expression, with symbols that stand for one size replaced by one symbol."""
    return resolved(value.node.shape_env, value.node.expr)


def resolved(shape_env: Any, expr: Any) -> Any:
    """Return an expression over one program's sizes with one symbol for each size."""
    found = shape_env.replace(expr)
    same = _SAME.get(shape_env)
    return found.xreplace(same) if same else found


def declare_same(value: torch.SymInt, other: torch.SymInt) -> None:
    """Let the symbol of ``value`` stand for that of ``other`` from now on (the exported program keeps both)."""
    symbol, target = expression(value), expression(other)
    if symbol != target and symbol.is_Symbol and target.is_Symbol:
        _SAME.setdefault(value.node.shape_env, {})[symbol] = target


def size_of(value: Any) -> Size:
    """Return an int or a sympy expression for an int, ``SymInt`` or expression."""
    if hasattr(value, "node"):  # a torch.SymInt; rules import this file, so it imports no framework
        value = expression(value)
    if isinstance(value, (int, sympy.Integer)):
        return int(value)
    if isinstance(value, sympy.Expr) and value.is_Integer:
        return int(value)
    return value


def shape_of(value: torch.Tensor) -> tuple[Size, ...]:
    """Return a fake tensor's shape."""
    return tuple(size_of(s) for s in value.shape)


def is_static(size: Size) -> bool:
    """Tell whether a size is a known number."""
    return isinstance(size, int)


def product(sizes: Any) -> Size:
    """Multiply sizes."""
    result: Size = 1
    for size in sizes:
        result = result * size
    return result
