"""`diglot zoo claims`: every claim judged, and shown as a table and a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.benchmark.claims.evidence import Evidence, NoGpu
from diglot.benchmark.claims.record import Claim, Finding, Verdict
from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, DiglotError, MissingExtra
from diglot.output import write_whole
from diglot.zoo.page import render
from diglot.zoo.pair import Exhibit

if TYPE_CHECKING:
    from rich.console import Group

_STYLES = {
    Verdict.holds: "green",
    Verdict.fails: "red",
    Verdict.depends: "yellow",
    Verdict.unmeasured: "dim",
}


class Assertions(Exhibit):
    """What the page of the claims is about."""

    name = "claims"
    title = "What the documents claim, measured"
    document = "000–004"


def judge(claims: Sequence[Claim], evidence: Evidence) -> dict[str, Any]:
    """The record of every claim. A measurement that fails says so in its record, and the exit code is
    then 1; one that this machine cannot make is no failure."""
    failed = False
    records = []
    for claim in claims:
        try:
            finding = claim.judge(evidence)
        except (NoGpu, MissingExtra) as error:
            finding = Finding(Verdict.unmeasured, error.message)
        except DiglotError as error:
            failed = True
            finding = Finding(Verdict.unmeasured, f"The measurement failed: {_first_line(error)}")
        records.append(record(claim, finding))
    return {
        "exit_code": EXIT_DIFFERS if failed else EXIT_PROVEN,
        "claims": records,
        "verdicts": dict(Counter(str(r["verdict"]) for r in records)),
        "machine": evidence.kept.machine,
        "setting": evidence.plan.setting,
    }


def _first_line(error: DiglotError) -> str:
    return error.message.partition("\n")[0]


def record(claim: Claim, finding: Finding) -> dict[str, Any]:
    """A claim and its finding as JSON-ready values."""
    return {
        "id": claim.id,
        "document": claim.document,
        "assertion": claim.assertion,
        "how": claim.how,
        "verdict": str(finding.verdict),
        "reason": finding.reason,
        "measured": dict(finding.measured),
    }


def write(result: Mapping[str, Any], folder: Path) -> Path:
    """Write claims.json and page.html."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "claims.json", json.dumps(result, indent=1) + "\n")
    return render("claims.html.j2", Assertions(), result, folder, ())


def claims_view(result: Mapping[str, Any]) -> Group:
    """The records as the terminal shows them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", show_lines=True)
    for title in ("claim", "verdict", "measured"):
        table.add_column(title)
    for found in result["claims"]:
        verdict = Text(found["verdict"], style=_STYLES[Verdict(found["verdict"])])
        said = Text.assemble((f"{found['id']} ", "bold"), found["assertion"])
        table.add_row(said, verdict, Text(found["reason"], style="dim"))
    counts = ", ".join(f"{count} {verdict}" for verdict, count in result["verdicts"].items())
    return Group(table, Text(), Text(counts + "."))
