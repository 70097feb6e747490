"""Tables of positions."""

import math

from keras import ops


def sinusoids(shape, dtype=None):
    """Sines and cosines of each position, at frequencies that fall from 1 to 1/10000."""
    length, width = math.prod(shape[:-1]), shape[-1]
    rates = ops.exp(ops.arange(0, width, 2, dtype="float32") * (-math.log(10000.0) / width))
    angles = ops.arange(length, dtype="float32")[:, None] * rates
    pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.cast(ops.reshape(pairs, shape), dtype)
