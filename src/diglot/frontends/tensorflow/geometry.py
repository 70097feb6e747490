"""Windows over images: TensorFlow's data formats and paddings in torch's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from diglot.frontends.same_padding import pad_same

Pairs = list[tuple[Any, Any]]


def channels_first(attrs: Mapping[str, Any]) -> bool:
    return str(attrs.get("data_format") or "NHWC").startswith("NC")


def spatial_of(attrs: Mapping[str, Any], values: Sequence[int]) -> list[int]:
    """The spatial part of strides or dilations that are given for every axis."""
    values = list(values)
    if not values:
        return []
    return values[2:] if channels_first(attrs) else values[1:-1]


def cut(x: torch.Tensor, axis: int, start: Any, end: Any) -> torch.Tensor:
    """``x[:, start:end]`` along an axis: several of them are one subscript, as ``narrow`` is not."""
    return x[(*[slice(None)] * axis, slice(start, end))]


def inward(x: torch.Tensor, attrs: Mapping[str, Any]) -> torch.Tensor:
    """NHWC -> NCHW, unless the op is channels first already."""
    if channels_first(attrs):
        return x
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1))


def outward(x: torch.Tensor, attrs: Mapping[str, Any]) -> torch.Tensor:
    """NCHW -> NHWC, unless the op is channels first."""
    if channels_first(attrs):
        return x
    return x.permute(0, *range(2, x.dim()), 1)


def same_padding(size: Any, window: int, stride: int) -> tuple[Any, Any]:
    """What ``SAME`` adds before and after an axis of a size; the odd one goes after."""
    if stride == 1 or window == 1:
        total: Any = window - 1
    elif isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
    else:
        total = torch.sym_max(((size + stride - 1) // stride - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def paddings(
    attrs: Mapping[str, Any], sizes: Sequence[Any], windows: Sequence[int], strides: Sequence[int]
) -> Pairs:
    """The padding of each spatial axis, before and after."""
    kind = attrs["padding"]
    if kind == "VALID":
        return [(0, 0)] * len(windows)
    if kind == "SAME":
        return [same_padding(n, w, s) for n, w, s in zip(sizes, windows, strides, strict=True)]
    explicit = list(attrs["explicit_paddings"])
    flat = list(zip(explicit[::2], explicit[1::2], strict=True))
    return flat[2:] if channels_first(attrs) else flat[1:-1]


def symmetric(pairs: Pairs) -> list[int] | None:
    """The padding as torch's layers take it, where it is fixed and the same on both sides."""
    if all(isinstance(a, int) and isinstance(b, int) and a == b for a, b in pairs):
        return [a for a, _ in pairs]
    return None


def padded(
    x: torch.Tensor,
    attrs: Mapping[str, Any],
    windows: Sequence[int],
    strides: Sequence[int],
    value: float = 0.0,
) -> torch.Tensor:
    """An NCHW tensor with the padding of a window's op."""
    if attrs["padding"] == "SAME":
        return pad_same(x, windows, strides, value)
    pairs = paddings(attrs, list(x.shape[2:]), windows, strides)
    if all(isinstance(p, int) and p == 0 for pair in pairs for p in pair):
        return x
    return F.pad(x, [p for pair in reversed(pairs) for p in pair], value=value)


CONVOLUTIONS: dict[int, Callable] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}  # fmt: skip


def convolve(
    x: torch.Tensor,
    attrs: Mapping[str, Any],
    kernel: Sequence[int],
    run: Callable[[torch.Tensor, list[int]], torch.Tensor],
) -> torch.Tensor:
    """A convolution of ``x`` in its own data format: ``run(nchw, padding)`` with what padding torch can do itself."""
    strides, dilations = conv_steps(attrs, len(kernel))
    x = inward(x, attrs)
    windows = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pairs = paddings(attrs, list(x.shape[2:]), windows, strides)
    own = symmetric(pairs)
    if own is None:
        x, own = padded(x, attrs, windows, strides), [0] * len(pairs)
    return outward(run(x, own), attrs)


def conv_steps(attrs: Mapping[str, Any], dims: int) -> tuple[list[int], list[int]]:
    """The strides and dilations of the spatial axes."""
    strides = spatial_of(attrs, attrs["strides"])
    dilations = spatial_of(attrs, attrs.get("dilations") or []) or [1] * dims
    return strides, dilations
