"""``F.dropout(x, p)``, which drops in evaluation as well: whether a program says so cannot be seen in its graph.

A graph that is captured in training mode holds an active dropout for ``F.dropout(x, p, self.training)`` and for
``F.dropout(x, p)`` alike. While a model is captured the second becomes ``torch.native_dropout``, which has no mode.
"""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

_SAYS_TRUE = re.compile(r"dropout\(.*(training\s*=\s*True|,\s*True\s*\))")
_original = F.dropout


def always_dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """Drop, whatever the mode."""
    return torch.native_dropout(x, p, True)[0]


def _dropout(
    input: torch.Tensor, p: float = 0.5, training: Any = None, inplace: bool = False
) -> torch.Tensor:
    frame = sys._getframe(1)
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    always = training is None or (training is True and _SAYS_TRUE.search(line))
    if always and not inplace and 0.0 < p < 1.0:
        return always_dropout(input, p)
    return _original(input, p, True if training is None else training, inplace)


@contextlib.contextmanager
def seen() -> Iterator[None]:
    """Within the block dropouts that do not ask for the mode are told apart."""
    F.dropout = _dropout  # type: ignore[assignment]
    try:
        yield
    finally:
        F.dropout = _original
