"""Which lines face which: the two programs laid out as spreads of facing pages.

The target program is shown whole and in its own order. Every pair of classes is one *spread*;
inside it, methods that correspond start on the same height (a *band*). Source functions outside
the paired classes are shown beside the target lines that came from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diglot.report.program_text import SAME_METHOD, Line, Text

# Stretches of source that nothing was made from are folded away from this length on.
_FOLD_FROM = 8
_NAME_BONUS = 5
_LONGEST_HEAD = 40
_NO_HELPERS = ("build_model", None)
# A page of at most so many lines stays in view beside a longer one.
_SHORT = 34


@dataclass
class Band:
    """Lines that face each other; either side may be empty."""

    left: list[Line] = field(default_factory=list)
    right: list[Line] = field(default_factory=list)
    fold_left: str = ""
    fold_right: tuple[str, str] | None = None

    @property
    def sticks(self) -> str:
        """The side that is short enough to stay in view beside the other, "" for neither."""
        short, long = sorted((len(self.left), len(self.right)))
        if self.fold_left or not 0 < short <= _SHORT or long < short + 8:
            return ""
        return "left" if len(self.left) < len(self.right) else "right"


@dataclass
class Spread:
    """One pair of classes (or a stretch of the target that has no class of its own)."""

    title: str
    source_classes: list[Mapping[str, Any]]
    target_class: str | None
    instances: list[str]
    bands: list[Band]
    first: int
    helpers: bool = False

    @property
    def note_lines(self) -> set[int]:
        return {line.number for band in self.bands for line in band.right}


def _join(links: dict[str, list[str]], here: str, there: str) -> None:
    if there not in links.setdefault(here, []):
        links[here].append(there)
        links.setdefault(there, []).append(here)


class Book:
    """Source and target of one translation, with the links between their lines.

    ``model`` is the text of ``model.py``, ``info`` the content of ``translation.json``. ``links``
    maps a line key to the keys it corresponds to on the other page (``"p0:12"`` is line 12 of the
    first source file, ``"k7"`` line 7 of the target). Links to lines that are not shown are
    dropped. Missing fields of ``info`` give emptier pages, never an error.
    """

    def __init__(self, model: str, info: Mapping[str, Any]) -> None:
        self.info = info
        self.target = Text(model.rstrip("\n"), "k")
        sources = info.get("sources") or {}
        self.files = list(sources)
        self.texts = {
            name: Text(sources[name], f"p{index}:") for index, name in enumerate(self.files)
        }
        self.links = self._links(info.get("lines") or [])
        self._link_declarations(info.get("classes") or [])
        self.spreads = self._spreads(info.get("classes") or [])
        self._keep_shown_links()

    def _links(self, pairs: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
        links: dict[str, list[str]] = {}
        for pair in pairs:
            text = self.texts.get(pair.get("source_file") or "")
            source, target = pair.get("source_line"), pair.get("target_line")
            if text is None or source not in text.raw or target not in self.target.raw:
                continue
            _join(links, text.key(int(source)), self.target.key(int(target)))
        return links

    def _link_declarations(self, classes: Sequence[Mapping[str, Any]]) -> None:
        """Links what carries the same name in paired classes: methods and attributes.

        The computation's links come from the translation; where a class and its layers are
        declared, the names say it.
        """
        for item in classes:
            fragment, extent = self._fragment(item), _range(item.get("target_lines"))
            if fragment is None or extent is None:
                continue
            text, first, last = fragment
            here, there = text.declarations(first, last), self.target.declarations(*extent)
            for name in here.keys() & there.keys():
                for a in here[name]:
                    for b in there[name]:
                        _join(self.links, text.key(a), self.target.key(b))

    def _keep_shown_links(self) -> None:
        shown = {
            line.key
            for spread in self.spreads
            for band in spread.bands
            for line in (*band.left, *band.right)
        }
        self.links = {
            key: kept
            for key, others in self.links.items()
            if key in shown and (kept := [other for other in others if other in shown])
        }

    # -- spreads ------------------------------------------------------------------------------

    def _spreads(self, classes: Sequence[Mapping[str, Any]]) -> list[Spread]:
        last_line = max(self.target.raw)
        placed, floating = self._placed(classes, last_line)
        spreads: list[Spread] = []
        cursor = 1
        for (first, last), members in sorted(placed.items()):
            spreads += self._gap(cursor, first - 1)
            spreads.append(self._class_spread(first, last, members))
            cursor = max(cursor, last + 1)
        spreads += self._gap(cursor, last_line)
        self._front_matter(spreads)
        self._attach(spreads, floating + self._orphans(classes))
        return self._gather_helpers(spreads)

    def _placed(
        self, classes: Sequence[Mapping[str, Any]], last_line: int
    ) -> tuple[dict[tuple[int, int], list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
        """Classes by the target range that they share, and those that have no such range."""
        placed: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        floating = []
        definitions = self.target.top_level()
        for item in classes:
            extent = _range(item.get("target_lines"))
            if extent is None or extent[0] > last_line:
                floating.append(item)
            else:
                # The range may begin at the ``class`` line: its decorators belong to it too.
                begin = min([extent[0], *(a for _, a, b in definitions if a <= extent[0] <= b)])
                extent = (begin, extent[1])
                placed.setdefault((extent[0], min(extent[1], last_line)), []).append(item)
        # A range that overlaps an earlier one cannot be shown twice: it floats to where its lines
        # are.
        reached = 0
        for extent in sorted(placed):
            if extent[0] <= reached:
                floating += placed.pop(extent)
            else:
                reached = extent[1]
        return placed, floating

    def _class_spread(self, first: int, last: int, members: list[Mapping[str, Any]]) -> Spread:
        fragments = [fragment for item in members if (fragment := self._fragment(item))]
        if len(fragments) == 1:
            bands = self._bands(fragments[0], (first, last))
        else:
            left = [line for text, a, b in fragments for line in text.lines(a, b, self.links)]
            bands = [Band(left, self.target.lines(first, last, self.links))]
        target = next((str(m["target_class"]) for m in members if m.get("target_class")), None)
        instances = [str(name) for item in members for name in item.get("instances") or []]
        title = target or _short(str(members[0].get("source_class") or "?"))
        return Spread(title, members, target, instances, bands, first)

    def _fragment(self, item: Mapping[str, Any]) -> tuple[Text, int, int] | None:
        extent = _range(item.get("source_lines"))
        text = self.texts.get(item.get("source_file") or "")
        return (text, *extent) if text is not None and extent is not None else None

    def _bands(self, fragment: tuple[Text, int, int], target: tuple[int, int]) -> list[Band]:
        text, first, last = fragment
        left, right = text.sections(first, last), self.target.sections(*target)
        if len(left) == 1:  # no class: nothing in it begins where a method of the other does
            right = [("", *target)]
        bands = []
        for i, j in _align(self._weights(text, left, right), len(left), len(right)):
            band = Band()
            if i is not None:
                band.left = text.lines(left[i][1], left[i][2], self.links)
            if j is not None:
                band.right = self.target.lines(right[j][1], right[j][2], self.links)
            if i is not None and j is None and _foldable(band.left):
                band.fold_left = left[i][0] or "class"
            above = bands[-1] if bands else Band()
            if above.fold_left and not above.right and not band.left:
                above.right = band.right  # beside the folded stretch there is room
            elif not band.left and len(above.right) + len(band.right) < len(above.left):
                # What only the target has (get_config) fits into the room below the method.
                above.right = self.target.lines(
                    above.right[0].number if above.right else right[j or 0][1],
                    right[j or 0][2],
                    self.links,
                )
            elif band.left or band.right:
                bands.append(band)
        return bands

    def _weights(
        self,
        text: Text,
        left: Sequence[tuple[str, int, int]],
        right: Sequence[tuple[str, int, int]],
    ) -> dict[tuple[int, int], int]:
        """How strongly each source method belongs to each target method: links and names."""
        owner = {
            self.target.key(n): j for j, (_, a, b) in enumerate(right) for n in range(a, b + 1)
        }
        weights: Counter[tuple[int, int]] = Counter()
        if len(left) == len(right) == 1:
            return {(0, 0): 1}
        for i, (name, a, b) in enumerate(left):
            for n in range(a, b + 1):
                for other in self.links.get(text.key(n), ()):
                    if other in owner:
                        weights[i, owner[other]] += 1
            for j, (other_name, _, _) in enumerate(right):
                if SAME_METHOD.get(name, name) == SAME_METHOD.get(other_name, other_name):
                    weights[i, j] += _NAME_BONUS
        return weights

    def _gap(self, first: int, last: int) -> list[Spread]:
        """Target lines that belong to no class: imports, helpers, ``build_model``."""
        spreads = []
        cuts = [(name, a, b) for name, a, b in self.target.top_level() if first <= a <= last]
        starts = [first, *(a for _, a, _ in cuts)]
        names = ["", *(name for name, _, _ in cuts)]
        ends = [a - 1 for a in starts[1:]] + [last]
        for name, a, b in zip(names, starts, ends, strict=True):
            lines = self.target.lines(a, b, self.links)
            if lines:
                title = name or ("Front matter" if a == 1 else "")
                spreads.append(Spread(title, [], name or None, [], [Band([], lines)], a))
        return spreads

    def _gather_helpers(self, spreads: Sequence[Spread]) -> list[Spread]:
        """Functions and classes that the target alone needs, folded together on one spread."""
        gathered: list[Spread] = []
        for spread in spreads:
            alone = spread.target_class and not spread.source_classes
            if not alone or spread.target_class in _NO_HELPERS:
                gathered.append(spread)
                continue
            band = spread.bands[0]
            band.fold_right = spread.target_class or "", self.target.docstring(band.right)
            if not (gathered and gathered[-1].helpers):
                gathered.append(Spread("Helpers", [], None, [], [], spread.first, helpers=True))
            gathered[-1].bands.append(band)
        return gathered

    def _front_matter(self, spreads: Sequence[Spread]) -> None:
        """Beside the target's imports: the source's, if there is one file and its head is short."""
        if len(self.texts) != 1 or not spreads or spreads[0].first != 1:
            return
        (name, text), *_ = self.texts.items()
        first = min((a for _, a, _ in text.top_level()), default=0)
        if 1 not in text.raw or not 1 < first <= _LONGEST_HEAD:
            return
        lines = text.lines(1, first - 1, self.links)
        if lines and not spreads[0].source_classes:
            spreads[0].bands[0].left = lines
            spreads[0].source_classes = [{"source_class": "", "source_file": name}]

    def _orphans(self, classes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Linked source lines outside every class: the top-level functions that hold them."""
        orphans = []
        for name, text in self.texts.items():
            inside = {
                n
                for item in classes
                if item.get("source_file") == name and (extent := _range(item.get("source_lines")))
                for n in range(extent[0], extent[1] + 1)
            }
            linked = {n for n in text.raw if text.key(n) in self.links and n not in inside}
            for label, a, b in text.top_level() if linked else []:
                if linked & set(range(a, b + 1)) and not inside & set(range(a, b + 1)):
                    orphans.append(
                        {"source_class": label, "source_file": name, "source_lines": [a, b]}
                    )
        return orphans

    def _attach(self, spreads: list[Spread], items: Sequence[Mapping[str, Any]]) -> None:
        """Shows each item beside the spread that most of its lines became, or last of all."""
        where = {
            line.key: index
            for index, spread in enumerate(spreads)
            for band in spread.bands
            for line in band.right
        }
        for item in items:
            fragment = self._fragment(item)
            if fragment is None:
                continue
            text, a, b = fragment
            lines = text.lines(a, b, self.links)
            votes = Counter(
                where[other]
                for line in lines
                for other in self.links.get(line.key, ())
                if other in where
            )
            if votes:
                spread = spreads[votes.most_common(1)[0][0]]
                _add_left(spread, lines)
                spread.source_classes = [*spread.source_classes, item]
                spread.instances += [str(name) for name in item.get("instances") or []]
            elif item.get("instances"):
                title = _short(str(item.get("source_class") or "?"))
                names = [str(name) for name in item["instances"]]
                band = Band(lines, [], title if _foldable(lines) else "")
                spreads.append(Spread(title, [item], None, names, [band], 0))


