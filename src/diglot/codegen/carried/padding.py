"""Padding with what is already there."""

from keras import ops


def pad_replicate(x, widths):
    """Pad each axis with copies of its first and last cell."""
    for axis, (before, after) in enumerate(widths):
        x = ops.moveaxis(x, axis, 0)
        parts = [ops.repeat(x[:1], before, axis=0), x, ops.repeat(x[-1:], after, axis=0)]
        x = ops.moveaxis(ops.concatenate(parts, axis=0), 0, axis)
    return x


def pad_circular(x, widths):
    """Pad each axis with its other end."""
    for axis, (before, after) in enumerate(widths):
        x = ops.moveaxis(x, axis, 0)
        end = ops.shape(x)[0]
        x = ops.concatenate([x[end - before :], x, x[:after]], axis=0)
        x = ops.moveaxis(x, 0, axis)
    return x
