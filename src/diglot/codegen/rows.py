"""Many instances of one class in a row, as a person constructs them: short, with what repeats said once."""

from __future__ import annotations

import ast
import copy
import itertools
from typing import Any

from diglot.codegen.expr import E, text, to_ast
from diglot.codegen.names import unique
from diglot.codegen.optional import Any_, Instance

_LONG = 84  # characters of an item that stays on a line of its own
_SIZES = ("channels", "features")


def rows(items: list[ast.expr]) -> list[ast.expr]:
    """Return a list's items with each run of three or more that are alike, or count on, as a comprehension."""
    found: list[ast.expr] = []
    if any(len(text(i)) > _LONG for i in items) and all(map(_by_name, items)):
        items = [_by_position(i) for i in items]
    place = 0
    while place < len(items):
        stop = place + 1
        while stop < len(items) and _progression(items[place : stop + 1]) is not None:
            stop += 1
        run = items[place:stop]
        if len(run) < 3:
            found.append(items[place])
            place += 1
            continue
        template = _progression(run)
        assert template is not None
        variable = "_" if ast.dump(template) == ast.dump(run[0]) else "i"
        made = E("[item for i in range(n)]", n=len(run))
        made.elt = template  # type: ignore[attr-defined]
        made.generators[0].target = ast.Name(variable, ast.Store())  # type: ignore[attr-defined]
        found.append(ast.Starred(made, ast.Load()))
        place = stop
    return found


def _by_name(item: ast.expr) -> bool:
    return isinstance(item, ast.Call) and bool(item.keywords) and not item.args


def _by_position(item: ast.expr) -> ast.expr:
    """``Block(16, 96, 2)``: so long a row says its arguments by position."""
    assert isinstance(item, ast.Call)
    return ast.Call(item.func, [k.value for k in item.keywords], [])


def _progression(items: list[ast.expr]) -> ast.expr | None:
    """Return what all of some constructions are: with ``64 + 32 * i`` where a whole number counts on with them."""
    if not all(isinstance(i, ast.Call) and isinstance(i.func, ast.Name) for i in items):
        return None
    columns = [_numbers(i) for i in items]
    forms = {ast.dump(_Blank().visit(copy.deepcopy(i))) for i in items}
    if len(forms) > 1:
        return None
    steps: dict[int, int] = {}
    for place, values in enumerate(zip(*columns, strict=True)):
        found = {b - a for a, b in itertools.pairwise(values)}
        if len(found) > 1:
            return None
        step = found.pop() if found else 0
        if step:
            steps[place] = step
    if len(items) == 2 and len(steps) > 1:
        return None
    return _Counted(steps).visit(copy.deepcopy(items[0]))


def _whole(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


def _numbers(item: ast.expr) -> list[int]:
    return [node.value for node in _constants(item) if _whole(node)]  # type: ignore[misc]


class _Blank(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Constant("<int>") if _whole(node) else node


class _Counted(ast.NodeTransformer):
    """Puts ``first + step * i`` in the place of numbers that count on."""

    def __init__(self, steps: dict[int, int]) -> None:
        self.steps = steps
        self.place = -1

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not _whole(node):
            return node
        self.place += 1
        step = self.steps.get(self.place)
        if step is None:
            return node
        counted = E("i") if step == 1 else E("step * i", step=to_ast(step))
        return E("first + counted", first=node, counted=counted) if node.value else counted


# --- parameters --------------------------------------------------------------------------------------------


def parameters(
    params: dict[str, list[Any]], places: dict[int, str], instances: list[Instance]
) -> tuple[dict[str, list[Any]], dict[int, str]]:
    """Name sizes by where they stand, and put them first: ``in_channels, hidden_channels, out_channels, stride``."""
    renamed: dict[str, str] = {}
    for size in _SIZES:
        outs = [n for n in params if n == f"out_{size}" or n.startswith(f"out_{size}_")]
        last = _last_size(instances[0], places, outs)
        if len(outs) > 1 and last is not None:
            for name in outs:
                wish = f"out_{size}" if name == last else f"hidden_{size}"
                # A class within may have a parameter of that name, which was taken over.
                renamed[name] = unique(wish, {*params, *renamed.values()} - set(outs))
    if "num_features" in params and "in_channels" not in params:
        renamed["num_features"] = "in_channels"  # a norm stands first
    order = {n: (_rank(renamed.get(n, n)), i) for i, n in enumerate(params)}
    flags = {n for n, v in params.items() if all(isinstance(x, (bool, Any_)) for x in v)}
    named = sorted(params, key=lambda n: (n in flags, order[n]))
    return (
        {renamed.get(n, n): params[n] for n in named},
        {place: renamed.get(n, n) for place, n in places.items()},
    )


def _rank(name: str) -> int:
    for rank, head in enumerate(("in_", "hidden_", "out_")):
        if name.startswith(head) and any(size in name for size in _SIZES):
            return rank
    return 3


def _last_size(instance: Instance, places: dict[int, str], outs: list[str]) -> str | None:
    """Return which of some parameters is the size of what the last layer gives."""
    count = sum(len(_constants(value)) for _, value in instance.inits)
    named = (places.get(place) for place in reversed(range(count)))
    return next((name for name in named if name in outs), None)


def _constants(value: ast.expr) -> list[ast.Constant]:
    """Return the constants of an expression, in the order in which they are written."""
    found: list[ast.Constant] = []

    class Visit(ast.NodeVisitor):
        def visit_Constant(self, node: ast.Constant) -> None:
            found.append(node)

    Visit().visit(value)
    return found


__all__ = ["parameters", "rows"]
