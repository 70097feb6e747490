"""Resizing in the precision of its input, with PyTorch's positions, on tensors whose channels come
last.
"""

from keras import ops


def resize_positions(x, axis, count, scale=None, align_corners=False):
    """Return where each of ``count`` cells along an axis falls in the input, in its cells."""
    length = ops.cast(ops.shape(x)[axis], x.dtype)
    place = ops.arange(count, dtype=x.dtype)
    if align_corners:
        return place * ((length - 1) / ops.cast(ops.maximum(count - 1, 1), x.dtype))
    scale = length / ops.cast(count, x.dtype) if scale is None else scale
    return (place + 0.5) * scale - 0.5


def resize_axis(x, axis, taps):
    """Write each cell along an axis as a weighted sum of input cells: ``taps`` holds (index,
    weight) pairs.
    """
    length = ops.shape(x)[axis]
    cells = ops.arange(length, dtype="int32")[:, None]
    matrix = 0
    for index, weight in taps:
        index = ops.clip(ops.cast(index, "int32"), 0, length - 1)
        matrix = matrix + ops.cast(ops.equal(cells, index), x.dtype) * weight
    return ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), matrix), -1, axis)


def resize_nearest(x, size, scales=None, exact=False):
    """Resize the spatial axes by taking the nearest cell, counted from the corner (or, exact, from
    its middle).
    """
    for axis, count in enumerate(size, start=1):
        length = ops.shape(x)[axis]
        if scales is None:
            scale = ops.cast(length, x.dtype) / ops.cast(count, x.dtype)
        else:
            scale = scales[axis - 1]
        place = ops.arange(count, dtype=x.dtype)
        if exact:
            place = ops.maximum((place + 0.5) * scale - 0.5, 0) + 0.5
        else:
            place = place * scale
        index = ops.floor(
            ops.cast(place, "float32")
        )  # as PyTorch rounds it, whatever the input's type
        x = ops.take(x, ops.minimum(ops.cast(index, "int32"), length - 1), axis=axis)
    return x


def resize_linear(x, size, scales=None, align_corners=False):
    """Resize the spatial axes, each by linear interpolation between two cells."""
    for axis, count in enumerate(size, start=1):
        scale = None if scales is None else scales[axis - 1]
        place = ops.maximum(resize_positions(x, axis, count, scale, align_corners), 0)
        low = ops.floor(place)
        share = place - low
        x = resize_axis(x, axis, [(low, 1 - share), (low + 1, share)])
    return x


def resize_cubic(x, size, scales=None, align_corners=False):
    """Resize the spatial axes, each by a cubic through four cells (a = -0.75)."""

    def near(t):
        return (1.25 * t - 2.25) * t * t + 1

    def far(t):
        return ((-0.75 * t + 3.75) * t - 6) * t + 3

    for axis, count in enumerate(size, start=1):
        scale = None if scales is None else scales[axis - 1]
        place = resize_positions(x, axis, count, scale, align_corners)
        low = ops.floor(place)
        t = place - low
        taps = [
            (low - 1, far(t + 1)),
            (low, near(t)),
            (low + 1, near(1 - t)),
            (low + 2, far(2 - t)),
        ]
        x = resize_axis(x, axis, taps)
    return x


def pixel_shuffle(x, factor):
    """Spread channels over an image that is ``factor`` times as high and wide."""
    _, height, width, channels = ops.shape(x)
    channels = channels // factor**2
    x = ops.reshape(x, (-1, height, width, channels, factor, factor))
    x = ops.transpose(x, (0, 1, 4, 2, 5, 3))
    return ops.reshape(x, (-1, height * factor, width * factor, channels))


def pixel_unshuffle(x, factor):
    """Gather squares of ``factor`` by ``factor`` pixels into channels."""
    _, height, width, channels = ops.shape(x)
    height, width = height // factor, width // factor
    x = ops.reshape(x, (-1, height, factor, width, factor, channels))
    x = ops.transpose(x, (0, 1, 3, 5, 2, 4))
    return ops.reshape(x, (-1, height, width, channels * factor**2))


def channel_shuffle(x, groups):
    """Deal the channels of each group out in turn."""
    _, *positions, channels = ops.shape(x)
    x = ops.reshape(x, (-1, *positions, groups, channels // groups))
    return ops.reshape(ops.swapaxes(x, -1, -2), (-1, *positions, channels))
