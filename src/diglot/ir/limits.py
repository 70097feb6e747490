"""Under which dynamic sizes a captured program holds, who said so, and what happens beyond them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sympy

from diglot.ir.hub import is_mark, target_name
from diglot.ir.sizes import is_static, resolved, shape_of, size_of

if TYPE_CHECKING:
    from torch import fx

    from diglot.ir.hub import Hub

#: Ops that keep every axis of their first argument, beside those that PyTorch tags as pointwise.
_KEEPING = {
    "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default", "aten.dropout.default",
    "aten.alias.default", "aten.detach.default", "aten.contiguous.default", "aten.masked_fill.Tensor",
    "aten.__and__.Tensor", "aten.__or__.Tensor", "aten.masked_fill.Scalar",
}  # fmt: skip
#: ``lengths.sort()`` and the first of its results.
_SORTING = {"aten.sort.default", "aten.sort.stable", "operator.getitem"}
#: The mask's last two axes meet the queries' and the keys'.
_ATTENTION = "aten.scaled_dot_product_attention.default"


@dataclasses.dataclass(frozen=True)
class Limit:
    """The sizes of one axis of an input for which the program holds.

    ``low`` and ``high`` are ``None`` where nothing bounds the size; ``without`` are sizes at which the source does
    something else. ``enforced``: beyond ``high`` an op fails by itself, in any framework; sizes that are no multiple
    of ``multiple`` fail in the source, too.
    """

    input: fx.Node
    name: str
    axis: int  # in the target's layout
    low: int | None
    high: int | None
    without: tuple[int, ...] = ()
    enforced: bool = False
    multiple: int = 1


def limits(hub: Hub) -> list[Limit]:
    """Return every limit on a size, in the order of the inputs' axes."""
    found: list[Limit] = []
    seen: set[Any] = set()
    for node, name in zip(hub.inputs, hub.input_names, strict=True):
        for axis, value in enumerate(node.meta["val"].shape):
            size = size_of(value)
            if is_static(size) or size in seen:
                continue
            seen.add(size)
            low, high = bounds(hub, value)
            guards = _guards(value, size)
            without = {n for g, author in guards if author for n in _left_out(g, size)}
            multiple = hub.multiples.get(str(size), 1)
            if low is None and high is None and not without and multiple == 1:
                continue
            layout = node.meta.get("layout")
            at = layout.index(axis) if layout else axis
            enforced = (
                low is None and not without
                if high is None
                else _fails_beyond(hub, size, high, guards)
            )
            found.append(
                Limit(node, name, at, low, high, tuple(sorted(without)), enforced, multiple)
            )
    return found


def bounds(hub: Hub, value: Any) -> tuple[int | None, int | None]:
    """Return the least and the greatest value of a dynamic size, ``None`` where nothing bounds it."""
    size = size_of(value)
    known = (getattr(hub.exported, "range_constraints", None) or {}).get(size)
    # PyTorch captures with sizes of at least 2; what it captures holds for 1 as well.
    lows = [int(known.lower)] if known is not None and known.lower > 2 else []
    highs = [int(known.upper)] if known is not None and known.upper < 2**31 else []
    for relation, _ in _guards(value, size):  # `2 * size <= 21` is in no range
        low, high = _linear_bounds(relation, size)
        lows += [low] if low is not None and low > 2 else []
        highs += [high] if high is not None else []
    return max(lows, default=None), min(highs, default=None)


def _linear_bounds(relation: Any, size: Any) -> tuple[int | None, int | None]:
    """Solve ``a * size + b <= 0`` and the like for the integers that fulfil it."""
    if isinstance(relation, (sympy.Ge, sympy.Gt)):
        relation = relation.reversed
    difference = relation.lhs - relation.rhs
    if not isinstance(relation, (sympy.Le, sympy.Lt)) or not difference.is_polynomial(size):
        return None, None
    slope, rest = difference.coeff(size, 1), difference.coeff(size, 0)
    if slope == 0 or sympy.degree(difference, size) != 1:
        return None, None
    edge = -(rest + 1 if isinstance(relation, sympy.Lt) else rest) / slope
    return (None, int(sympy.floor(edge))) if slope > 0 else (int(sympy.ceiling(edge)), None)


def by_author(guard: Any) -> bool:
    """Tell whether a guard of a ``ShapeEnv`` comes from the model's own ``if``, not from inside PyTorch."""
    import torch

    file = getattr(getattr(guard.sloc, "framework_loc", None), "filename", None)
    return file is not None and not file.startswith(str(Path(torch.__file__).parent) + os.sep)


