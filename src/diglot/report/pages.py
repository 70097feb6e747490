"""``pages.html``: the two programs on facing pages, with the weights and the proof.

One file that needs nothing else: no network, no script from elsewhere, opened from disk. All that
comes from the user's program is escaped, by jinja2 (autoescape on) or by :mod:`.highlight`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from diglot.report import figures as figures_module
from diglot.report.alignment import Book
from diglot.report.figures import Figures, axis, relative
from diglot.report.files import read_json, read_report, read_text
from diglot.report.reading import read_proof
from diglot.report.tables import module_rows, totals, weight_rows

_CHART_LEFT, _CHART_RIGHT, _STRIP = 244, 980, 38


@dataclass(frozen=True)
class Note:
    """A margin note: a false friend met in this translation, numbered through the book."""

    number: int
    topic: str
    text: str
    rule: str
    lines: tuple[int, ...]

    @property
    def keys(self) -> list[str]:
        return [f"k{line}" for line in self.lines]


def write_pages(directory: str | os.PathLike[str]) -> Path:
    """Writes ``pages.html`` beside the translation in ``directory`` and returns its path.

    Reads model.py, weight_map.json, translation.json and, where there is one, proof.json. The file
    appears whole or not at all.

    Raises:
        BadInput: one of the three files is missing or is not what its name says.
        OSError: the file cannot be written (full disk, no permission).
    """
    folder = Path(directory)
    source = read_text(folder / "model.py")
    weight_map = read_json(folder / "weight_map.json")
    info, proof = read_report(folder)
    html = render_pages(source, weight_map, info, proof)
    path = folder / "pages.html"
    _write_atomically(path, html)
    return path


def render_pages(
    source: str,
    weight_map: Mapping[str, Any],
    info: Mapping[str, Any],
    proof: Mapping[str, Any] | None,
) -> str:
    """The page as one HTML document.

    Args:
        source: text of model.py.
        weight_map: content of weight_map.json.
        info: content of translation.json.
        proof: content of proof.json, None where nothing has been proved.
    """
    book = Book(source, info)
    figures = read_proof(proof, info.get("dynamic"))
    notes = _notes(info)
    counted = totals(weight_map)
    weights = weight_rows(weight_map)
    left, right = "PyTorch", "Keras"
    if weight_map.get("direction") == "keras->torch":
        graph = (info.get("original") or {}).get("kind") == "graph"
        left, right = "TensorFlow" if graph else right, left
    context = {
        "left": left,
        "right": right,
        "name": str(info.get("name") or "Model"),
        "info": info,
        "book": book,
        "figures": figures,
        "proof": proof,
        "chart": _chart(figures),
        "divergence_key": _divergence_key(book, figures),
        "notes": notes,
        "weights": weights,
        "weight_kinds": {row.kind for row in weights},
        "unmapped": [
            (str(item.get("source") or ""), str(item.get("why") or ""))
            for item in weight_map.get("unmapped") or []
        ],
        "totals": counted,
        "modules": module_rows(info.get("summary") or [], info.get("dynamic")),
        "sizes": _sizes(info.get("dynamic") or {}),
        "colophon": _colophon(info, proof, figures),
        "versions": _versions(info, proof),
        "links_json": _json_for_script({"links": book.links, "files": _file_names(book)}),
        **_line_counts(book, info),
        **_note_lookups(notes, book),
    }
    environment = _environment()
    environment.globals["link_label"] = lambda key: _link_label(book, key)
    return environment.get_template("pages.html.j2").render(context)


def _environment() -> Environment:
    loader = PackageLoader("diglot.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        thousands=lambda value: f"{int(value):,}".replace(",", "\u202f"),
        rel=relative,
        axis=axis,
        short=lambda name: str(name).rsplit(".", 1)[-1],
        basename=lambda name: PurePath(str(name)).name,
        ticks=_ticks,
        grouped=_grouped,
        breaks=_breaks,
    )
    for name, file in (("css", "pages.css"), ("js", "pages.js")):
        text, _, _ = loader.get_source(environment, file)
        environment.globals[name] = Markup(text)  # our own files, not the user's
    return environment


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """(text, names that it is said of): what is said of a hundred layers is said once."""
    groups: dict[str, list[str]] = {}
    for name, text in pairs:
        groups.setdefault(text, []).append(name)
    return list(groups.items())


def _ticks(text: Any) -> Markup:
    """Escapes ``text`` and sets what stands between backticks as code."""
    return Markup(re.sub(r"`{1,2}([^`]+)`{1,2}", r"<code>\1</code>", str(escape(str(text)))))


def _breaks(text: Any) -> Markup:
    """Escapes ``text`` and lets the browser break it after dots and underscores."""
    return Markup(re.sub(r"([._/])", r"\1<wbr>", str(escape(str(text)))))


def _json_for_script(value: Any) -> Markup:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _notes(info: Mapping[str, Any]) -> list[Note]:
    """The notes of translation.json, said once each, in the order of their first line."""
    merged: dict[tuple[str, str], tuple[str, set[int]]] = {}
    for item in info.get("notes") or []:
        key = (str(item.get("topic") or "Note"), str(item.get("text") or ""))
        rule, lines = merged.get(key, (str(item.get("rule") or ""), set()))
        merged[key] = (rule, lines | {int(line) for line in item.get("target_lines") or []})
    order = sorted(merged.items(), key=lambda pair: min(pair[1][1], default=10**9))
    return [
        Note(number, topic, text, rule, tuple(sorted(lines)))
        for number, ((topic, text), (rule, lines)) in enumerate(order, start=1)
    ]


def _note_lookups(notes: list[Note], book: Book) -> dict[str, Any]:
    """For the template: notes to print below a line, marks to put at a line, notes without one."""
    shown = {line.number for spread in book.spreads for band in spread.bands for line in band.right}
    first: dict[int, list[Note]] = {}
    later: dict[int, list[Note]] = {}
    loose = []
    for note in notes:
        lines = [line for line in note.lines if line in shown]
        if not lines:
            loose.append(note)
            continue
        first.setdefault(lines[0], []).append(note)
        for line in lines:
            # One mark for a statement over several lines.
            if line - 1 in lines:
                continue
            later.setdefault(line, []).append(note)
    return {
        "first_marks": lambda number: first.get(number, ()),
        "later_marks": lambda number: later.get(number, ()),
        "has_notes": lambda spread: any(line in first for line in spread.note_lines),
        "band_has_notes": lambda band: any(line.number in first for line in band.right),
        "loose_notes": loose,
    }


def _file_names(book: Book) -> dict[str, str]:
    names = {book.texts[name].prefix: PurePath(name).name for name in book.files}
    return {**names, "k": "model.py"}


def _place(book: Book, key: str) -> str:
    """``"p0:12"`` as ``net.py:12``."""
    names = _file_names(book)
    prefix = key.partition(":")[0] + ":" if key.startswith("p") else "k"
    return f"{names[prefix]}:{key[len(prefix) :]}"


def _link_label(book: Book, key: str) -> str:
    """What a screen reader says for a line's number."""
    others = ", ".join(_place(book, other) for other in book.links.get(key, ())[:6])
    return f"{_place(book, key)}, corresponds to {others}"


