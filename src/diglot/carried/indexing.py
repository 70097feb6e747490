"""Ways to pick from a tensor that Keras has no single op for."""

from keras import ops


def take_together(x, indices, axis=0):
    """Return x[:, i, j] for index tensors i, j that broadcast; their axes start at `axis`."""
    shape = ops.shape(x)
    place = 0
    for index, size in zip(indices, shape[axis:], strict=False):
        place = place * size + index % size
    flat = ops.reshape(x, (*shape[:axis], -1, *shape[axis + len(indices) :]))
    return ops.take(flat, place, axis=axis)


def put_every(x, values, axis, start, stop, step):
    """Return x with every step-th place of an axis replaced: x[:, start:stop:step] = values."""
    size = x.shape[axis]
    order = list(range(size))
    order[start:stop:step] = range(size, size + values.shape[axis])
    return ops.take(ops.concatenate([x, values], axis=axis), order, axis=axis)


def top_k_along(x, k, axis=-1, largest=True):
    """Return the k largest (or smallest) values along an axis, in order, and where they are."""
    x = ops.moveaxis(x, axis, -1)
    values, indices = ops.top_k(x if largest else -x, k)
    values = values if largest else -values
    return ops.moveaxis(values, -1, axis), ops.moveaxis(indices, -1, axis)


def sliding_windows(x, axis, size, step):
    """Return the windows of an axis, each in a new last axis."""
    count = (ops.shape(x)[axis] - size) // step + 1
    starts = ops.arange(count, dtype="int32") * step
    places = starts[:, None] + ops.arange(size, dtype="int32")
    return ops.moveaxis(ops.take(x, places, axis=axis), axis + 1, -1)


def number_table(*rows, dtype):
    """The whole numbers of some lines of text as one vector."""
    numbers = [int(number) for row in rows for number in row.split()]
    return ops.cast(ops.array(numbers, dtype="int32"), dtype)
