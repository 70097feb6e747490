"""Resizing images."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Refused, Sample, op

_IMAGE = "2,4,6,3"


def _resize(call: Call, x: Any, size: Any, mode: str) -> Any:
    x = call.tensor(x)
    x = x if x.is_floating_point() else x.to(call.precision.dtype)
    target = values.ints(size)
    aligned = bool(call.attrs.get("align_corners"))
    centred = bool(call.attrs.get("half_pixel_centers"))
    image = x.permute(0, 3, 1, 2)
    if aligned or centred:
        done = F.interpolate(image, tuple(target), mode=mode, align_corners=aligned)
        return done.permute(0, 2, 3, 1)
    return _corner_resize(image, target, mode).permute(0, 2, 3, 1)


def _corner_resize(image: torch.Tensor, target: list[Any], mode: str) -> torch.Tensor:
    """TensorFlow 1's default: pixel ``i`` is sampled at ``i * scale``, from the corner, not the centre."""
    if mode != "bilinear":
        raise Refused("bicubic resizing without half_pixel_centers")
    for axis, size in zip((2, 3), target, strict=True):
        n = image.shape[axis]
        if values.same_size(n, size):
            continue
        at = torch.arange(size, dtype=image.dtype, device=image.device) * (n / size)
        low = at.floor().long().clamp(max=n - 1)
        high = (low + 1).clamp(max=n - 1)
        share = (at - low).reshape(-1, *[1] * (3 - axis))
        first, second = image.index_select(axis, low), image.index_select(axis, high)
        image = first + (second - first) * share
    return image


@op(
    "ResizeBilinear",
    samples=(
        Sample(
            lambda r, x: r.Cast(
                x=r.ResizeBilinear(images=x, size=[8, 9], half_pixel_centers=True), DstT="float32"
            ),
            (_IMAGE,),
        ),
        Sample(
            lambda r, x: r.Cast(
                x=r.ResizeBilinear(images=x, size=[8, 9], align_corners=True), DstT="float32"
            ),
            (_IMAGE,),
        ),
        Sample(
            lambda r, x: r.Cast(x=r.ResizeBilinear(images=x, size=[8, 3]), DstT="float32"),
            (_IMAGE,),
        ),
    ),
    note="TensorFlow resizes in float32 whatever the input's dtype",
)
def resize_bilinear(call: Call, x: Any, size: Any) -> Any:
    return _resize(call, x, size, "bilinear")


@op(
    "ResizeNearestNeighbor",
    samples=(
        Sample(
            lambda r, x: r.ResizeNearestNeighbor(images=x, size=[8, 12], half_pixel_centers=True),
            (_IMAGE,),
        ),
        Sample(lambda r, x: r.ResizeNearestNeighbor(images=x, size=[7, 9]), (_IMAGE,)),
        Sample(
            lambda r, x: r.ResizeNearestNeighbor(images=x, size=[7, 3], half_pixel_centers=True),
            (_IMAGE,),
        ),
    ),
)
def resize_nearest(call: Call, x: Any, size: Any) -> Any:
    x = call.tensor(x).permute(0, 3, 1, 2)
    if call.attrs.get("align_corners"):
        raise Refused("nearest neighbours with align_corners")
    # Whole factors are the same pixels for both conventions.
    whole = all(
        isinstance(s, int) and isinstance(n, int) and s % n == 0
        for s, n in zip(values.ints(size), x.shape[2:], strict=True)
    )
    centred = bool(call.attrs.get("half_pixel_centers")) and not whole
    mode = "nearest-exact" if centred else "nearest"
    return F.interpolate(x, tuple(values.ints(size)), mode=mode).permute(0, 2, 3, 1)


@op("ResizeBicubic")
def resize_bicubic(call: Call, x: Any, size: Any) -> Any:
    raise Refused("bicubic resizing: TensorFlow's cubic (a = -0.5) is not torch's (a = -0.75)")


@op(
    "AdjustContrastv2",
)
def adjust_contrast(call: Call, x: Any, factor: Any) -> Any:
    x = call.tensor(x)
    mean = x.mean((-3, -2), keepdim=True)
    return (x - mean) * call.operand(factor) + mean
