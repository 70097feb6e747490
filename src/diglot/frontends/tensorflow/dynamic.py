"""Sizes that several inputs of a graph have in common.

A graph says of its inputs' sizes only that they are not fixed: that the batch of the ids is that of their mask shows
where both meet. Where they meet as products (``reshape(ids, [-1])`` beside ``reshape(mask, [batch, 1, 1, length])``),
``torch.export`` cannot solve for the single sizes and would fix them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sympy
import torch

#: An axis of an input: the input's number and the axis.
Axis = tuple[int, int]


def equal_sizes(env: Any, inputs: Sequence[Any]) -> list[tuple[Axis, Axis]]:
    """Pairs of axes of inputs that must be of one size, for a comparison of products of sizes to hold.

    ``env`` is the ``ShapeEnv`` in which the graph ran on the fake tensors ``inputs``. Axes are paired with those at
    the same place of other inputs, and only where every size of the comparison is explained by that.
    """
    places: dict[Any, tuple[Axis, Any]] = {}  # of each symbol: its axis, and the example's size
    for number, value in enumerate(inputs):
        for axis, size in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
            if isinstance(size, torch.SymInt) and isinstance(size.node._expr, sympy.Symbol):
                places.setdefault(size.node._expr, ((number, axis), size.node.hint))
    pairs: dict[tuple[Axis, Axis], None] = {}
    for guard in env.guards:
        if isinstance(guard.expr, sympy.Eq):
            pairs.update(dict.fromkeys(_pairs(guard.expr, places)))
    return list(pairs)


def are_short(env: Any, found: Iterable[Any]) -> bool:
    """Tell whether a size that follows from the inputs' is 1, only because the examples are as short as they are.

    An axis of size 1 is broadcast and has strides of its own: the graph was decided on as one of such examples alone.
    ``found`` are the values of the graph's nodes.
    """
    sizes = (n for value in found if isinstance(value, torch.Tensor) for n in value.shape)
    if any(isinstance(n, torch.SymInt) and n.node.hint == 1 for n in sizes):
        return True
    return any(
        isinstance(guard.expr, sympy.Eq)
        and guard.expr.rhs == 1
        and not isinstance(guard.expr.lhs, sympy.Symbol)
        for guard in env.guards
    )


def _pairs(equation: sympy.Eq, places: dict[Any, tuple[Axis, Any]]) -> list[tuple[Axis, Axis]]:
    first: dict[int, Any] = {}
    change, found = {}, []
    for symbol in sorted(equation.free_symbols & places.keys(), key=lambda s: places[s][0]):
        place, example = places[symbol]
        other = first.setdefault(place[1], symbol)
        if other is not symbol and places[other][1] == example:
            change[symbol] = other
            found.append((places[other][0], place))
    return found if equation.xreplace(change) == sympy.true else []


def check_equal(values: Sequence[Any], pairs: Sequence[tuple[Axis, Axis]]) -> None:
    """Tell PyTorch's tracing that the axes of each pair are of one size."""
    for (one, axis), (two, other) in pairs:
        torch._check(values[two].shape[other] == values[one].shape[axis])
