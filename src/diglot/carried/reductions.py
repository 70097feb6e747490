"""Reductions as PyTorch defines them."""

import math

from keras import ops


def sample_variance(x, axis=None, keepdims=False, correction=1):
    """The variance that divides by n - correction; Keras's own divides by n."""
    squares = ops.square(x - ops.mean(x, axis=axis, keepdims=True))
    shape = ops.shape(x)
    axes = range(len(shape)) if axis is None else [axis] if isinstance(axis, int) else axis
    count = ops.cast(math.prod(shape[a] for a in axes) - correction, x.dtype)
    return ops.sum(squares, axis=axis, keepdims=keepdims) / count


def cosine_similarity(x, y, axis=1, epsilon=1e-8):
    """The cosine of the angle between x and y along an axis."""
    x = x / ops.maximum(ops.norm(x, axis=axis, keepdims=True), epsilon)
    y = y / ops.maximum(ops.norm(y, axis=axis, keepdims=True), epsilon)
    return ops.sum(x * y, axis=axis)


def vector_norm(x, order, axis=None, keepdims=False):
    """The norm of any order of the vectors along some axes."""
    return ops.sum(ops.abs(x) ** order, axis=axis, keepdims=keepdims) ** (1.0 / order)
