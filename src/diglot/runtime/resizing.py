"""Bilinear resizing in float64: TensorFlow's own op gives float32, whatever goes in, and has no other gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


def bilinear(x: Any, size: Any, *, aligned: bool, centred: bool) -> Any:
    """Resize images (N, H, W, C) to ``size``, two numbers, in their own dtype.

    ``aligned`` and ``centred`` are ``align_corners`` and ``half_pixel_centers`` of TensorFlow's ResizeBilinear.
    """
    import tensorflow as tf

    for axis, target in zip((1, 2), np.asarray(size).tolist(), strict=True):
        length = int(x.shape[axis])
        scale = length / target
        if aligned and target > 1:
            scale = (length - 1) / (target - 1)
        at = np.arange(target, dtype=np.float64)
        at = np.maximum((at + 0.5) * scale - 0.5, 0.0) if centred else at * scale
        low = np.minimum(np.floor(at).astype(np.int64), length - 1)
        high = np.minimum(low + 1, length - 1)
        share = np.reshape(at - low, [-1, *[1] * (3 - axis)])
        below, above = tf.gather(x, low, axis=axis), tf.gather(x, high, axis=axis)
        x = below + (above - below) * share
    return x


def widening(function: Callable[..., Any]) -> Callable[..., Any]:
    """TensorFlow's ``resize_bilinear``, but for images in float64."""

    @functools.wraps(function)
    def resize(
        images: Any,
        size: Any,
        align_corners: bool = False,
        half_pixel_centers: bool = False,
        name: str | None = None,
    ) -> Any:
        if getattr(images, "dtype", None) != "float64" or not hasattr(images, "numpy"):
            return function(images, size, align_corners, half_pixel_centers, name)
        return bilinear(images, size, aligned=align_corners, centred=half_pixel_centers)

    return resize


__all__ = ["bilinear", "widening"]
