"""``padding="same"`` of TensorFlow: how much it adds, and one op for where that depends on the sizes of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from diglot.carried import same_padding

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("pad_same(Tensor x, int[] window, int[] stride, float value) -> Tensor")


def _shape(
    x: torch.Tensor, window: Sequence[int], stride: Sequence[int], value: float
) -> torch.Tensor:
    sizes = [_padded(*each) for each in zip(x.shape[2:], window, stride, strict=True)]
    return x.new_empty(*x.shape[:2], *sizes)


def _padded(size: Any, window: int, stride: int) -> Any:
    padded = ((size + stride - 1) // stride - 1) * stride + window
    if window >= stride:
        return padded
    return max(padded, size) if isinstance(size, int) else torch.sym_max(padded, size)


_LIBRARY.impl("pad_same", same_padding.pad_same, "CompositeExplicitAutograd")
torch.library.register_fake("diglot::pad_same", _shape, lib=_LIBRARY)


def total(size: int, window: int, stride: int) -> int:
    """How many elements are added to an axis in all: there are ceil(size / stride) outputs."""
    return max(window - 1 - (size - 1) % stride, 0)


def is_fixed(size: Any, window: int, stride: int) -> bool:
    """Whether that is known: any size will do where the stride or the window is 1."""
    return isinstance(size, int) or stride == 1 or window == 1


def pad_same(
    x: torch.Tensor, windows: Sequence[int], strides: Sequence[int], value: float = 0.0
) -> torch.Tensor:
    """Pad the spatial axes of an NCHW tensor; the odd one goes to the end."""
    axes = list(zip(x.shape[2:], windows, strides, strict=True))
    if not all(is_fixed(*axis) for axis in axes):
        return torch.ops.diglot.pad_same(x, list(windows), list(strides), value)
    pads: list[int] = []
    for size, window, stride in reversed(axes):
        added = total(1 if stride == 1 or window == 1 else size, window, stride)
        pads += [added // 2, added - added // 2]
    return F.pad(x, pads, value=value) if any(pads) else x
