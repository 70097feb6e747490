"""Windows that slide over spatial axes: what ``padding="same"`` adds, for convolutions and pooling."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_layers.records import known_shape
from diglot.ir.windows import is_fixed, total


def spatial_sizes(layer: Any, rank: int) -> list[int | None]:
    """The sizes of the spatial axes that a layer was built for, None for those that may vary."""
    shape = known_shape(layer)
    if shape is None or len(shape) != rank + 2:
        return [None] * rank
    first = 2 if getattr(layer, "data_format", None) == "channels_first" else 1
    return list(shape[first : first + rank])


def own_padding(
    sizes: list[int | None], windows: list[int], strides: list[int]
) -> tuple[int, ...] | None:
    """The padding that a torch module can do itself (the same on both sides), or None."""
    made = []
    for size, window, stride in zip(sizes, windows, strides, strict=True):
        if not is_fixed(size, window, stride):
            return None
        added = total(size or 1, window, stride)
        if added % 2:
            return None
        made.append(added // 2)
    return tuple(made)


def of_known_sizes(
    x: torch.Tensor, sizes: list[int | None], windows: list[int], strides: list[int]
) -> None:
    """Hold the sizes of an NCHW tensor to those that a padding was chosen for: it is another one at others."""
    for axis, (size, window, stride) in enumerate(zip(sizes, windows, strides, strict=True)):
        if size is not None and not is_fixed(None, window, stride):
            int(x.shape[2 + axis])  # a size that a program is captured with is no longer open then
