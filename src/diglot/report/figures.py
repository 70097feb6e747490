"""A proof's figures, read from ``proof.json`` and made ready to print.

``proof.json`` belongs to ``diglot.parity``; everything here tolerates a field that is missing, so
that an old proof, a broken-off one or none at all still gives a page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

VERDICTS = {
    "proven": ("Proven", "✓"),
    "differs": ("Differs", "✗"),
    "unproven": ("Unproven", "?"),
    "none": ("Not yet proved", "…"),
}
# The order in which kinds of comparison are listed; any other kind comes after these.
KINDS = {
    "weights": "Weights in the file",
    "outputs": "Outputs",
    "modules": "Every module’s output",
    "gradients": "Gradients of the weights",
    "input_gradients": "Gradients of the inputs",
    "buffers": "Buffers after a step",
    "steps": "Weights after training steps",
}
TOLERANCE = 1e-9
# The chart's axis: powers of ten; smaller differences (and exact agreement) sit at the left end.
_FIRST, _LAST = -18, 2


@dataclass(frozen=True)
class Check:
    """One comparison: the worst relative difference over ``count`` arrays."""

    kind: str
    mode: str
    weights: str
    sizes: str
    dtype: str
    worst: float | None
    where: str
    count: int
    ok: bool
    tolerance: float = TOLERANCE

    @property
    def heading(self) -> str:
        return KINDS.get(self.kind, self.kind)


@dataclass(frozen=True)
class Dot:
    """A check on the chart; ``x`` in 0..100."""

    x: float
    label: str
    mode: str
    ok: bool
    offset: int


@dataclass
class Figures:
    """Everything the proof section shows."""

    verdict: str = "none"
    sentence: str = "Run diglot prove to compare the two."
    tolerance: float = TOLERANCE
    checks: list[Check] = field(default_factory=list)
    single: list[Check] = field(default_factory=list)
    sensitivity: list[tuple[str, str]] = field(default_factory=list)
    explained: list[tuple[str, str]] = field(default_factory=list)
    not_compared: list[tuple[str, str]] = field(default_factory=list)
    divergence: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    seed: Any = None

    @property
    def verdict_word(self) -> str:
        return VERDICTS.get(self.verdict, (self.verdict.capitalize(), "?"))[0]

    @property
    def seal(self) -> str:
        return VERDICTS.get(self.verdict, ("", "?"))[1]

    @property
    def compared(self) -> int:
        return sum(check.count for check in self.checks)

    @property
    def worst(self) -> float | None:
        """The greatest relative difference of the float64 checks, None without any."""
        values = [check.worst for check in self.checks if check.worst is not None]
        if not values:
            return None
        return math.nan if any(math.isnan(value) for value in values) else max(values)

    @property
    def kinds(self) -> list[tuple[str, str, list[Check]]]:
        """(kind, heading, checks), in reading order."""
        order = list(KINDS)
        found = sorted(
            dict.fromkeys(check.kind for check in self.checks),
            key=lambda kind: order.index(kind) if kind in order else len(order),
        )
        return [
            (kind, checks[0].heading, checks)
            for kind in found
            if (checks := [check for check in self.checks if check.kind == kind])
        ]

    @property
    def strips(self) -> list[tuple[str, list[Dot]]]:
        """The chart: one strip of dots per kind."""
        return [(heading, _dots(checks)) for _, heading, checks in self.kinds]


def axis(value: float | None) -> float:
    """Where a relative difference stands on the chart's logarithmic axis, 0..100."""
    if value is None or math.isnan(value) or math.isinf(value):
        return 100.0
    exponent = math.log10(value) if value > 0 else _FIRST
    exponent = min(max(exponent, _FIRST), _LAST)
    return round(100 * (exponent - _FIRST) / (_LAST - _FIRST), 2)


def ticks() -> list[tuple[float, str]]:
    """(position, label) of the chart's axis."""
    return [
        (axis(10.0**exponent), "exact" if exponent == _FIRST else f"1e{exponent}")
        for exponent in range(_FIRST, _LAST + 1, 3)
        if exponent <= 0
    ]


def _dots(checks: Sequence[Check]) -> list[Dot]:
    """Dots of one strip; those that would hide each other are moved up and down alternately."""
    dots: list[Dot] = []
    taken: dict[int, int] = {}
    for check in sorted(checks, key=lambda item: axis(item.worst)):
        x = axis(check.worst)
        column = round(x * 1.2)
        rank = taken.get(column, 0)
        taken[column] = rank + 1
        offset = (rank + 1) // 2 * (1 if rank % 2 else -1)
        label = f"{relative(check.worst)} · {check.mode}, {check.weights} weights, {check.sizes}"
        dots.append(Dot(x, label, check.mode, check.ok, max(-3, min(3, offset))))
    return dots


def relative(value: Any) -> str:
    """A relative difference as people write it: ``3.1e-15``, ``0`` for exact agreement."""
    if value is None:
        return "—"
    number = float(value)
    if number == 0:
        return "0 (exact)"
    return f"{number:.1e}".replace("e-0", "e-").replace("e+0", "e+").replace(".0e", "e")


def sizes_text(sizes: Any) -> str:
    """Sizes of one comparison: a mapping as ``batch 2, length 7``, shapes as ``2 × 7``."""
    if isinstance(sizes, Mapping):
        return ", ".join(f"{name} {_shape(size)}" for name, size in sizes.items())
    return "" if sizes is None else _shape(sizes)


def _shape(size: Any) -> str:
    return " × ".join(map(str, size)) if isinstance(size, list | tuple) else str(size)
