"""A program's text for the pages: its lines, and where its classes and methods begin."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diglot.report.highlight import highlight_lines

# What PyTorch calls a method, and what the same method is called in Keras.
SAME_METHOD = {"forward": "call", "__call__": "call", "extra_repr": "get_config"}
_LONGEST_DECLARATION = 6
_METHOD = re.compile(r" {4}(?:async )?def (\w+)")


@dataclass(frozen=True)
class Line:
    """One line of code on a page; ``key`` is the identity that links refer to."""

    number: int
    key: str
    html: str
    indent: int
    links: tuple[str, ...] = ()


class Text:
    """A program's text, of which only a range may be known, highlighted line by line."""

    def __init__(self, parts: Any, prefix: str) -> None:
        self.prefix = prefix
        self.parts: list[tuple[int, list[str]]] = []
        for part in parts if isinstance(parts, list) else [parts]:
            if isinstance(part, Mapping):
                first, text = int(part.get("first_line") or 1), str(part.get("text") or "")
            else:
                first, text = 1, str(part)
            self.parts.append((first, text.replace("\r\n", "\n").split("\n")))
        self.raw = {
            first + offset: line for first, lines in self.parts for offset, line in enumerate(lines)
        }

    @cached_property
    def html(self) -> dict[int, str]:
        out: dict[int, str] = {}
        for first, lines in self.parts:
            # A range may start inside a class: without its indentation the lexer sees no error.
            for offset, html in enumerate(highlight_lines("\n".join(lines))):
                out[first + offset] = html
        return out

    def key(self, number: int) -> str:
        return f"{self.prefix}{number}"

    def top_level(self) -> list[tuple[str, int, int]]:
        """(name, first, last line) of every top-level function and class that can be parsed."""
        found = []
        for first, lines in self.parts:
            for node in _parse("\n".join(lines)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                    begin, end = _extent(node)
                    found.append((node.name, first + begin - 1, first + end - 1))
        return found

    def lines(self, first: int, last: int, links: Mapping[str, Sequence[str]]) -> list[Line]:
        """The known lines from ``first`` to ``last`` (both included), without blank ends."""
        numbers = [n for n in range(first, last + 1) if n in self.raw]
        while numbers and not self.raw[numbers[0]].strip():
            numbers.pop(0)
        while numbers and not self.raw[numbers[-1]].strip():
            numbers.pop()
        return [self._line(n, links) for n in numbers]

    def _line(self, number: int, links: Mapping[str, Sequence[str]]) -> Line:
        raw = self.raw[number].expandtabs(4)
        key = self.key(number)
        return Line(
            number=number,
            key=key,
            html=self.html.get(number, ""),
            indent=min(len(raw) - len(raw.lstrip(" ")), 40),
            links=tuple(links.get(key, ())),
        )

    def docstring(self, lines: Sequence[Line]) -> str:
        """First line of the docstring of the function or class that ``lines`` hold."""
        for node in _parse("\n".join(self.raw[line.number] for line in lines)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""

    def declarations(self, first: int, last: int) -> dict[str, list[int]]:
        """Line numbers by what they declare: "class", "def name", "self.name"."""
        found: dict[str, list[int]] = {}
        for node in _parse("\n".join(self.raw.get(n, "") for n in range(first, last + 1))):
            if not isinstance(node, ast.ClassDef):
                continue
            found["class"] = [first + node.lineno - 1]
            for child in node.body:
                if not isinstance(child, ast.FunctionDef):
                    continue
                name = SAME_METHOD.get(child.name, child.name)
                found[f"def {name}"] = [first + child.lineno - 1]
                for part in ast.walk(child) if name in ("__init__", "build") else ():
                    if isinstance(part, ast.Assign | ast.AnnAssign):
                        lines = range(part.lineno, (part.end_lineno or part.lineno) + 1)
                        for attribute in _assigned(part):
                            numbers = found.setdefault(f"self.{attribute}", [])
                            numbers += [first + n - 1 for n in lines][:_LONGEST_DECLARATION]
        return found

    def sections(self, first: int, last: int) -> list[tuple[str, int, int]]:
        """The range cut before every method: (method name, first, last); "" is the head."""
        text = "\n".join(self.raw.get(n, "") for n in range(first, last + 1))
        cuts: list[tuple[str, int]] = [("", first)]
        for node in _parse(text):
            if isinstance(node, ast.ClassDef):
                for child in node.body:
                    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                        cuts.append((child.name, first + _extent(child)[0] - 1))
        if not _parse(text):  # no valid Python, so by the look of it
            cuts += [
                (found[1], n)
                for n in range(first, last + 1)
                if (found := _METHOD.match(self.raw.get(n, "")))
            ]
        ends = [cut[1] - 1 for cut in cuts[1:]] + [last]
        return [(name, begin, end) for (name, begin), end in zip(cuts, ends, strict=True)]


def _assigned(node: ast.AST) -> list[str]:
    """Attributes of self that a statement sets."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    flat = [
        part
        for target in targets
        for part in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]
    return [
        part.attr
        for part in flat
        if isinstance(part, ast.Attribute)
        and isinstance(part.value, ast.Name)
        and part.value.id == "self"
    ]


def _parse(text: str) -> list[ast.stmt]:
    """Top-level statements of ``text``, none where it is not valid Python."""
    try:
        return ast.parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError, RecursionError):
        return []


def _extent(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> tuple[int, int]:
    """First (decorators included) and last line of a definition."""
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    return first, node.end_lineno or node.lineno
