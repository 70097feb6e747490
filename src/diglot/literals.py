"""The number that was meant by a float32 constant, for computing in float64.

A graph that was saved in float32 holds ``0.70710677`` where its author wrote ``1 / sqrt(2)``, and ``0.1`` as the float
nearest to it. In float64 both must be what was written: a rounded constant would hide every difference below 1e-8.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

_DIGITS = 6
"""A decimal of so few digits is what the author wrote."""
_LARGEST = 4096

#: A constant tensor of more numbers than this, in no pattern, is read from the weight file and not from the program.
SHORT_TABLE = 256


def intended(value: Any) -> float:
    """The double that a float scalar stands for: the shortest decimal that rounds to it, or a root, a fraction or a
    multiple of π whose rounding it is. Rounded to the scalar's own dtype it is the scalar again."""
    if not np.isfinite(value):
        return float(value)
    shortest = float(str(value))
    if np.asarray(value).dtype.name != "float32" or _digits(shortest) <= _DIGITS:
        return shortest
    known = _known().get(abs(float(value)))
    return shortest if known is None else math.copysign(known, float(value))


def _digits(value: float) -> int:
    """How many digits a decimal is written with, zeros at either end left out."""
    mantissa = repr(value).lower().partition("e")[0]
    return len(mantissa.replace(".", "").lstrip("-0").rstrip("0"))


@functools.cache
def _known() -> dict[float, float]:
    """What is often written as an expression, by its rounding to float32; the simplest expression wins."""
    special = [math.sqrt(2 / math.pi), math.sqrt(math.pi), math.log(2), math.log(10), math.e]
    special += [math.pi * n / m for n in (1, 2, 3, 4) for m in (1, 2, 3, 4, 180)]
    special += [1 / x for x in list(special)]
    special += [math.log(2 * math.pi), math.log(10000), 0.5 * math.log(2 * math.pi)]
    counts = range(2, _LARGEST + 1)
    found: dict[float, float] = {}
    for exact in (
        *special,
        *(1 / n for n in counts),
        *(math.sqrt(n) for n in counts),
        *(1 / math.sqrt(n) for n in counts),
    ):
        found.setdefault(float(np.float32(exact)), exact)
    return found
