"""What the terminal shows of a run: a bar for what goes on, a line for what is done, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from diglot.zoo.pair import Exhibit


class RunView:
    """Listens to a `Runner`: a progress bar where there is a terminal, and a line for every stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._title = ""
        self._note = ""
        self._began = time.perf_counter()
        self._bar: Any = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(failed=error is not None)
        self.progress.stop()

    def __call__(self, who: str, event: Mapping[str, Any]) -> None:
        """Take one event of a run."""
        kind = event["kind"]
        if kind == "stage":
            self._end()
            self._title, self._note, self._began = who, "", time.perf_counter()
            self._bar = self.progress.add_task(who, total=None, note="")
        elif kind == "step":
            self._note = f"loss {event['loss']:.4f}"
            self._update(total=event["steps"], completed=event["step"], note=self._note)
        elif kind == "progress":
            self._note = f"{event['of']:,} {event['what']}"
            self._update(total=event["of"], completed=event["done"], note=self._note)
        elif kind == "epoch":
            shown = [f"{name} {value:.4f}" for name, value in event["scores"].items()]
            self._note = f"epoch {event['epoch']}: " + ", ".join(shown)
            self._update(note=self._note)
        else:
            self._update(note=str(event.get("text", ""))[:60])

    def _update(self, **fields: Any) -> None:
        if self._bar is not None:
            self.progress.update(self._bar, **fields)

    def _end(self, failed: bool = False) -> None:
        if not self._title:
            return
        if self._bar is not None:
            self.progress.remove_task(self._bar)
            self._bar = None
        took = time.perf_counter() - self._began
        mark = ("✗", "red") if failed else ("✓", "green")
        line = Text.assemble(mark, " ", self._title, (f"  {took:.1f} s", "dim"))
        if self._note:
            line.append(f"  {self._note}", style="dim")
        self.progress.console.print(line)
        self._title = ""


def list_view(pairs: list[Exhibit]) -> Table:
    """The zoo as a table."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("pair", "what it is", "document", "settings"):
        table.add_column(column)
    for pair in pairs:
        settings = ", ".join(pair.settings) + (", --faithful" if pair.faithful else "")
        table.add_row(Text(pair.name, style="bold"), pair.title, pair.document, settings)
    return table


def result_view(result: Mapping[str, Any]) -> Group:
    """The figures of a run, and what was proved."""
    from diglot.zoo.drawing import title

    runs = result["runs"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for label in runs:
        table.add_column(title(label), justify="right")
    for name in dict.fromkeys(n for run in runs.values() for n in run.get("test", {})):
        table.add_row(f"test {name}", *[f"{run['test'][name]:.4f}" for run in runs.values()])
    for name in dict.fromkeys(n for run in runs.values() for n in _figures(run)):
        table.add_row(name, *[f"{_figures(run)[name]:.4g}" for run in runs.values()])
    table.add_row("parameters", *[f"{run['parameters']:,}" for run in runs.values()])
    steps = [run["step_seconds"] for run in runs.values()]
    table.add_row("time of a step", *["–" if s is None else f"{s * 1e3:.1f} ms" for s in steps])
    path, proof = result["same_path"], result["proof"]
    lines = [
        verdict_line(proof["verdict"] == "proven", f"The two models are {proof['verdict']}."),
        verdict_line(
            path["agrees"],
            f"The losses of the first {path['steps']} steps, in float64, are within "
            f"{path['gap']:.1e} (allowed: {path['tolerance']:.0e}).",
        ),
    ]
    apart, translation = result["apart"], result["translation"]
    lines.append(
        Text(
            f"  With the defaults their curves are {apart['mean']:.2g} apart in the mean, "
            f"{apart['end']:.2g} at the end.\n"
            f"  Diglot's translation has {translation['lines']} lines of code, the hand-written "
            f"Keras file {translation['by_hand']}."
        )
    )
    lines += [verdict_line(good, text) for good, text in result["checks"]]
    for name, goal in result["goals"].items():
        reached = "reached" if goal["met"] else "missed"
        lines.append(
            verdict_line(goal["met"], f"Test {name} {goal['sign']} {goal['wanted']}: {reached}.")
        )
    return Group(table, Text(), *lines)


def _figures(run: Mapping[str, Any]) -> Mapping[str, float]:
    return run.get("extras", {}).get("figures", {})


def labels_view(texts: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> Table:
    """The label of each text, with its probability."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("label", "probability", "text"):
        table.add_column(column)
    for text, answer in zip(texts, answers, strict=True):
        label = answer["label"]
        shown = " ".join(text.split())
        shown = shown if len(shown) <= 60 else shown[:59] + "…"
        share = f"{answer['probabilities'][label]:.4f}"
        table.add_row(Text(label, style="bold"), share, Text(shown))
    return table


def verdict_line(good: bool, text: str) -> Text:
    """A sentence with a mark that says whether it is good news."""
    return Text.assemble(("✓ ", "green") if good else ("✗ ", "bold red"), text)
