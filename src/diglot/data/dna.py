"""DNA and what became of it: a simulator of ancestor -> descendant, its CSV file, and tokens.

Each base of an ancestor is lost, or kept or exchanged for another one, and a new one may follow it, each
by a rate. One kind of substitution depends on the neighbour, as the commonest one in vertebrates does:
the C of a CpG (a C followed by a G) loses its amine and becomes a T.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diglot.errors import BadInput
from diglot.output import write_whole

BASES = "ACGT"
COLUMNS = ("ancestor", "descendant")

PAD, SOS, EOS = 0, 5, 6
"""Tokens beside those of the bases, which are 1 to 4: padding, start and end of a sequence."""

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Rates:
    """Probabilities, of each for every base: ``substitution`` by one of the three others,
    ``insertion`` of a random base after it, ``deletion``, and ``deamination`` of a C before a G to
    T (which comes first: a C that is spared may still be substituted)."""

    substitution: float = 0.05
    insertion: float = 0.02
    deletion: float = 0.02
    deamination: float = 0.0

    def __post_init__(self) -> None:
        """Raises BadInput for a rate that is no probability."""
        for name in ("substitution", "insertion", "deletion", "deamination"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise BadInput(
                    f"The rate of {name} is no probability.",
                    expected="a number from 0 to 1",
                    received=str(value),
                )


def simulate(
    count: int, length: int, rates: Rates, seed: int = 0, shortest: int | None = None
) -> Pairs:
    """``count`` random ancestors, each with a descendant, which keeps at least one base.

    Ancestors have ``length`` bases, or any number of them from ``shortest`` to ``length``. The same
    arguments give the same pairs. Raises BadInput where there is nothing to simulate.
    """
    shortest = length if shortest is None else shortest
    if count < 1 or not 1 <= shortest <= length:
        raise BadInput(
            "There is nothing to simulate.",
            expected="a count of at least 1, and 1 <= shortest <= length",
            received=f"count {count}, shortest {shortest}, length {length}",
        )
    rng = np.random.default_rng(seed)
    pairs = []
    for size in rng.integers(shortest, length + 1, count):
        ancestor = rng.integers(0, len(BASES), size)
        pairs.append((_letters(ancestor), _letters(_evolve(ancestor, rates, rng))))
    return pairs


def deaminate(ancestor: str) -> str:
    """The likeliest descendant where deamination is the rule and all the rest chance: every CG a TG."""
    return ancestor.replace("CG", "TG")


def _evolve(bases: np.ndarray, rates: Rates, rng: np.random.Generator) -> list[int]:
    """The descendant of one ancestor, both as indices into BASES."""
    chances = rng.random((len(bases), 4))
    others = rng.integers(1, len(BASES), len(bases))
    inserted = rng.integers(0, len(BASES), len(bases))
    cpg = np.zeros(len(bases), bool)
    cpg[:-1] = (bases[:-1] == BASES.index("C")) & (bases[1:] == BASES.index("G"))
    descendant: list[int] = []
    for i, base in enumerate(bases):
        if cpg[i] and chances[i, 0] < rates.deamination:
            base = BASES.index("T")
        elif chances[i, 1] < rates.substitution:
            base = (base + others[i]) % len(BASES)
        if chances[i, 2] >= rates.deletion:
            descendant.append(int(base))
        if chances[i, 3] < rates.insertion:
            descendant.append(int(inserted[i]))
    return descendant or [int(bases[0])]


def _letters(bases: Iterable[int]) -> str:
    return "".join(BASES[base] for base in bases)


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write a CSV file with the columns ancestor and descendant. Raises BadInput where it cannot be."""
    lines = [",".join(row) for row in (COLUMNS, *pairs)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "\n".join(lines) + "\n")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}.") from error


def read_pairs(path: Path, longest: int | None = None) -> Pairs:
    """The pairs of a CSV file that has, among others, the columns ancestor and descendant.

    Letters may be small. Raises BadInput, with the line's number, for a file that cannot be read, holds
    no pair or lacks a column, and for a sequence that is empty, longer than ``longest``, or has a letter
    that is no base.
    """
    pairs: Pairs = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            if not columns:
                raise BadInput(
                    f"{path} is empty.", expected=f"a line of column names: {','.join(COLUMNS)}"
                )
            for name in COLUMNS:
                if name not in columns:
                    raise BadInput(
                        f"{path} has no column {name!r}.",
                        expected=" and ".join(COLUMNS),
                        received=", ".join(columns),
                    )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                ancestor, descendant = (_checked(row[n], n, where, longest) for n in COLUMNS)
                pairs.append((ancestor, descendant))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path} cannot be read as CSV: {reason}.") from error
    if not pairs:
        raise BadInput(f"{path} holds no pair: there is nothing below its column names.")
    return pairs


def _checked(text: str | None, column: str, where: str, longest: int | None) -> str:
    """One sequence in capitals. Raises BadInput."""
    sequence = (text or "").strip().upper()
    if not sequence:
        raise BadInput(f"The {column} is empty.", where=where, expected=f"letters of {BASES}")
    for position, letter in enumerate(sequence, 1):
        if letter not in BASES:
            raise BadInput(
                f"The {column} has a letter that is no base.",
                where=f"{where}, letter {position}",
                expected=", ".join(BASES),
                received=repr(letter),
            )
    if longest is not None and len(sequence) > longest:
        raise BadInput(
            f"The {column} is too long.",
            where=where,
            expected=f"at most {longest} bases",
            received=f"{len(sequence)} bases",
        )
    return sequence


def tokenise(
    sequences: Sequence[str], maxlen: int, *, start: bool = False, end: bool = False
) -> np.ndarray:
    """Tokens (n, maxlen), int64: A 1, C 2, G 3, T 4, padded with PAD at the end; ``start`` puts SOS
    before each sequence and ``end`` EOS after it. Raises BadInput for a sequence that does not fit."""
    tokens = np.full((len(sequences), maxlen), PAD, np.int64)
    for row, sequence in enumerate(sequences):
        found = [SOS] * start + [BASES.index(letter) + 1 for letter in sequence] + [EOS] * end
        if len(found) > maxlen:
            raise BadInput(
                f"Sequence {row + 1} is too long.",
                expected=f"at most {maxlen - start - end} bases",
                received=f"{len(sequence)} bases",
            )
        tokens[row, : len(found)] = found
    return tokens


def detokenise(tokens: Iterable[int]) -> str:
    """The bases among tokens, up to the first EOS."""
    letters = []
    for token in tokens:
        if token == EOS:
            break
        if 1 <= token <= len(BASES):
            letters.append(BASES[token - 1])
    return "".join(letters)
