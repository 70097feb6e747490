"""The pages of ``docs/`` that come from the rules: ``coverage.md`` and ``false_friends.md``.

``python -m diglot.report.docs`` writes them, ``--check`` only says whether they are up to date.
Both are made from the registry alone, so that what is documented is what is translated.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MADE = "<!-- Made by `python -m diglot.report.docs`; do not edit. -->\n"


@dataclass
class Friend:
    """A false friend: its topic, what differs, the ops it concerns and the tests that pin it."""

    topic: str
    note: str
    ops: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def coverage(rules: Mapping[str, Any]) -> str:
    """Markdown: every op that is translated, one table for each family.

    ``rules`` maps the full name of an op to its :class:`diglot.rules.registry.Rule`.
    """
    families: dict[str, list[Any]] = {}
    for op in sorted(rules):
        families.setdefault(str(getattr(rules[op], "family", "") or "other"), []).append(rules[op])
    parts = [
        "# What is translated",
        _MADE,
        f"{len(rules)} ATen operators in {len(families)} families. Where the Keras column is "
        "empty, the line depends on the arguments and is written by a function.\n",
    ]
    for family in sorted(families):
        parts.append(f"## {family.replace('_', ' ').capitalize()}\n")
        parts.append("| ATen | PyTorch | Keras | Differs in |\n|---|---|---|---|")
        parts += [_row(rule) for rule in families[family]]
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _row(rule: Any) -> str:
    cells = (
        _code(rule.op),
        _code(getattr(rule, "torch", "")),
        _code(_keras(rule)),
        getattr(rule, "topic", "") or "",
    )
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _keras(rule: Any) -> str:
    """The Keras spelling where it is data: the expression, else the layer."""
    for name in ("keras", "layer"):
        value = getattr(rule, name, "")
        if isinstance(value, str) and value:
            return value
    return ""


def _code(text: Any) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def false_friends(rules: Mapping[str, Any], tests: Path | None = None) -> str:
    """Markdown: the differences that the rules know of, with the tests that show them.

    ``tests`` is the folder in which tests are looked for: a test pins a topic when it names the
    topic or one of its ops in a string or in its docstring.
    """
    friends = _friends(rules)
    found = list(_test_strings(tests)) if tests is not None else []
    parts = [
        "# False friends",
        _MADE,
        "What looks the same in PyTorch and in Keras and is not. Every entry is a note of a rule; "
        "the tests named below it show the difference.\n",
    ]
    for friend in friends:
        names = {friend.topic, *friend.ops}
        friend.tests = sorted({label for label, text in found if any(n in text for n in names)})
        parts += [f"## {friend.topic}\n", friend.note + "\n"]
        parts.append("Operators: " + ", ".join(f"`{op}`" for op in friend.ops) + "\n")
        if friend.tests:
            parts.append("Pinned by: " + ", ".join(f"`{test}`" for test in friend.tests) + "\n")
    return "\n".join(parts).rstrip("\n") + "\n"


def _friends(rules: Mapping[str, Any]) -> list[Friend]:
    friends: dict[tuple[str, str], Friend] = {}
    for op in sorted(rules):
        note = " ".join(str(getattr(rules[op], "note", "") or "").split())
        if note:
            topic = str(getattr(rules[op], "topic", "") or op)
            friends.setdefault((topic, note), Friend(topic, note)).ops.append(op)
    return sorted(friends.values(), key=lambda friend: (friend.topic.lower(), friend.note))


def _test_strings(folder: Path) -> Iterable[tuple[str, str]]:
    """(``file::test``, all strings in it) of every test function below ``folder``."""
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        label = path.relative_to(folder.parent).as_posix()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                strings = [
                    item.value
                    for item in ast.walk(node)
                    if isinstance(item, ast.Constant) and isinstance(item.value, str)
                ]
                yield f"{label}::{node.name}", "\n".join(strings)


def pages(root: Path) -> dict[Path, str]:
    """What the generated files of the checkout at ``root`` must contain."""
    from diglot.rules import registry

    rules = registry()
    tests = root / "tests"
    return {
        root / "docs" / "coverage.md": coverage(rules),
        root / "docs" / "false_friends.md": false_friends(rules, tests if tests.is_dir() else None),
    }


def stale(root: Path) -> list[Path]:
    """The generated files that are missing or say something else than the rules do."""
    return [
        path
        for path, text in pages(root).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files, or with ``--check`` names those that are out of date; exit status."""
    parser = argparse.ArgumentParser(prog="python -m diglot.report.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout (default: here)")
    options = parser.parse_args(arguments)
    if options.check:
        old = stale(options.root)
        for path in old:
            sys.stderr.write(f"{path} is out of date: run python -m diglot.report.docs\n")
        return 1 if old else 0
    for path, text in pages(options.root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
