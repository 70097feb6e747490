"""Under which sizes an exported program holds, read off the guards that ``torch.export`` writes down."""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram

from diglot.ir.limits import by_author, leaves_out_numbers

Axis = tuple[str, int]
_SIZE = re.compile(r"L\['(?P<name>\w+)'\](?:\[(?P<item>\d+)\])?\.size\(\)\[(?P<axis>\d+)\]")
#: A bound on one size, or a number that it is not.
_LINEAR = re.compile(
    r"\(?(\d+\*)?\(?s_\w+\)?\)?(<=|<|>=|>|!=)\(?\d+\)?|\d+(<=|<|>=|>|!=)\(?(\d+\*)?s_\w+\)?"
)
_TWO = re.compile(r"\(?s_\w+\)?(<=|<|>=|>)\(?s_\w+\)?")
_ORDERED = re.compile(r"[^<>=!]+(<=|<|>=|>)[^<>=!]+")
_UNEQUAL = re.compile(r"[^<>=!]+!=[^<>=!]+")
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_EXTREMES: dict[str, Callable[..., Any]] = {"max": max, "min": min}
_TRIED = (2, 3, 5, 8, 13)
_FURTHER = 64  # sizes beyond a bound


def guarded_axes(program: ExportedProgram, names: list[str], values: list[Any]) -> set[Axis]:
    """Return the dynamic axes on which the model branches (``size % 2 == 0``).

    ``values`` are the examples by name; leading sizes that are equal in them are one batch. A bound
    (``size <= 512``: a table of positions) leaves a size dynamic within it, and so does ``size != 10`` (see
    :mod:`diglot.ir.limits`); two equal sizes are one size; what then holds for every size, or for every one that
    the bounds leave (``size // 4 != 1`` from 8 on), says nothing.
    Any other guard fixes the sizes it speaks of.
    """
    return {axis for fixing in fixing_guards(program, names, values) for axis in fixing.axes}


@dataclasses.dataclass(frozen=True)
class Fixing:
    """A guard that fixes the sizes of some axes; ``holds`` tells whether it is fulfilled for sizes of its variables."""

    axes: set[Axis]
    holds: Callable[[Iterable[Sequence[int]]], bool]
    variables: int


def fixing_guards(program: ExportedProgram, names: list[str], values: list[Any]) -> list[Fixing]:
    """The guards that :func:`guarded_axes` speaks of."""
    guards = [_named(g, names) for g in getattr(program, "_guards_code", None) or []]
    equal = _one_batch(names, values)
    for text, _ in guards:
        match = re.fullmatch(r"\(?(s_\w+)\)?==\(?(s_\w+)\)?", text)
        if match:
            equal[_root(equal, match[1])] = _root(equal, match[2])
    found: list[Fixing] = []
    shortest = _shortest(program, names)
    examples = dict(zip(names, values, strict=True))
    unequal, compared, bounded = _author_compares(program)
    for text, axes in guards:
        if _LINEAR.fullmatch(text):
            continue
        # Inside PyTorch such comparisons choose a stride, never a result.
        if (not unequal and _UNEQUAL.fullmatch(text)) or (not compared and _TWO.fullmatch(text)):
            continue
        variables = sorted({_root(equal, v) for v in axes})
        if _always(text, axes, equal, itertools.product(_TRIED, repeat=len(variables)), variables):
            continue
        inner = not compared and (len(variables) > 1 or not bounded)
        if inner and _ORDERED.fullmatch(text):
            # A product of sizes and one of them: it is larger but for images of a pixel.
            beyond = itertools.product(*(_larger(examples, axes, equal, v) for v in variables))
            if _always(text, axes, equal, beyond, variables):
                continue
        least = max(shortest.get(axis, 2) for axis in axes.values())
        longer = ([size] for size in range(least, least + _FURTHER))
        if len(variables) != 1 or not _always(text, axes, equal, longer, variables):
            holds = functools.partial(_holds, text, axes, equal, variables)
            found.append(Fixing(set(axes.values()), holds, len(variables)))
    return found


def _holds(
    text: str,
    axes: dict[str, Axis],
    equal: dict[str, str],
    variables: list[str],
    tried: Iterable[Sequence[int]],
) -> bool:
    return _always(text, axes, equal, tried, variables)


def _one_batch(names: list[str], values: list[Any]) -> dict[str, str]:
    """Return which leading sizes are the same, by the names of :func:`_named`."""
    first: dict[int, str] = {}
    equal: dict[str, str] = {}
    for name, value in zip(names, values, strict=True):
        if getattr(value, "ndim", 0):
            variable = f"s_{name}_0"
            equal[variable] = first.setdefault(int(value.shape[0]), variable)
    return equal


