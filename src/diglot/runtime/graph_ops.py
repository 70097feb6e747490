"""TensorFlow's ops in float64, those included that it computes in float32 only: these are written with others here.

Each replacement takes a node and its inputs, and gives its outputs; or None where TensorFlow's own op will do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from diglot.graph_nodes import quantised_range
from diglot.literals import intended
from diglot.runtime.resizing import bilinear


def definition(op: str) -> Any:
    """TensorFlow's own definition of an op, or None."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def attribute(node: Any, name: str) -> Any:
    """An attribute of a node, that of its op's definition where it has none. (Asking a protobuf's map for what it does
    not hold would put it there.)"""
    if name in node.attr:
        return node.attr[name]
    return next(a.default_value for a in definition(node.op).attr if a.name == name)


def number(node: Any, name: str) -> float:
    """A float attribute as its author wrote it; attributes hold 32 bits."""
    return intended(np.float32(attribute(node, name).f))


def _channels_first(node: Any) -> bool:
    return attribute(node, "data_format").s.startswith(b"NC")


def batch_norm(node: Any, inputs: list[Any]) -> list[Any]:
    """FusedBatchNorm in all its versions. The reserved outputs, which only gradients read, are the statistics."""
    import tensorflow as tf

    x, scale, offset, mean, variance = inputs
    first = _channels_first(node)
    rank = len(x.shape)
    axes = [axis for axis in range(rank) if axis != (1 if first else rank - 1)]
    if attribute(node, "is_training").b:
        mean = tf.reduce_mean(x, axes)
        variance = tf.reduce_mean(tf.math.squared_difference(x, _spread(mean, rank, first)), axes)
    factor = scale * tf.math.rsqrt(variance + number(node, "epsilon"))
    centred = x - _spread(mean, rank, first)
    y = centred * _spread(factor, rank, first) + _spread(offset, rank, first)
    return [y, mean, variance, mean, variance, variance]


def _spread(vector: Any, rank: int, first: bool) -> Any:
    """A value for each channel, for a tensor of ``rank`` axes."""
    import tensorflow as tf

    return tf.reshape(vector, [1, -1, *[1] * (rank - 2)]) if first else vector


def leaky_relu(node: Any, inputs: list[Any]) -> list[Any]:
    """LeakyRelu, whose slope is an attribute of 32 bits."""
    import tensorflow as tf

    (x,) = inputs
    return [tf.where(x > 0, x, x * number(node, "alpha"))]


def resize_bilinear(node: Any, inputs: list[Any]) -> list[Any]:
    """ResizeBilinear, whose result is float32 whatever goes in."""
    import tensorflow as tf

    x, size = inputs
    aligned, centred = attribute(node, "align_corners").b, attribute(node, "half_pixel_centers").b
    return [bilinear(tf.cast(x, tf.float64), size, aligned=aligned, centred=centred)]


def adjust_contrast(node: Any, inputs: list[Any]) -> list[Any]:
    """AdjustContrastv2."""
    import tensorflow as tf

    x, factor = inputs
    mean = tf.reduce_mean(x, [-3, -2], keepdims=True)
    return [(x - mean) * factor + mean]


def response_norm(node: Any, inputs: list[Any]) -> list[Any]:
    """LRN: local response normalisation over channels."""
    import tensorflow as tf

    (x,) = inputs
    radius = attribute(node, "depth_radius").i
    squares = tf.pad(tf.square(x), [[0, 0]] * 3 + [[radius, radius]])
    depth = int(x.shape[3])
    total = tf.add_n([squares[:, :, :, i : i + depth] for i in range(2 * radius + 1)])
    base = number(node, "bias") + number(node, "alpha") * total
    return [x * tf.pow(base, -number(node, "beta"))]


