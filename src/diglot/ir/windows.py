"""What ``padding="same"`` of TensorFlow and Keras adds before a window that slides over an axis."""

from __future__ import annotations

from typing import Any


def total(size: int, window: int, stride: int) -> int:
    """How many elements are added to an axis in all: there are ceil(size / stride) outputs."""
    return max(window - 1 - (size - 1) % stride, 0)


def is_fixed(size: Any, window: int, stride: int) -> bool:
    """Whether that is known: any size will do where the stride or the window is 1."""
    return isinstance(size, int) or stride == 1 or window == 1


def is_same(size: Any, window: int, stride: int, before: int, after: int) -> bool:
    """Whether ``before`` and ``after`` are what "same" adds, at this size or, where it is open, at all."""
    if not is_fixed(size, window, stride):
        return False
    added = total(size if isinstance(size, int) else 1, window, stride)
    return before == added // 2 and after == added - added // 2


__all__ = ["is_fixed", "is_same", "total"]
