"""What writing a program takes in either language: regions into classes, formatting, which line came from which."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from diglot.codegen.classes import Classes, Dissolve, LayerClass
from diglot.codegen.expr import to_ast
from diglot.codegen.program import Program
from diglot.codegen.statements import Statement
from diglot.codegen.tree import dissolve, dissolve_trivial
from diglot.errors import DiglotError
from diglot.ir.hub import Hub

LINE_LENGTH = 100


@dataclasses.dataclass
class Written:
    """A finished program and what is known about it."""

    source: str
    program: Program
    classes: list[LayerClass]
    root_name: str | None
    lines: list[tuple[str, int, int]]  # source file, source line, target line
    class_lines: dict[str, tuple[int, int]]


def compose(
    make: Callable[[], Program], hub: Hub, kind: type[Classes] = Classes
) -> tuple[Program, Classes, LayerClass | None]:
    """Write every region and build the classes, as often as regions turn out to need no class of their own."""
    dissolve_trivial(hub)
    root_is_class = False
    while True:
        program = make()
        program.root_is_class = root_is_class
        try:
            program.run()
            classes = kind(program)
            program.classes = classes
            return program, classes, classes.build()
        except Dissolve as needed:
            if needed.region is hub.root:  # the root has no caller to go into
                root_is_class = True
                continue
            # Every call of the module: its weights have one home.
            for region in [
                r for r in hub.root.walk() if r.path == needed.region.path and not r.function
            ]:
                dissolve(hub, region)


def bare_returns(code: str) -> str:
    """Write ``return (a, b)`` without the brackets that ``ast.unparse`` puts around a tuple."""

    def bare(match: re.Match) -> str:
        whole, inner = match["value"], match["value"][1:-1]
        try:
            same = ast.dump(ast.parse(inner)) == ast.dump(ast.parse(whole))
        except SyntaxError:
            return match[0]
        is_tuple = same and isinstance(ast.parse(whole).body[0].value, ast.Tuple)  # type: ignore[attr-defined]
        return f"{match['head']}{inner}" if is_tuple else match[0]

    return re.sub(r"^(?P<head> *return )(?P<value>\(.*\))$", bare, code, flags=re.MULTILINE)


def format_source(source: str) -> str:
    """Format with ruff. Raises :class:`DiglotError` where ruff refuses what was written."""
    from ruff import find_ruff_bin

    command = [find_ruff_bin(), "format", "--isolated", "--line-length", str(LINE_LENGTH), "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DiglotError(
            "the generated program could not be formatted", received=done.stderr.strip()
        )
    return done.stdout


def structure_ast(structure: Any, values: dict[str, ast.expr], path: str) -> ast.expr:
    """Build lists and dicts around the results; what is not a tensor is left out."""
    made = _structure(structure, values, path)
    return made if made is not None else ast.Tuple(list(values.values()), ast.Load())


def _structure(structure: Any, values: dict[str, ast.expr], path: str) -> ast.expr | None:
    if structure == "tensor":
        return values.get(path)
    if structure is None:
        return None
    kind, inner = structure
    join = f"{path}." if path else ""
    pairs = inner.items() if kind == "dict" else enumerate(inner)
    made = [(k, _structure(s, values, f"{join}{k}")) for k, s in pairs]
    kept = [(k, v) for k, v in made if v is not None]
    if not kept:
        return None
    if kind == "dict":
        return ast.Dict([to_ast(str(k)) for k, _ in kept], [v for _, v in kept])
    return ast.List([v for _, v in kept], ast.Load())


def structure_json(structure: Any, ports: set[str], path: str = "") -> Any:
    """Return the returned structure without what is not a tensor, as ``weight_map.json`` holds it."""
    if structure == "tensor":
        return "tensor" if path in ports else None
    if structure is None:
        return None
    kind, inner = structure
    join = f"{path}." if path else ""
    if kind == "dict":
        kept = {
            k: v
            for k, s in inner.items()
            if (v := structure_json(s, ports, f"{join}{k}")) is not None
        }
        return ["dict", kept] if kept else None
    listed = [
        v for i, s in enumerate(inner) if (v := structure_json(s, ports, f"{join}{i}")) is not None
    ]
    return ["list", listed] if listed else None


def line_map(
    source: str, classes: list[LayerClass], method: str = "call"
) -> tuple[list[tuple[str, int, int]], dict[str, tuple[int, int]]]:
    """Match each written statement with its lines after formatting (ruff keeps the order of statements)."""
    by_name = definitions(source)
    lines: list[tuple[str, int, int]] = []
    spans: dict[str, tuple[int, int]] = {}
    for made in classes:
        node = by_name[made.name]
        spans[made.name] = (
            node.decorator_list[0].lineno if node.decorator_list else node.lineno,
            node.end_lineno or node.lineno,
        )
        lines += statement_lines(made.statements, _body(node, method))
    return lines, spans


def definitions(source: str) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """Return a program's classes and functions by name."""
    found = ast.parse(source).body
    return {n.name: n for n in found if isinstance(n, (ast.ClassDef, ast.FunctionDef))}


def _body(node: ast.ClassDef | ast.FunctionDef, method: str) -> list[ast.stmt]:
    """Return what a function does, or a class's method."""
    if isinstance(node, ast.FunctionDef):
        return node.body
    return next(f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == method).body


def placed(
    source: str, classes: list[LayerClass], method: str = "call"
) -> Iterator[tuple[LayerClass, Statement, int, int]]:
    """Yield every written statement with its class, and its first and last line."""
    by_name = definitions(source)
    for made in classes:
        for place in _spans(made.statements, _body(by_name[made.name], method)):
            yield made, *place


def statement_lines(written: list[Statement], found: list[ast.stmt]) -> list[tuple[str, int, int]]:
    """Pair the author's lines of statements with those of the formatted text."""
    return [
        (statement.origin.file, statement.origin.line, line)
        for statement, first, last in _spans(written, found)
        if statement.origin is not None
        for line in range(first, last + 1)
    ]


def _spans(written: list[Statement], found: list[ast.stmt]) -> Iterator[tuple[Statement, int, int]]:
    """Yield statements with their first and last line in the formatted text."""
    for statement, node in zip(written, found, strict=False):
        yield statement, node.lineno, node.end_lineno or node.lineno
