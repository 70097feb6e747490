"""A translation and its proof as a compact table for the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from diglot.report.figures import Figures, relative
from diglot.report.files import read_report
from diglot.report.reading import read_proof

_STYLES = {"proven": "green", "differs": "red", "unproven": "yellow"}


def folder_summary(directory: str | os.PathLike[str]) -> Group:
    """:func:`summary_table` of a translation on disk.

    Raises:
        BadInput: translation.json is missing, or one of the files is not JSON.
    """
    info, proof = read_report(directory)
    return summary_table(info, proof)


def summary_table(info: Mapping[str, Any], proof: Mapping[str, Any] | None) -> Group:
    """Class pairs, false friends met and the proof's worst figures.

    Args:
        info: content of translation.json.
        proof: content of proof.json, or None where nothing has been proved.

    What comes from the user's program is shown as it is: rich's markup in it has no effect.
    """
    figures = read_proof(proof, info.get("dynamic"))
    parts: list[Any] = [_classes(info)]
    topics = list(dict.fromkeys(str(note.get("topic") or "") for note in info.get("notes") or []))
    if topics:
        parts.append(Text.assemble(("false friends met: ", "dim"), "; ".join(topics)))
    parts.append(_verdict(figures))
    if figures.checks:
        parts.append(_checks(figures))
    return Group(*parts)


def _classes(info: Mapping[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, title=None)
    for column in ("PyTorch", "Keras"):
        table.add_column(column, overflow="fold")
    table.add_column("instances", justify="right")
    for item in info.get("classes") or []:
        source = str(item.get("source_class") or "—").rsplit(".", 1)[-1]
        instances = len(item.get("instances") or [])
        table.add_row(Text(source), Text(str(item.get("target_class") or "—")), str(instances))
    return table


def _verdict(figures: Figures) -> Text:
    style = _STYLES.get(figures.verdict, "bold")
    return Text.assemble((f"{figures.seal} {figures.verdict_word}", f"bold {style}"), "  ",
                         figures.sentence)  # fmt: skip


def _checks(figures: Figures) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("float64")
    table.add_column("arrays", justify="right")
    table.add_column("worst relative difference", justify="right")
    for _, heading, checks in figures.kinds:
        known = [check.worst for check in checks if check.worst is not None]
        style = "green" if all(check.ok for check in checks) else "red"
        worst = Text(relative(max(known)) if known else "—", style=style)
        table.add_row(heading, str(sum(check.count for check in checks)), worst)
    return table
