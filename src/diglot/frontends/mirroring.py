"""Padding with what an image already holds: ``reflect``, ``symmetric`` and ``edge``, for any axes of a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

_IN_TORCH = {"reflect": "reflect", "edge": "replicate"}


def mirrored(x: torch.Tensor, pairs: Sequence[Sequence[int]], mode: str) -> torch.Tensor:
    """Pad each axis by so many before and after; axes that torch pads itself, all at once, of any length."""
    pairs = [tuple(pair) for pair in pairs]
    if mode in _IN_TORCH and x.dim() in (3, 4, 5) and pairs[0] == (0, 0):
        for channels in (x.dim() - 1, 1):
            if pairs[channels] == (0, 0):
                inner = [p for axis, p in enumerate(pairs) if axis not in (0, channels)]
                flat = [size for pair in reversed(inner) for size in pair]
                first = x.movedim(channels, 1)
                return F.pad(first, flat, mode=_IN_TORCH[mode]).movedim(1, channels)
    for axis, (before, after) in enumerate(pairs):
        x = _one_axis(x, axis, before, after, mode)
    return x


def _one_axis(x: torch.Tensor, axis: int, before: int, after: int, mode: str) -> torch.Tensor:
    skip, parts = int(mode == "reflect"), [x]
    if before:
        part = _cut(x, axis, skip, skip + (1 if mode == "edge" else before))
        parts.insert(0, part.repeat_interleave(before, axis) if mode == "edge" else part.flip(axis))
    if after:
        part = _cut(x, axis, -1 if mode == "edge" else -after - skip, -skip or None)
        parts.append(part.repeat_interleave(after, axis) if mode == "edge" else part.flip(axis))
    return torch.cat(parts, axis) if len(parts) > 1 else x


def _cut(x: torch.Tensor, axis: int, start: int, end: int | None) -> torch.Tensor:
    """A slice from numbers that say nothing of the axis's length."""
    return x[(*[slice(None)] * axis, slice(start, end))]


__all__ = ["mirrored"]
