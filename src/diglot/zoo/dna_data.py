"""The DNA that both DNA pairs learn from: simulated, or read from a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diglot.data.dna import Pairs, Rates, read_pairs, simulate
from diglot.errors import BadInput

OWN_DATA = "a CSV file with the columns ancestor and descendant"


def load_parts(
    longest: int,
    *,
    path: str | None = None,
    count: int = 2000,
    shortest: int | None = None,
    seed: int = 0,
    rates: Mapping[str, float] | None = None,
) -> tuple[dict[str, Pairs], dict[str, Any]]:
    """Pairs for "train" (80 %), "validation" and "test" (10 % each), and what to say of them.

    They come from the CSV file at ``path``, or else ``count`` pairs are simulated, with ancestors of
    up to nine tenths of ``longest`` bases where ``rates`` insert any, so that descendants fit. Raises
    BadInput for what cannot be read, a sequence above ``longest``, and too few pairs to divide.
    """
    if path is not None:
        pairs, name = read_pairs(Path(path), longest), path
    else:
        found = Rates(**(rates or {}))
        length = longest if not found.insertion else longest * 9 // 10
        pairs, name = simulate(count, length, found, seed, shortest), "simulated"
        pairs = [(a, d[:longest]) for a, d in pairs]
    tenth = len(pairs) // 10
    if not tenth:
        raise BadInput(
            "There are too few pairs to learn from.",
            expected="10 or more",
            received=str(len(pairs)),
        )
    parts = {
        "train": pairs[: -2 * tenth],
        "validation": pairs[-2 * tenth : -tenth],
        "test": pairs[-tenth:],
    }
    return parts, {"name": name, **{part: len(rows) for part, rows in parts.items()}}
