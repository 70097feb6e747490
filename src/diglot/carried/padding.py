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
