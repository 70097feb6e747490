"""Activations that Keras computes less exactly in float64, or in another form, than PyTorch."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable()
def gelu(x):
    """The exact GELU: x times the normal distribution function."""
    return 0.5 * x * (1.0 + ops.erf(x / math.sqrt(2.0)))


@keras.saving.register_keras_serializable()
def gelu_tanh(x):
    """The GELU approximated with tanh."""
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


@keras.saving.register_keras_serializable()
def leaky_relu(x, negative_slope=0.01):
    """x where it is positive, else x times a small slope."""
    return ops.where(x > 0, x, negative_slope * x)


@keras.saving.register_keras_serializable()
def mish(x):
    """x times the tanh of its softplus."""
    return x * ops.tanh(ops.softplus(x))


def threshold(x, limit, value):
    """x where it is above a limit, else a fixed value."""
    return ops.where(x > limit, x, value)
