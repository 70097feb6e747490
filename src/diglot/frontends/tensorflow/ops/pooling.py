"""Pooling."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from diglot.frontends.tensorflow import geometry, values
from diglot.frontends.tensorflow.ops.registry import Call, Refused, Sample, op

_IMAGE = "2,8,9,3"


def _window(call: Call) -> tuple[list[int], list[int]]:
    size = geometry.spatial_of(call.attrs, call.attrs["ksize"])
    return size, geometry.spatial_of(call.attrs, call.attrs["strides"])


def _max(call: Call, x: Any, dims: int) -> Any:
    x = geometry.inward(call.tensor(x), call.attrs)
    size, strides = _window(call)
    pairs = geometry.paddings(call.attrs, list(x.shape[2:]), size, strides)
    own = geometry.symmetric(pairs)
    if own is None or any(2 * p > s for p, s in zip(own, size, strict=True)):
        x, own = geometry.padded(x, call.attrs, size, strides, float("-inf")), [0] * dims
    pool = F.max_pool2d if dims == 2 else F.max_pool3d
    return geometry.outward(pool(x, size, strides, own), call.attrs)


@op(
    "MaxPool",
    samples=(
        Sample(
            lambda r, x: r.MaxPool(
                input=x, ksize=[1, 2, 3, 1], strides=[1, 2, 2, 1], padding="VALID"
            ),
            (_IMAGE,),
        ),
        Sample(
            lambda r, x: r.MaxPool(
                input=x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"
            ),
            (_IMAGE,),
        ),
    ),
)
def max_pool(call: Call, x: Any) -> Any:
    return _max(call, x, 2)


@op(
    "MaxPool3D",
    samples=(
        Sample(
            lambda r, x: r.MaxPool3D(
                input=r.Cast(x=x, DstT="float32"),
                ksize=[1, 2, 2, 2, 1],
                strides=[1, 2, 2, 2, 1],
                padding="VALID",
            ),
            ("2,4,6,5,3",),
        ),
    ),
)
def max_pool3d(call: Call, x: Any) -> Any:
    return _max(call, x, 3)


def _average(call: Call, x: Any, dims: int) -> Any:
    x = geometry.inward(call.tensor(x), call.attrs)
    size, strides = _window(call)
    pairs = geometry.paddings(call.attrs, list(x.shape[2:]), size, strides)
    own = geometry.symmetric(pairs)
    pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
    if own is not None and all(2 * p <= s for p, s in zip(own, size, strict=True)):
        counted = {"count_include_pad": False} if any(own) else {}
        done = pool(x, size, strides, own, **counted)
        return geometry.outward(done, call.attrs)
    # TensorFlow counts only what lies inside the image: the mean of the padded image over the padded ones.
    ones = geometry.padded(torch.ones_like(x[:1, :1]), call.attrs, size, strides)
    padded = geometry.padded(x, call.attrs, size, strides)
    done = pool(padded, size, strides) / pool(ones, size, strides)
    return geometry.outward(done, call.attrs)


@op(
    "AvgPool",
    samples=(
        Sample(
            lambda r, x: r.AvgPool(
                value=x, ksize=[1, 2, 3, 1], strides=[1, 2, 2, 1], padding="VALID"
            ),
            (_IMAGE,),
        ),
        Sample(
            lambda r, x: r.AvgPool(
                value=x, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"
            ),
            (_IMAGE,),
        ),
        Sample(
            lambda r, x: r.AvgPool(
                value=x, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding="SAME"
            ),
            (_IMAGE,),
        ),
    ),
)
def average_pool(call: Call, x: Any) -> Any:
    return _average(call, x, 2)


@op(
    "AvgPool3D",
    samples=(
        Sample(
            lambda r, x: r.AvgPool3D(
                input=r.Cast(x=x, DstT="float32"),
                ksize=[1, 2, 2, 2, 1],
                strides=[1, 2, 2, 2, 1],
                padding="VALID",
            ),
            ("2,4,6,5,3",),
        ),
    ),
)
def average_pool3d(call: Call, x: Any) -> Any:
    return _average(call, x, 3)


@op("MaxPoolV2")
def max_pool_v2(call: Call, x: Any, size: Any, strides: Any) -> Any:
    call.attrs = {**call.attrs, "ksize": values.ints(size), "strides": values.ints(strides)}
    return _max(call, x, 2)


@op("MaxPoolWithArgmax")
def max_pool_with_argmax(call: Call, x: Any) -> Any:
    raise Refused("tf.nn.max_pool_with_argmax counts its indices as torch does not")