def _divergence_key(book: Book, figures: Figures) -> str:
    """Key of a target line made from the source line where the two diverge, "" if unknown."""
    found = figures.divergence
    text = book.texts.get(found.get("file", ""))
    if text is None or not found.get("line", "").isdigit():
        return ""
    return next(iter(book.links.get(text.key(int(found["line"])), ())), "")


def _line_counts(book: Book, info: Mapping[str, Any]) -> dict[str, int]:
    """Lines with something on them: of the shown source, of the target, and the class count."""
    left = {
        (line.key, bool(line.html.strip()))
        for spread in book.spreads
        for band in spread.bands
        for line in band.left
    }
    target = [line for line in book.target.raw.values() if line.strip()]
    return {
        "source_line_count": sum(full for _, full in left),
        "target_line_count": len(target),
        "class_count": len(info.get("classes") or []),
    }


def _sizes(dynamic: Mapping[str, Any]) -> list[dict[str, str]]:
    """Dynamic sizes in words."""
    sizes = []
    for symbol, about in dynamic.items():
        low, high = (about or {}).get("min"), (about or {}).get("max")
        text = f"from {low if low is not None else 1}" + (f" to {high}" if high else " up")
        if (about or {}).get("input"):
            text += f", axis {about.get('axis')} of {about['input']}"
        sizes.append({"name": str((about or {}).get("name") or symbol), "text": text})
    return sizes


def _colophon(
    info: Mapping[str, Any], proof: Mapping[str, Any] | None, figures: Figures
) -> list[tuple[str, str]]:
    """(label, text) pairs: where the two programs come from and how they were compared."""
    source = info.get("source") or {}
    proof = proof or {}
    entries: list[tuple[str, Any]] = [
        ("Source", source.get("spec")),
        ("Class", source.get("class")),
        ("Style", info.get("style")),
        ("Made by", info.get("created_by")),
        ("Proved", _day(proof.get("created") or proof.get("when"))),
        ("Seed", figures.seed),
        ("Took", f"{figures.seconds:.1f} s" if figures.seconds else None),
    ]
    hashes = proof.get("hashes")
    if isinstance(hashes, Mapping):
        entries += [(f"SHA-256 {name}", digest) for name, digest in hashes.items()]
    return [(label, str(value)) for label, value in entries if value not in (None, "", [], {})]


def _versions(info: Mapping[str, Any], proof: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Versions at translation; where the proof ran with other ones, both are said."""
    made = {str(k): str(v) for k, v in (info.get("versions") or {}).items()}
    proved = {str(k): str(v) for k, v in ((proof or {}).get("versions") or {}).items()}
    both = {**proved, **made}
    return [
        (name, f"{both[name]} (proved with {proved[name]})")
        if proved.get(name, both[name]) != both[name]
        else (name, both[name])
        for name in both
    ]


def _day(value: Any) -> str | None:
    try:
        return datetime.fromisoformat(str(value)).strftime("%-d %B %Y, %H:%M") if value else None
    except ValueError:
        return str(value)


def _chart(figures: Figures) -> dict[str, Any]:
    """Geometry of the dot chart in the units of its view box."""
    width = _CHART_RIGHT - _CHART_LEFT

    def across(percent: float) -> float:
        return round(_CHART_LEFT + width * percent / 100, 1)

    strips = []
    for index, (label, dots) in enumerate(figures.strips):
        y = 26 + index * _STRIP
        placed = [
            {**vars(dot), "x": across(dot.x), "y": round(y + dot.offset * 4.5, 1)} for dot in dots
        ]
        strips.append({"label": label, "y": y, "dots": placed})
    return {
        "height": 26 + len(strips) * _STRIP + 16,
        "left": _CHART_LEFT,
        "right": _CHART_RIGHT,
        "tolerance": across(axis(figures.tolerance)),
        "ticks": [(across(x), label) for x, label in figures_module.ticks()],
        "strips": strips,
    }


def _write_atomically(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files that only their owner may read; a page is for everybody.
        draft.chmod(0o644)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


__all__ = ["render_pages", "write_pages"]