def _larger(
    examples: dict[str, Any], axes: dict[str, Axis], equal: dict[str, str], variable: str
) -> list[int]:
    """The size that a variable has in the example, and some beyond it."""
    name, axis = next(axis for v, axis in axes.items() if _root(equal, v) == variable)
    size = int(examples[name].shape[axis])
    return [size, size + 1, size + 3, 2 * size + 1, 5 * size]


def _shortest(program: ExportedProgram, names: list[str]) -> dict[Axis, int]:
    """The least that each dynamic size may be."""
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    given = inputs[len(inputs) - len(names) :]
    found = {}
    for name, value in zip(names, given, strict=True):
        for axis, size in enumerate(getattr(value, "shape", ())):
            known = program.range_constraints.get(
                getattr(getattr(size, "node", None), "expr", None)
            )
            if known is not None and known.lower.is_Integer:
                found[name, axis] = int(known.lower)
    return found


def _author_compares(program: ExportedProgram) -> tuple[bool, bool, bool]:
    """Tell whether the model's own code asks for unequal sizes, and whether it compares two sizes, or any.

    ``size != 10`` needs no answer here: the generated program refuses that one size.
    """
    sizes = [
        size
        for node in program.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta.get("val"), torch.Tensor)
        for size in node.meta["val"].shape
        if isinstance(size, torch.SymInt)
    ]
    if not sizes:
        return False, False, False
    env = sizes[0].node.shape_env
    asked = [env.replace(guard.expr) for guard in env.guards if by_author(guard)]
    unequal = any(isinstance(r, sympy.Ne) and not leaves_out_numbers(r) for r in asked)
    compared = any(
        r.is_Relational and not isinstance(r, sympy.Eq) and len(r.free_symbols) > 1 for r in asked
    )
    bounded = any(r.is_Relational and not isinstance(r, (sympy.Eq, sympy.Ne)) for r in asked)
    return unequal, compared, bounded


def asks_for_sizes(program: ExportedProgram) -> bool:
    """Tell whether the model's own code compares sizes, but for bounds and for single sizes that it leaves out."""
    for guard in _env_guards(program):
        relation = guard.expr
        single = relation.is_Relational and len(relation.free_symbols) == 1
        bound = single and isinstance(relation, (sympy.Le, sympy.Lt, sympy.Ge, sympy.Gt))
        if by_author(guard) and not bound and not leaves_out_numbers(relation):
            return True
    return False


def _env_guards(program: ExportedProgram) -> list[Any]:
    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        for size in value.shape if isinstance(value, torch.Tensor) else ():
            if isinstance(size, torch.SymInt):
                return list(size.node.shape_env.guards)
    return []


def _named(guard: str, names: list[str]) -> tuple[str, dict[str, Axis]]:
    """Give each size in a guard a plain name."""
    axes: dict[str, Axis] = {}

    def name(match: re.Match[str]) -> str:
        source = match["name"]
        if source not in names and match["item"] is not None and int(match["item"]) < len(names):
            source = names[int(match["item"])]
        variable = f"s_{source}_{match['axis']}"
        axes[variable] = (source, int(match["axis"]))
        return variable

    text = re.sub(r"\s+", " ", _SIZE.sub(name, guard)).strip()
    return re.sub(r"(?<! or)(?<! and) (?!or |and )", "", text), axes


def _root(equal: dict[str, str], variable: str) -> str:
    while variable in equal and equal[variable] != variable:
        variable = equal[variable]
    return variable


def _always(
    text: str,
    axes: dict[str, Axis],
    equal: dict[str, str],
    tried: Iterable[Sequence[int]],
    variables: list[str],
) -> bool:
    """Tell whether a guard holds for every combination of sizes that is tried."""
    try:
        tree = ast.parse(text, mode="eval").body
        for sizes in tried:
            given = dict(zip(variables, sizes, strict=True))
            if not _value(tree, {v: given[_root(equal, v)] for v in axes}):
                return False
    except (SyntaxError, KeyError, ZeroDivisionError):
        return False  # nothing is known of it: the safe answer
    return True


def _value(node: ast.expr, sizes: dict[str, int]) -> Any:
    """Evaluate integer arithmetic and comparisons; ``KeyError`` for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, sizes)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    if isinstance(node, ast.BoolOp):  # broadcasting: ``a == b or b == 1``
        parts = [_value(part, sizes) for part in node.values]
        return any(parts) if isinstance(node.op, ast.Or) else all(parts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXTREMES:
        return _EXTREMES[node.func.id](*[_value(argument, sizes) for argument in node.args])
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _OPERATORS[type(node.ops[0])](
            _value(node.left, sizes), _value(node.comparators[0], sizes)
        )
    raise KeyError(ast.dump(node))
