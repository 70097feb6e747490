"""A program as lines, for a source that nobody wrote as Python."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Listing:
    """A program as lines, and the lines (from 1) at which each layer (by ``id``, or by path) is made or called.

    ``spans`` are the first and last line of what is below a module, by its path, where the places do not say it;
    ``groups`` the lines that are one line of the translation, by that which an op's ``meta["listed"]`` names.
    """

    lines: list[str] = dataclasses.field(default_factory=list)
    places: dict[Any, list[int]] = dataclasses.field(default_factory=dict)
    spans: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    groups: dict[int, list[int]] = dataclasses.field(default_factory=dict)

    @property
    def text(self) -> str:
        """The program as it is written to a file."""
        return "\n".join(self.lines) + "\n"


__all__ = ["Listing"]
