"""How a program says for which sizes it holds, and refuses the others."""

from __future__ import annotations

import ast

from diglot.codegen.expr import E, text
from diglot.errors import Problem
from diglot.ir.limits import Limit


def sentence(limit: Limit) -> str:
    """Return the limit as a line of a docstring."""
    return f"``{limit.name}`` holds {_words(limit)} along axis {limit.axis}, as in the source."


def checks(limit: Limit, value: ast.expr) -> list[ast.stmt]:
    """Return the statements that refuse other sizes; a size that is not known while tracing passes."""
    size = E("x.shape[i]", x=value, i=limit.axis)
    wrong: list[ast.expr] = []
    if limit.low is not None:
        wrong.append(E("x < n", x=size, n=limit.low))
    if limit.high is not None and not limit.enforced:
        wrong.append(E("x > n", x=size, n=limit.high))
    wrong += [E("x == n", x=size, n=n) for n in limit.without]
    if not wrong:
        return []
    outside = wrong[0] if len(wrong) == 1 else ast.BoolOp(ast.Or(), wrong)
    test = ast.BoolOp(ast.And(), [E("x is not None", x=size), outside])
    expected = f"{limit.name}: expected {_words(limit)} along axis {limit.axis}"
    message = ast.parse(f'f"{expected}, received {{{text(size)}}}"', mode="eval").body
    return [ast.If(test, [ast.Raise(E("ValueError(m)", m=message))], [])]


def _words(limit: Limit) -> str:
    words = []
    if limit.low is not None:
        words.append(f"at least {limit.low}")
    if limit.high is not None:
        words.append(f"at most {limit.high}")
    if limit.multiple > 1:
        words.append(f"a multiple of {limit.multiple}")
    if limit.without:
        words.append(f"any size but {' or '.join(map(str, limit.without))}")
    return ", ".join(words)


def refused(found: list[Limit]) -> list[Problem]:
    """Return what a Functional model cannot check: it runs no Python once it is built."""
    return [
        Problem(
            f"{limit.name}: {_words(limit)} along axis {limit.axis}",
            "",
            "",
            "a Functional model cannot refuse other sizes; use style='layers', or fix this size with `dynamic`",
        )
        for limit in found
        if checks(limit, ast.Name(limit.name, ast.Load()))
    ]