_BLANK = Line(number=0, key="", html="", indent=0)


def _add_left(spread: Spread, lines: list[Line]) -> None:
    """Puts ``lines`` on the left page where there is room, below what stands there already."""
    band = max(spread.bands, key=lambda item: len(item.right) - len(item.left))
    if len(spread.bands) > 1 and len(band.right) <= len(band.left):
        spread.bands.append(Band(lines, []))
        return
    band.left = [*band.left, *([_BLANK] if band.left else []), *lines]


def _foldable(lines: Sequence[Line]) -> bool:
    return len(lines) >= _FOLD_FROM and not any(line.links for line in lines)


def _range(value: Any) -> tuple[int, int] | None:
    if isinstance(value, list | tuple) and len(value) == 2 and all(value):
        return int(value[0]), max(int(value[0]), int(value[1]))
    return None


def _short(qualified: str) -> str:
    return qualified.rsplit(".", 1)[-1]


def _align(
    weights: Mapping[tuple[int, int], int], rows: int, columns: int
) -> list[tuple[int | None, int | None]]:
    """The order-preserving pairing of 0..rows-1 with 0..columns-1 of the greatest total weight."""
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            paired = weights.get((i, j), 0)
            joined = paired + best[i + 1][j + 1] if paired else 0
            best[i][j] = max(best[i + 1][j], best[i][j + 1], joined)
    pairs: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < rows and j < columns:
        paired = weights.get((i, j), 0)
        if paired and best[i][j] == paired + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            pairs.append((i, None))
            i += 1
        else:
            pairs.append((None, j))
            j += 1
    pairs += [(k, None) for k in range(i, rows)]
    pairs += [(None, k) for k in range(j, columns)]
    return pairs
