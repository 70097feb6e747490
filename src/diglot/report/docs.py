"""The pages of ``docs/`` that come from records: ``coverage.md`` and ``false_friends.md`` from the rules,
``guide.md`` from the guide.

``python -m diglot.report.docs`` writes them, ``--check`` only says whether they are up to date.
The first two are made from the registry alone, so that what is documented is what is translated.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Where tests show differences between the languages, and not how they are listed or printed.
_PINNING = ("rules", "parity", "meta")
_MADE = "<!-- Made by `python -m diglot.report.docs`; do not edit. -->\n"


@dataclass
class Friend:
    """A false friend: its topic and what differs, for which ops."""

    topic: str
    notes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """What a test may call it."""
        return {self.topic, *(op for ops in self.notes.values() for op in ops)}


def coverage(rules: Mapping[str, Any]) -> str:
    """Markdown: every op that is translated, one table for each family.

    ``rules`` maps the full name of an op to its :class:`diglot.rules.registry.Rule`.
    """
    families: dict[str, list[Any]] = {}
    for op in sorted(op for op in rules if op.startswith("aten.")):
        families.setdefault(str(getattr(rules[op], "family", "") or "other"), []).append(rules[op])
    parts = [
        "# What is translated",
        _MADE,
        f"{sum(map(len, families.values()))} ATen operators in {len(families)} families. In the "
        "Keras column stands the line itself where there is one, else what the line is made of: "
        "it then depends on the arguments.\n",
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
        _keras(rule),
        getattr(rule, "topic", "") or "",
    )
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _keras(rule: Any) -> str:
    """The Keras spelling where it is data; of a function, what it says or what it names."""
    spellings = [value for name in ("keras", "layer") if (value := getattr(rule, name, None))]
    written = next((value for value in spellings if isinstance(value, str)), None)
    if written:
        return _code(written)
    said = next((line for value in spellings if (line := _first_line(value))), None)
    if said:
        return said.replace("``", "`")
    named = dict.fromkeys(name for value in spellings for name in _names(value))
    if named:
        return ", ".join(_code(name) for name in named)
    file = f"{getattr(rule, 'family', '')}.py"
    return f"as the case needs: [{file}](../src/diglot/rules/{file})"


def _first_line(function: Any) -> str:
    return (getattr(function, "__doc__", "") or "").strip().partition("\n")[0]


def _names(function: Any) -> list[str]:
    """The layers and operations of Keras that a function's source names."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return []
    found = re.findall(r"\b(?:layers|ops)\.[A-Za-z_](?:\w|\{\w+\})*(?:\.[a-z_]\w*)?", source)
    # layers.Conv{rank}D is written for several ranks.
    return [re.sub(r"\{\w+\}", "N", name) for name in found]


def _code(text: Any) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def false_friends(rules: Mapping[str, Any], tests: Path | None = None) -> str:
    """Markdown: the differences that the rules know of, with the tests that show them.

    ``tests`` is the folder in which tests are looked for: a test pins a topic when the topic or
    one of its ops is one of its strings, whole, or of those that decorate it.
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
        parts.append(f"## {friend.topic}\n")
        for note, ops in friend.notes.items():
            parts.append(note.rstrip(".") + ".\n")
            parts.append("Operators: " + ", ".join(f"`{op}`" for op in ops) + "\n")
        pins = sorted({label for label, strings in found if friend.names & strings})
        if pins:
            parts.append("Pinned by: " + ", ".join(f"`{test}`" for test in pins) + "\n")
    return "\n".join(parts).rstrip("\n") + "\n"


def _friends(rules: Mapping[str, Any]) -> list[Friend]:
    friends: dict[str, Friend] = {}
    for op in sorted(rules):
        note = " ".join(str(getattr(rules[op], "note", "") or "").split())
        if note:
            topic = str(getattr(rules[op], "topic", "") or op)
            friends.setdefault(topic, Friend(topic)).notes.setdefault(note, []).append(op)
    return sorted(friends.values(), key=lambda friend: friend.topic.lower())


def _test_strings(folder: Path) -> Iterable[tuple[str, set[str]]]:
    """(``file::test``, all strings in it) of every test function of the folders that pin."""
    for path in sorted(path for name in _PINNING for path in (folder / name).rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        label = path.relative_to(folder.parent).as_posix()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield (
                    f"{label}::{node.name}",
                    {
                        item.value
                        for item in ast.walk(node)
                        if isinstance(item, ast.Constant) and isinstance(item.value, str)
                    },
                )


def pages(root: Path) -> dict[Path, str]:
    """What the generated files of the checkout at ``root`` must contain."""
    from diglot.benchmark.guide import guide_page
    from diglot.rules import registry

    rules = registry()
    tests = root / "tests"
    return {
        root / "docs" / "coverage.md": coverage(rules),
        root / "docs" / "guide.md": guide_page(),
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
