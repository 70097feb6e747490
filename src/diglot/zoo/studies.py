"""What every study does with its figures: result.json, a page, and a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.output import write_whole
from diglot.zoo.page import render
from diglot.zoo.pair import Exhibit

if TYPE_CHECKING:
    from rich.console import Group

Table = Sequence[Sequence[str]]


Verdicts = Sequence[tuple[bool, str]]


def finish(
    study: Exhibit,
    result: Mapping[str, Any],
    folder: Path,
    table: Table,
    verdicts: Verdicts,
    files: Sequence[str],
) -> None:
    """Write result.json and page.html: the table, the pictures in the folder, and the sources."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "result.json", json.dumps(result, indent=1) + "\n")
    render("study.html.j2", study, result, folder, files, table=table, verdicts=verdicts)


def study_view(table: Table, verdicts: Verdicts) -> Group:
    """The table as the terminal shows it, then a line for every verdict."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    from diglot.zoo.console import verdict_line

    shown = RichTable(box=None, pad_edge=False, header_style="dim")
    for title in table[0]:
        shown.add_column(title)
    for row in table[1:]:
        shown.add_row(*row)
    return Group(shown, Text(), *[verdict_line(good, text) for good, text in verdicts])
