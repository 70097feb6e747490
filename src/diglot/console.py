"""How the command line looks: steps with timings, errors and the figures of a proof."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from diglot.errors import DiglotError, Unsupported
from diglot.output import divergence_lines

VERDICT_STYLES = {"proven": "bold green", "differs": "bold red", "unproven": "bold yellow"}


class Steps:
    """Steps of a long command, each with its time; a spinner where there is a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.timings: dict[str, float] = {}
        self._status: Any = None
        self._title = ""

    @contextlib.contextmanager
    def step(self, title: str, done: str | None = None) -> Iterator[None]:
        """Run one step; ``done`` is its title once it is over."""
        started = time.perf_counter()
        self._title = title
        shown = Text(f"{title} …")
        if self.console.is_terminal:
            self._status = self.console.status(shown, spinner="dots")
            self._status.start()
        finished = False
        try:
            yield
            finished = True
        finally:
            if self._status is not None:
                self._status.stop()
                self._status = None
            took = time.perf_counter() - started
            self.timings[title] = round(took, 3)
            mark = ("✓", "green") if finished else ("✗", "red")
            line = Text.assemble(mark, " ", (done or title) if finished else title)
            line.append(f"  {took:.1f} s", style="dim")
            self.console.print(line)

    def tell(self, *progress: object) -> None:
        """A proof's progress: shown beside the spinner, and nowhere else."""
        if self._status is not None:
            text = " ".join(str(part) for part in progress if part is not None)
            self._status.update(Text.assemble(self._title, " … ", (text[:100], "dim")))


def error_view(error: DiglotError) -> Group:
    """An error in colours: the sentence, then where, expected, received and what to do."""
    head, *rest = error.message.splitlines()
    parts: list[Any] = [Text.assemble(("✗ ", "bold red"), (head, "bold"))]
    if isinstance(error, Unsupported):
        for problem, *others in error.by_line():
            line = Text("  ")
            line.append(short_path(problem.where) or "<unknown line>", style="cyan")
            line.append("  ")
            line.append(problem.op, style="bold")
            if problem.module:
                line.append(f" in {problem.module}")
            if others:
                line.append(f" and {len(others)} more", style="dim")
            parts.append(line)
            if problem.hint:
                parts.append(Text(f"    {problem.hint}", style="dim"))
    else:
        parts += [Text(line) for line in rest]
    for label, text in error.details():
        parts.append(Text.assemble(("  " + label + ": ", "dim"), text))
    return Group(*parts)


def short_path(where: str) -> str:
    """A place in a file as a person would write it: from here, or from the package's name on."""
    if "/site-packages/" in where:
        return where.rpartition("/site-packages/")[2]
    here = f"{Path.cwd()}/"
    return where.removeprefix(here)


