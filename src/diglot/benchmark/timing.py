"""How long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

_WARM_UP = 3
_LEAST, _MOST = 5, 2000


def time_calls(call: Callable[[], Any], seconds: float = 1.0) -> dict[str, float]:
    """Time a call again and again for about `seconds`: the first call, which may compile, the median
    of those that come after a few more, and their number."""
    first = timed(call)
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST or (time.perf_counter() < end and len(times) < _MOST):
        times.append(timed(call))
    return {
        "first_seconds": first,
        "median_seconds": statistics.median(times),
        "calls": len(times),
    }


def timed(call: Callable[[], Any]) -> float:
    """The seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
