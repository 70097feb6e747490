"""Normalisation with the statistics of the input itself, on tensors whose channels come last."""

import math

from keras import ops


def batch_normalize(x, epsilon):
    """Normalise each channel by the mean and variance of this batch, in training and afterwards."""
    axes = tuple(range(len(x.shape) - 1))
    mean = ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=axes, keepdims=True)
    return (x - mean) * ops.rsqrt(variance + epsilon)


def layer_normalize(x, axes, epsilon):
    """Normalise over some axes to mean 0 and variance 1."""
    mean = ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=axes, keepdims=True)
    return (x - mean) * ops.rsqrt(variance + epsilon)


def rms_normalize(x, axes, epsilon):
    """Divide by the root of the mean square over some axes."""
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=axes, keepdims=True) + epsilon)


def group_normalize(x, groups, epsilon):
    """Normalise groups of channels, each over its channels and all positions."""
    _, *positions, channels = ops.shape(x)
    count = math.prod(positions)
    x = ops.reshape(x, (-1, count, groups, channels // groups))
    mean = ops.mean(x, axis=(1, 3), keepdims=True)
    variance = ops.mean(ops.square(x - mean), axis=(1, 3), keepdims=True)
    return ops.reshape((x - mean) * ops.rsqrt(variance + epsilon), (-1, *positions, channels))