def _guards(value: Any, size: Any) -> list[tuple[Any, bool]]:
    """Return the relations that hold one size alone, and whether the author wrote them."""
    env = value.node.shape_env
    found = [(resolved(env, guard.expr), by_author(guard)) for guard in env.guards]
    return [(r, author) for r, author in found if r.is_Relational and r.free_symbols == {size}]


def leaves_out_numbers(relation: Any) -> bool:
    """Tell whether a relation leaves out single sizes of one axis: ``size != 10``."""
    if not isinstance(relation, sympy.Ne) or len(relation.free_symbols) != 1:
        return False
    return bool((relation.lhs - relation.rhs).is_polynomial(*relation.free_symbols))


def _left_out(relation: Any, size: Any) -> list[int]:
    """Return the sizes that ``size != 10`` leaves out."""
    if not leaves_out_numbers(relation):
        return []
    roots = sympy.roots(relation.lhs - relation.rhs, size)
    return [int(r) for r in roots if r.is_Integer and r > 0]


def _fails_beyond(hub: Hub, size: Any, high: int, guards: list[tuple[Any, bool]]) -> bool:
    """Tell whether a bound is a table that is too short, and its rows meet something of the whole size.

    ``x + table[:, :length]`` takes all of a table of 512 rows where the length is 600, and 512 rows do not
    broadcast against 600. The same rows alone (their mean, say) would be a result of the wrong size.
    """
    reasons = [
        author for relation, author in guards if relation.subs(size, high + 1) is sympy.false
    ]
    if not reasons or any(reasons):
        return False
    short: dict[fx.Node, int] = {}  # a value with too few rows -> the axis, counted from the end
    for node in hub.graph.nodes:
        if node.op != "call_function":
            continue
        given = [n for n in node.all_input_nodes if n in short]
        if _is_cut(node, size, high):
            short[node] = _from_end(node, node.args[1] if len(node.args) > 1 else 0)
        elif given and target_name(node) == "aten.unsqueeze.default":
            at = _from_end(node, node.args[1])
            short[node] = short[given[0]] - (short[given[0]] <= at)
        elif given and target_name(node) == _ATTENTION:
            return True  # a mask on scores that have the whole size
        elif given and _keeps_axes(node):
            axis = short[given[0]]
            others = [n for n in node.all_input_nodes if n not in short]
            if any(_size_at(other, axis) == size for other in others):
                return True
            short[node] = axis
    return False


def _is_cut(node: fx.Node, size: Any, high: int) -> bool:
    """Tell whether a node takes the first ``size`` rows of a table of ``high``."""
    if target_name(node) != "aten.slice.Tensor":
        return False
    axis = _from_end(node, node.args[1] if len(node.args) > 1 else 0)
    return _size_at(node.args[0], axis) == high and _size_at(node, axis) == size


def _keeps_axes(node: fx.Node) -> bool:
    import torch

    tags = getattr(node.target, "tags", ())
    return is_mark(node) or target_name(node) in _KEEPING or torch.Tag.pointwise in tags


def _from_end(node: fx.Node, axis: int) -> int:
    return axis - node.meta["val"].dim() if axis >= 0 else axis


def _size_at(node: fx.Node, axis: int) -> Any:
    """Return a tensor's size along an axis counted from the end, or ``None``."""
    shape = shape_of(node.meta["val"]) if hasattr(node.meta.get("val"), "shape") else ()
    return shape[axis] if -axis <= len(shape) else None


def lengths_of_sequences(hub: Hub) -> dict[fx.Node, dict[str, Any]]:
    """Return the inputs that hold lengths of packed sequences: up to which size, and whether they must descend."""
    found: dict[fx.Node, dict[str, Any]] = {}
    for node in hub.graph.nodes:
        if node.op != "call_function" or target_name(node) != "diglot.step_mask.default":
            continue
        lengths, size, is_sorted = node.args
        if hasattr(size, "meta"):
            size = size_of(size.meta["val"])
        origin = lengths
        while is_mark(origin) or target_name(origin) in _KEEPING | _SORTING:
            origin = origin.args[0]
        if origin in hub.inputs:
            known = found.setdefault(origin, {"length": str(size), "sorted": False})
            known["sorted"] = known["sorted"] or bool(is_sorted)
    return found


__all__ = ["Limit", "bounds", "by_author", "leaves_out_numbers", "lengths_of_sequences", "limits"]
