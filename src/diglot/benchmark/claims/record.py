"""A claim and what was found about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diglot.benchmark.claims.evidence import Evidence


class Verdict(StrEnum):
    holds = "holds"
    fails = "does not hold"
    depends = "depends"
    unmeasured = "not measurable here"


@dataclass(frozen=True)
class Finding:
    """A verdict, the reason in a sentence with figures, and the figures themselves."""

    verdict: Verdict
    reason: str
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What a document asserts, in our words, and how it is judged.

    ``how`` says what is measured; ``judge`` measures it and may raise any `DiglotError`: MissingExtra
    where this machine lacks what the measurement needs.
    """

    id: str
    document: str
    assertion: str
    how: str
    judge: Callable[[Evidence], Finding]


def by_share(good: int, count: int) -> Verdict:
    """Holds where all of `count` cases are good, not where none is, and depends in between."""
    if good == count:
        return Verdict.holds
    return Verdict.depends if good else Verdict.fails
