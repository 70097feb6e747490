"""Windows that slide over spatial axes: what ``padding="same"`` adds, for convolutions and pooling."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from diglot.frontends.keras_layers.records import known_shape


def spatial_sizes(layer: Any, rank: int) -> list[int | None]:
    """The sizes of the spatial axes that a layer was built for, None for those that may vary."""
    shape = known_shape(layer)
    if shape is None or len(shape) != rank + 2:
        return [None] * rank
    first = 2 if getattr(layer, "data_format", None) == "channels_first" else 1
    return list(shape[first : first + rank])


def same_total(size: Any, window: int, stride: int) -> Any:
    """How many zeros ``padding="same"`` adds to an axis in all: it gives ceil(size / stride) outputs."""
    if stride == 1:
        return window - 1
    total = (-(-size // stride) - 1) * stride + window - size
    return max(total, 0) if isinstance(size, int) else torch.sym_max(total, 0)


def own_padding(
    sizes: list[int | None], windows: list[int], strides: list[int]
) -> tuple[int, ...] | None:
    """The padding that a torch module can do itself (the same on both sides), or None."""
    made = []
    for size, window, stride in zip(sizes, windows, strides, strict=True):
        if window <= stride and size is None:
            return None
        if stride != 1 and size is None:
            return None
        total = same_total(size, window, stride)
        if total % 2:
            return None
        made.append(total // 2)
    return tuple(made)


def pad_same(
    x: torch.Tensor, windows: list[int], strides: list[int], value: float = 0.0
) -> torch.Tensor:
    """Pad the spatial axes of an NCHW tensor as ``padding="same"`` does: the odd one goes to the end."""
    pads: list[Any] = []
    for axis in reversed(range(len(windows))):
        total = same_total(x.shape[2 + axis], windows[axis], strides[axis])
        pads += [total // 2, total - total // 2]
    if all(isinstance(p, int) and p == 0 for p in pads):
        return x
    return F.pad(x, pads, value=value)
