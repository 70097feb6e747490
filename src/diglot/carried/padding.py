"""Padding with what is already there."""

from keras import ops


def pad_replicate(x, widths):
    """Pad each axis with copies of its first and last cell."""
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = ops.moveaxis(x, axis, 0)
            first, last = x[:1, ...], x[-1:, ...]
            parts = [ops.repeat(first, before, axis=0), x, ops.repeat(last, after, axis=0)]
            x = ops.moveaxis(ops.concatenate(parts, axis=0), 0, axis)
    return x


def pad_circular(x, widths):
    """Pad each axis with its other end."""
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = ops.moveaxis(x, axis, 0)
            start = ops.shape(x)[0] - before
            x = ops.concatenate([x[start:, ...], x, x[:after, ...]], axis=0)
            x = ops.moveaxis(x, 0, axis)
    return x


def padded_same(x, window, stride, value=0.0):
    """Pad the axes between the first and the last as ``padding="same"`` does, for windows that stride."""
    widths = [(0, 0)]
    for size, length, step in zip(ops.shape(x)[1:-1], window, stride, strict=True):
        total = ops.maximum(length - 1 - (size - 1) % step, 0)
        widths.append((total // 2, total - total // 2))
    return ops.pad(x, (*widths, (0, 0)), constant_values=value)