def pool_3d(node: Any, inputs: list[Any]) -> list[Any]:
    """MaxPool3D and AvgPool3D; the average counts what is within the volume only."""
    import tensorflow as tf

    (x,) = inputs
    first = _channels_first(node)
    axes = (2, 3, 4) if first else (1, 2, 3)
    kernel, strides = (
        [list(attribute(node, k).list.i)[a] for a in axes] for k in ("ksize", "strides")
    )
    pads = [[0, 0] for _ in range(5)]
    if attribute(node, "padding").s == b"SAME":
        for axis, size, stride in zip(axes, kernel, strides, strict=True):
            length = int(x.shape[axis])
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads[axis] = [total // 2, total - total // 2]
    largest = node.op == "MaxPool3D"
    padded = tf.pad(x, pads, constant_values=-np.inf if largest else 0.0)
    windows = tf.stack(_windows(padded, axes, kernel, strides))
    if largest:
        return [tf.reduce_max(windows, 0)]
    counted = tf.stack(_windows(tf.pad(tf.ones_like(x), pads), axes, kernel, strides))
    return [tf.reduce_sum(windows, 0) / tf.reduce_sum(counted, 0)]


def _windows(x: Any, axes: tuple[int, ...], kernel: list[int], strides: list[int]) -> list[Any]:
    """For each place in the kernel what lies under it, for all its positions."""
    found = []
    for offsets in itertools.product(*(range(size) for size in kernel)):
        slices = [slice(None)] * 5
        for axis, offset, size, stride in zip(axes, offsets, kernel, strides, strict=True):
            slices[axis] = slice(offset, int(x.shape[axis]) - size + offset + 1, stride)
        found.append(x[tuple(slices)])
    return found


def in_top_k(node: Any, inputs: list[Any]) -> list[Any]:
    """InTopKV2, which takes float32 only; what it gives is true or false."""
    import tensorflow as tf

    predictions, targets, count = inputs
    return [
        tf.raw_ops.InTopKV2(predictions=tf.cast(predictions, tf.float32), targets=targets, k=count)
    ]


def conv_2d(node: Any, inputs: list[Any]) -> list[Any] | None:
    """A dilated Conv2D with zeros in its kernel instead, one in groups group by group: of neither has TensorFlow a
    gradient on a CPU.

    None for any other.
    """
    import tensorflow as tf

    first = _channels_first(node)
    dilations = [
        list(attribute(node, "dilations").list.i)[a] for a in ((2, 3) if first else (1, 2))
    ]
    x, kernel = inputs
    groups = 1 if first else int(x.shape[3]) // int(kernel.shape[2])
    if first or (dilations == [1, 1] and groups == 1):
        return None
    for axis, dilation in enumerate(dilations):
        size = int(kernel.shape[axis])
        spread = tf.stack([kernel, *[tf.zeros_like(kernel)] * (dilation - 1)], axis + 1)
        shape = [*kernel.shape[:axis], size * dilation, *kernel.shape[axis + 1 :]]
        kernel = tf.gather(tf.reshape(spread, shape), range((size - 1) * dilation + 1), axis=axis)
    pads = list(attribute(node, "explicit_paddings").list.i)
    padding: Any = attribute(node, "padding").s.decode()
    if padding == "EXPLICIT":
        padding = [pads[i : i + 2] for i in range(0, 8, 2)]
    strides = list(attribute(node, "strides").list.i)
    parts = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3), strict=True)
    return [tf.concat([tf.nn.conv2d(x, k, strides, padding) for x, k in parts], 3)]


def fake_quant(node: Any, inputs: list[Any]) -> list[Any]:
    """FakeQuantWithMinMaxArgs, -Vars and -VarsPerChannel, which take float32 only."""
    import tensorflow as tf

    x, *bounds = inputs
    bits, narrow = attribute(node, "num_bits").i, attribute(node, "narrow_range").b
    if not bounds:
        bounds = [np.float64(number(node, "min")), np.float64(number(node, "max"))]
    lows, highs = (np.atleast_1d(np.asarray(bound, np.float64)) for bound in bounds)
    ranges = [quantised_range(*pair, bits, narrow) for pair in zip(lows, highs, strict=True)]
    scale, low, high = np.transpose(ranges) if len(ranges) > 1 else ranges[0]
    x = tf.clip_by_value(tf.cast(x, tf.float64), low, high)
    return [x + tf.stop_gradient(tf.floor((x - low) / scale + 0.5) * scale + low - x)]


REPLACED: dict[str, Callable[[Any, list[Any]], list[Any] | None]] = {
    "FusedBatchNorm": batch_norm,
    "FusedBatchNormV2": batch_norm,
    "FusedBatchNormV3": batch_norm,
    "LeakyRelu": leaky_relu,
    "ResizeBilinear": resize_bilinear,
    "AdjustContrastv2": adjust_contrast,
    "LRN": response_norm,
    "MaxPool3D": pool_3d,
    "AvgPool3D": pool_3d,
    "InTopKV2": in_top_k,
    "FakeQuantWithMinMaxArgs": fake_quant,
    "FakeQuantWithMinMaxVars": fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": fake_quant,
    "Conv2D": conv_2d,
}
