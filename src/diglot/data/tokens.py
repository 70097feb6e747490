"""Rows of token ids, of different lengths, as batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def batches(
    rows: Sequence[Sequence[int]], size: int, pad: int = 0
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of ``size`` rows, padded on the right: input_ids and attention_mask, int64."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        length = max(len(row) for row in part)
        ids = np.full((len(part), length), pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(part):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        yield {"input_ids": ids, "attention_mask": mask}
