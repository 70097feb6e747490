"""Tables of numbers in which the instances of a class differ: one constructor argument each, not one a number."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from diglot.codegen.expr import text
from diglot.codegen.optional import Instance


class Table(list):
    """A table of numbers as one constant; two are the same where their numbers are."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(repr(self))


def merge_tables(instances: Sequence[Instance]) -> None:
    """Make tables that are not the same in all instances constants, in place."""
    if len(instances) < 2:
        return
    for name in {name for instance in instances for name, _ in instance.inits}:
        calls = [c for i in instances if (c := _table(dict(i.inits).get(name))) is not None]
        if len({ast.dump(c.args[0]) for c in calls}) > 1:
            for made in calls:
                made.args[0] = ast.Constant(Table(ast.literal_eval(made.args[0])))  # type: ignore[arg-type]


def _table(made: Any) -> ast.Call | None:
    """Return the call in ``register_buffer(name, torch.tensor([1, 2]))`` that makes the table."""
    if not isinstance(made, ast.Call) or text(made.func) != "register_buffer":
        return None
    values = made.args[1]
    if not isinstance(values, ast.Call) or not values.args:
        return None
    plain = (ast.List, ast.Constant, ast.UnaryOp, ast.USub, ast.Load)  # no float("nan")
    known = all(isinstance(n, plain) for n in ast.walk(values.args[0]))
    return values if known and isinstance(values.args[0], ast.List) else None


__all__ = ["Table", "merge_tables"]
