"""What counts as equal, and how far apart two arrays are."""

from __future__ import annotations

import numpy as np

PROVEN = 1e-9
"""The greatest relative difference of a proven float64 comparison."""
FLOAT32 = 1e-4
"""What float32 rounding is expected to stay below."""
VACUOUS = 1e-6
"""An output that moves less than this, relatively, hardly depends on what was moved."""
SIBLING_FLOOR = 1e-2
"""A gradient is measured on at least this part of the largest gradient of its module. Some
gradients are zero by their nature (a bias before a batch norm in training mode, the bias of the
keys of an attention): what is computed for them is the rounding error of much larger terms."""
GLOBAL_FLOOR = 1e-5
"""The same, as a part of the largest gradient of all."""

_TINY = 1e-300


def relative(source: np.ndarray, target: np.ndarray, floor: float = 0.0) -> float:
    """max|source - target| / max(max|source|, floor).

    Infinite where the shapes differ, or where one side is NaN or infinite and the other is not the
    same; elements that are equally non-finite on both sides are left out.
    """
    a, b = np.asarray(source), np.asarray(target)
    if a.shape != b.shape:
        return float("inf")
    if a.size == 0:
        return 0.0
    if a.dtype.kind not in "fc":
        if a.dtype.kind == "b" or b.dtype.kind == "b":
            return 0.0 if np.array_equal(a.astype(bool), b.astype(bool)) else float("inf")
        a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity, looked into below
        gap = np.abs(a - b).max()
    scale = np.abs(a).max()
    if not (np.isfinite(gap) and np.isfinite(scale)):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        finite = np.isfinite(a) & np.isfinite(b)
        if not np.all(same | finite):
            return float("inf")
        if not finite.any():
            return 0.0
        gap, scale = np.abs(a[finite] - b[finite]).max(), np.abs(a[finite]).max()
    return float(gap / max(scale, floor, _TINY)) if gap else 0.0
