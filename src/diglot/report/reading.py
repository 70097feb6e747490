"""``proof.json`` to :class:`diglot.report.figures.Figures`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from diglot.report.figures import KINDS, TOLERANCE, Check, Figures, relative, sizes_text

_LISTED = 4


def read_proof(
    proof: Mapping[str, Any] | None, symbols: Mapping[str, Any] | None = None
) -> Figures:
    """Figures of a proof; ``symbols`` is ``dynamic`` of translation.json, to name the sizes.

    Args:
        proof: the content of proof.json, or None where nothing has been proved yet.
        symbols: e.g. ``{"s0": {"name": "batch"}}``.
    """
    if not proof:
        return Figures()
    names = {key: str((about or {}).get("name") or key) for key, about in (symbols or {}).items()}
    tolerance = _number(proof.get("tolerance")) or TOLERANCE
    checks = list(_checks(proof, names, tolerance))
    figures = Figures(
        verdict=str(proof.get("verdict") or "unproven"),
        tolerance=tolerance,
        checks=[check for check in checks if check.dtype != "float32"],
        single=[check for check in checks if check.dtype == "float32"],
        sensitivity=_pairs(proof.get("sensitivity")),
        explained=_notes(proof.get("explained"), ("what", "name", "target", "topic")),
        not_compared=_notes(proof.get("not_compared"), ("what", "name", "source", "target")),
        divergence=_divergence(proof.get("first_divergence")),
        seconds=_number(proof.get("seconds") or proof.get("duration")),
        seed=proof.get("seed", proof.get("seeds")),
    )
    figures.sentence = _sentence(figures, proof)
    return figures


def _checks(
    proof: Mapping[str, Any], names: Mapping[str, str], tolerance: float
) -> Iterator[Check]:
    for item in proof.get("checks") or []:
        if not isinstance(item, Mapping):
            continue
        nested = [kind for kind in KINDS if isinstance(item.get(kind), Mapping)]
        for kind in nested:
            yield _check({**item, **item[kind], "kind": kind}, names, tolerance)
        if not nested:
            yield _check(item, names, tolerance)


def _check(item: Mapping[str, Any], names: Mapping[str, str], tolerance: float) -> Check:
    worst = _number(item.get("worst"))
    own = _number(item.get("tolerance")) or tolerance
    sizes = item.get("sizes")
    if isinstance(sizes, Mapping):
        sizes = {names.get(str(key), str(key)): value for key, value in sizes.items()}
    ok = item.get("ok")
    return Check(
        kind=str(item.get("kind") or "outputs"),
        mode=str(item.get("mode") or "eval"),
        weights=str(item.get("weights") or "real"),
        sizes=sizes_text(sizes),
        dtype=str(item.get("dtype") or "float64"),
        worst=worst,
        where=str(item.get("where") or ""),
        count=int(item.get("count") or 1),
        ok=bool(ok) if ok is not None else worst is not None and worst <= own,
        tolerance=own,
    )


def _number(value: Any) -> float | None:
    """JSON has no infinity and no NaN: they arrive as strings, and float() reads those."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return relative(value) if value < 1e-3 or value >= 1e6 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return _listed([f"{key}: {_plain(item)}" for key, item in value.items()])
    if isinstance(value, list | tuple):
        return _listed([_plain(item) for item in value])
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _listed(items: Sequence[str]) -> str:
    """The first few of a list that may name a hundred layers."""
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _pairs(value: Any) -> list[tuple[str, str]]:
    """A mapping, or a list of mappings, as (label, text)."""
    if isinstance(value, Mapping):
        return [
            (str(key).replace("_", " "), _plain(_only(item) if isinstance(item, dict) else item))
            for key, item in value.items()
        ]
    if isinstance(value, list | tuple):
        return [pair for item in value for pair in _notes([item], ("what", "name", "input"))]
    return []


def _only(figures: dict[str, Any]) -> Any:
    """The figure of a model's only output needs no name."""
    return next(iter(figures.values())) if len(figures) == 1 else figures


def _notes(value: Any, titles: Sequence[str]) -> list[tuple[str, str]]:
    """A list of remarks, each a string or a mapping, as (title, text)."""
    remarks = []
    for item in value if isinstance(value, list | tuple) else []:
        if not isinstance(item, Mapping):
            remarks.append((str(item), ""))
            continue
        title = next((key for key in titles if item.get(key)), None)
        text = item.get("why") or item.get("reason") or item.get("text") or ""
        skip = {title, "why", "reason", "text"}
        rest = {key: held for key, held in item.items() if key not in skip and held is not None}
        more = "; ".join(f"{key.replace('_', ' ')}: {_plain(held)}" for key, held in rest.items())
        joined = f"{text} ({more})" if text and more else str(text) or more
        remarks.append((_plain(item[title]) if title else "", joined))
    return remarks


def _divergence(value: Any) -> dict[str, str]:
    """module, target_module, place, error, cause: what is known of the first divergence."""
    if not isinstance(value, Mapping):
        return {}
    place = PurePath(str(value.get("file") or "")).name
    if value.get("line"):
        place = f"{place}:{value['line']}" if place else f"line {value['line']}"
    error = _number(value.get("error"))
    return {
        "module": str(value.get("module") or "(root)"),
        "target": str(value.get("target_module") or ""),
        "place": place,
        "error": relative(error) if error is not None else "",
        "cause": str(value.get("likely_cause") or ""),
        "file": str(value.get("file") or ""),
        "line": str(value.get("line") or ""),
    }


def _sentence(figures: Figures, proof: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    reason = str(proof.get("reason") or "")
    if figures.verdict == "proven":
        beyond = (figures.worst or 0.0) > figures.tolerance
        return (
            f"{figures.compared:,} comparisons in float64; the worst relative difference is "
            f"{relative(figures.worst)}, the tolerance {relative(figures.tolerance)}"
            + (" (what is beyond it is explained below)." if beyond else ".")
        )
    if figures.verdict == "differs" and figures.divergence:
        found = figures.divergence
        parts = [f"The first module that diverges is {found['module']}"]
        parts += [f" ({found['place']})"] if found["place"] else []
        parts += [f": {found['cause']}"] if found["cause"] else []
        return "".join(parts).rstrip(".") + "."
    if figures.verdict == "differs":
        failed = sum(not check.ok for check in figures.checks)
        return reason or f"{failed} of {len(figures.checks)} checks exceed the tolerance."
    return reason or "The comparison could not settle it."
