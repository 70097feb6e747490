"""Pooling that no standard layer does, on tensors whose channels come last."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class PaddedMaxPooling(layers.Layer):
    """Maximum over windows of an input that is padded with minus infinity."""

    def __init__(self, pool_size, strides, before, after, **kwargs):
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.strides = strides
        self.before = before
        self.after = after

    def call(self, x):
        widths = ((0, 0), *zip(self.before, self.after, strict=True), (0, 0))
        x = ops.pad(x, widths, constant_values=-float("inf"))
        return ops.max_pool(x, self.pool_size, self.strides)

    def get_config(self):
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "before": self.before,
            "after": self.after,
        }


def pool_3d(pool, x, size, strides):
    """Pool a volume: its slices first, then along the depth."""
    _, depth, height, width, channels = ops.shape(x)
    x = ops.reshape(x, (-1, height, width, channels))
    x = pool(x, size[1:], strides[1:])
    _, height, width, _ = ops.shape(x)
    x = ops.reshape(x, (-1, depth, height * width, channels))
    x = pool(x, (size[0], 1), (strides[0], 1))
    return ops.reshape(x, (-1, ops.shape(x)[1], height, width, channels))


def average_pool(x, size, strides, before, after, counted):
    """Mean over windows of a padded input, divided by the cells that count.

    ``before`` and ``after`` give the padding of each spatial axis; of it, ``counted`` cells on
    either side count.
    """

    def pad(values, low, high, constant):
        widths = ((0, 0), *zip(low, high, strict=True), (0, 0))
        return ops.pad(values, widths, constant_values=constant)

    cells = pad(ops.ones_like(x[:1, ..., :1]), counted, counted, 1)
    low = [b - c for b, c in zip(before, counted, strict=True)]
    high = [a - c for a, c in zip(after, counted, strict=True)]
    cells, x = pad(cells, low, high, 0), pad(x, before, after, 0)
    if len(size) == 3:
        return pool_3d(ops.average_pool, x, size, strides) / pool_3d(
            ops.average_pool, cells, size, strides
        )
    return ops.average_pool(x, size, strides) / ops.average_pool(cells, size, strides)


def adaptive_average_pool(x, size):
    """Mean over ``size`` cells along each spatial axis; cells overlap where they do not divide the
    input.
    """
    for axis, count in enumerate(size, start=1):
        length = ops.shape(x)[axis]
        cell = ops.arange(count, dtype="int32")
        start = cell * length // count
        stop = ((cell + 1) * length + count - 1) // count
        place = ops.arange(length, dtype="int32")[:, None]
        inside = ops.cast(ops.logical_and(place >= start, place < stop), x.dtype)
        weights = inside / ops.cast(stop - start, x.dtype)
        x = ops.moveaxis(ops.matmul(ops.moveaxis(x, axis, -1), weights), -1, axis)
    return x


def adaptive_max_pool(x, size):
    """Maximum over ``size`` cells along each spatial axis; cells overlap where they do not divide
    the input.
    """
    for axis, count in enumerate(size, start=1):
        length = x.shape[axis]
        x = ops.moveaxis(x, axis, 0)
        cells = [
            ops.max(x[i * length // count : -(-(i + 1) * length // count), ...], axis=0)
            for i in range(count)
        ]
        x = ops.moveaxis(ops.stack(cells), 0, axis)
    return x
