"""The page of a run: figures, curves, and the two models on facing pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diglot.output import write_whole
from diglot.report.highlight import highlight_lines
from diglot.zoo.drawing import title
from diglot.zoo.pair import Exhibit, Pair
from diglot.zoo.source import code_lines


def write_page(pair: Pair, result: Mapping[str, Any], folder: Path) -> Path:
    """Write page.html, one self-contained file, into the folder of a run."""
    files = ("torch_model.py", "keras_model.py")
    return render("page.html.j2", pair, result, folder, files, title=title, rows=_rows(result))


def render(
    template: str,
    exhibit: Exhibit,
    result: Mapping[str, Any],
    folder: Path,
    files: Sequence[str],
    **values: Any,
) -> Path:
    """Write page.html into `folder`: what `template` makes of `result`, the pictures that lie there,
    and the exhibit's source `files`."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("diglot.zoo"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    sources = []
    for name in files:
        text = (exhibit.folder / name).read_text(encoding="utf-8")
        lines = [Markup(line) for line in highlight_lines(text.rstrip("\n"))]
        sources.append({"file": name, "lines": lines, "count": code_lines(text)})
    pictures = [
        {"name": path.stem.replace("_", " "), "svg": Markup(_inline(path))}
        for path in sorted(folder.glob("*.svg"))
    ]
    text = environment.get_template(template).render(
        pair=exhibit, result=result, sources=sources, pictures=pictures, **values
    )
    write_whole(folder / "page.html", text)
    return folder / "page.html"


def _inline(path: Path) -> str:
    """An SVG file without what only a file of its own may hold."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def _rows(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The table of figures: a label, and a value for every run."""
    runs = list(result["runs"].values())
    scores = _names(run.get("test", {}) for run in runs)
    before = _names(run["history"].get("before", {}) for run in runs)
    figures = _names(run.get("extras", {}).get("figures", {}) for run in runs)
    rows = [
        ("Parameters", [f"{run['parameters']:,}" for run in runs]),
        ("Steps", [f"{run['steps']:,}" for run in runs]),
        ("Time of a step", [_milliseconds(run["step_seconds"]) for run in runs]),
        ("Time of the first step", [_milliseconds(run["first_step_seconds"]) for run in runs]),
    ]
    for name in before:
        values = [f"{run['history']['before'][name]:.4f}" for run in runs]
        rows.append((f"{name.replace('_', ' ').capitalize()} before training", values))
    rows += [(f"Test {name}", [f"{run['test'][name]:.4f}" for run in runs]) for name in scores]
    rows += [(name, [f"{run['extras']['figures'][name]:.4g}" for run in runs]) for name in figures]
    return rows


def _names(scores: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for part in scores for name in part))


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.1f} ms"