def proof_view(proof: Mapping[str, Any], directory: str | None = None) -> Panel:
    """The verdict and the figures that stand behind it."""
    verdict = str(proof.get("verdict", "unproven"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for label, figure in proof_figures(proof):
        table.add_row(label, Text(figure))
    for label, text in divergence_lines(proof):
        table.add_row(label, Text(text, style="red" if verdict == "differs" else "yellow"))
    for label, key in (("explained", "explained"), ("not compared", "not_compared")):
        items = proof.get(key) or []
        for item in items[:4]:
            table.add_row(label, Text(item_text(item)))
        if len(items) > 4:
            table.add_row("", f"and {len(items) - 4} more in proof.json")
    if directory:
        table.add_row("files", Text(directory))
    style = VERDICT_STYLES.get(verdict, "bold")
    title = Text(verdict.upper(), style=style)
    return Panel(table, title=title, border_style=style.split()[-1], expand=False)


def divergence_view(found: Mapping[str, Any]) -> Panel:
    """What `diglot diverge` found: the first layers that part and why, or that none do."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    worst = max((float(error) for error in found["outputs"]), default=0.0)
    rows = [("layers", f"{len(found['compared'])} compared, {len(found['not_compared'])} not")]
    if found["found"]:
        place = f" ({short_path(found['file'])}:{found['line']})" if found["file"] else ""
        rows = [
            ("parts first", (found["module"] or "the outputs") + place),
            ("in Keras", found["target_module"]),
            ("difference", f"{float(found['error']):.1e}, relatively; {found['where']}"),
            ("likely cause", found["likely_cause"] or "unknown"),
            *rows,
        ]
    rows.append(("outputs", f"within {worst:.1e}, relatively"))
    rows += [("not compared", item_text(item)) for item in found["not_compared"][:4]]
    for label, text in rows:
        if text:
            table.add_row(label, Text(text))
    title, style = ("DIVERGES", "red") if found["found"] else ("NO DIVERGENCE", "green")
    return Panel(table, title=Text(title, style=f"bold {style}"), border_style=style, expand=False)


def item_text(item: Any) -> str:
    """One explained or uncompared thing as a sentence."""
    if isinstance(item, Mapping):
        what = item.get("what") or item.get("name") or item.get("path") or item.get("target") or ""
        why = item.get("why") or item.get("reason") or item.get("text") or ""
        return f"{what}: {why}" if what and why else str(what or why or dict(item))
    return str(item)


def proof_figures(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, figure) pairs: the worst relative difference of each kind of check, float64 first."""
    worst: dict[str, float] = {}
    counts: dict[str, int] = {}
    for check in proof.get("checks") or []:
        try:
            error = float(check["worst"])  # JSON holds infinity as a string
        except (KeyError, TypeError, ValueError):
            continue
        kind = str(check.get("kind") or "check").replace("_", " ")
        dtype = str(check.get("dtype") or "float64")
        key = kind if dtype == "float64" else f"{kind}, {dtype}"
        counts[key] = counts.get(key, 0) + int(check.get("count") or 1)
        worst[key] = max(worst.get(key, 0.0), error)
    rows = [
        (key, f"≤ {value:.1e}  ({counts[key]} compared)")
        for key, value in sorted(worst.items(), key=lambda item: ("float32" in item[0], item[0]))
    ]
    seconds = proof.get("seconds")
    if isinstance(seconds, (int, float)):
        rows.append(("time", f"{seconds:.1f} s"))
    return rows


def rules_view(found: list[dict[str, Any]], detailed: bool) -> Group:
    """The dictionary: one line for each op, or with ``detailed`` an entry with its false friend."""
    count = Text(f"{len(found)} rule{'s' if len(found) != 1 else ''}", style="dim")
    if detailed:
        return Group(*(_rule_entry(rule) for rule in found), count)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column, style in (("PyTorch op", "cyan"), ("PyTorch", ""), ("Keras", "green")):
        table.add_column(column, style=style, overflow="fold")
    for rule in found:
        cells = (rule["op"], rule.get("torch"), rule.get("keras"))
        table.add_row(*(Text(str(cell or "")) for cell in cells))
    return Group(table, count)


def _rule_entry(rule: Mapping[str, Any]) -> Group:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim")
    lines.add_column(overflow="fold")
    labels = (("PyTorch", "torch"), ("Keras", "keras"), ("layout", "layout"))
    for label, key in labels:
        if rule.get(key):
            lines.add_row("  " + label, Text(str(rule[key])))
    if rule.get("note"):
        lines.add_row("  beware", Text(str(rule["note"]), style="yellow"))
    return Group(Text(rule["op"], style="bold cyan"), lines)


def doctor_view(findings: Mapping[str, Any]) -> Group:
    """What ``diglot doctor`` found, as a table."""
    table = Table.grid(padding=(0, 2))
    for style in ("", "bold", ""):
        table.add_column(style=style)
    marks = {"ok": Text("✓", "green"), "missing": Text("·", "yellow"), "bad": Text("✗", "red")}
    for check in findings["checks"]:
        # As Text: rich would take the [jax] of diglot[jax] for markup.
        table.add_row(marks[check["state"]], Text(check["name"]), Text(check["found"]))
        if check.get("command"):
            table.add_row("", "", Text(f"→ {check['command']}", style="cyan"))
    return Group(table, Text(findings["summary"], style="bold"))
