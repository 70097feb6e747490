"""Raw TensorFlow ops between the layers of a Functional model: the function of Keras 3's that each is.

Keras 2 made a layer of every ``tf`` function that was called on a symbolic tensor (``TFOpLambda``, and
``SlicingOpLambda`` for subscripts). Its config names the function; its arguments have TensorFlow's names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from diglot.errors import BadInput

LAYERS = ("TFOpLambda", "SlicingOpLambda")


def _reduce(op: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        axis = tuple(axis) if isinstance(axis, list) else axis
        return op(input_tensor, axis=axis, keepdims=keepdims)

    return reduce


def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    return ops.matmul(_turned(a, transpose_a), _turned(b, transpose_b))


def _turned(x: Any, turned: bool) -> Any:
    return ops.swapaxes(x, -1, -2) if turned else x


def _reshape(tensor: Any, shape: Any) -> Any:
    sizes = shape.sizes if isinstance(shape, Sizes) else shape
    return ops.reshape(tensor, tuple(-1 if size is None else size for size in sizes))


class Sizes:
    """The shape of a tensor, of which Keras 3 knows only what is fixed: other sizes are None."""

    def __init__(self, sizes: tuple[int | None, ...]) -> None:
        self.sizes = sizes


def _shape(input: Any, out_type: str = "int32") -> Sizes:
    return Sizes(tuple(input.shape))


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return ops.transpose(a, perm)


def _squeeze(input: Any, axis: Any = None) -> Any:
    return ops.squeeze(input, tuple(axis) if isinstance(axis, list) else axis)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0, num: Any = None) -> Any:
    if isinstance(num_or_size_splits, list):
        ends, total = [], 0
        for size in num_or_size_splits[:-1]:
            total += size
            ends.append(total)
        return ops.split(value, ends, axis)
    return ops.split(value, num_or_size_splits, axis)


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
    values = {"constant_values": constant_values} if mode == "CONSTANT" else {}
    return ops.pad(tensor, paddings, mode=mode.lower(), **values)


def _getitem(x: Any, slice_spec: Any) -> Any:
    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    if isinstance(x, Sizes):
        found = x.sizes[_index(spec[0])]
        return Sizes(found) if isinstance(found, tuple) else found
    return x[tuple(_index(item) for item in spec)]


def _index(item: Any) -> Any:
    if isinstance(item, dict) and {"start", "stop", "step"} <= item.keys():
        return slice(item["start"], item["stop"], item["step"])
    return (
        {"Ellipsis": Ellipsis, "tf.newaxis": None}.get(item, item)
        if isinstance(item, str)
        else item
    )


def _where(condition: Any, x: Any, y: Any) -> Any:
    return ops.where(condition, x, y)


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.clip(t, clip_value_min, clip_value_max)


def _resize(images: Any, size: Any, method: str = "bilinear", **options: Any) -> Any:
    if any(options.values()):
        raise BadInput(f"tf.image.resize has options that Keras 3 does not have: {options}.")
    return ops.image.resize(images, tuple(size), interpolation=method)


def _argmax(input: Any, axis: Any = None, output_type: str = "int64") -> Any:
    return ops.argmax(input, axis)


def _unary(op: Callable[..., Any], name: str = "x") -> Callable[..., Any]:
    return lambda *args, **kwargs: op(
        *args, **{"x" if k == name else k: v for k, v in kwargs.items()}
    )


def _softmax(logits: Any, axis: int = -1) -> Any:
    return ops.softmax(logits, axis=axis)


def _cast(x: Any, dtype: str) -> Any:
    return ops.cast(x, dtype)


def _one_hot(
    indices: Any,
    depth: int,
    on_value: Any = None,
    off_value: Any = None,
    axis: int = -1,
    dtype: Any = None,
) -> Any:
    made = ops.one_hot(indices, depth, axis=-1 if axis is None else axis, dtype=dtype or "float32")
    return made if on_value is None else made * (on_value - off_value) + off_value


def _gather(params: Any, indices: Any, axis: int = 0, **_: Any) -> Any:
    return ops.take(
        params, ops.cast(indices, "int32") if keras.ops.is_tensor(indices) else indices, axis
    )


def _normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    total = ops.sum(
        ops.square(x), axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=True
    )
    return x * ops.rsqrt(ops.maximum(total, epsilon))


#: By the name below ``tf``: what it is in Keras 3, with TensorFlow's names for its arguments.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(["__operators__.add", "math.add"], lambda x, y: x + y),
    **dict.fromkeys(["math.subtract", "subtract"], lambda x, y: x - y),
    **dict.fromkeys(["math.multiply", "multiply"], lambda x, y: x * y),
    **dict.fromkeys(["math.truediv", "math.divide", "divide"], lambda x, y: x / y),
    "math.floordiv": lambda x, y: x // y,
    "math.floormod": lambda x, y: x % y,
    "math.pow": lambda x, y: x**y,
    "math.negative": lambda x: -x,
    "math.maximum": lambda x, y: ops.maximum(x, y),
    "math.minimum": lambda x, y: ops.minimum(x, y),
    "math.squared_difference": lambda x, y: ops.square(x - y),
    "math.greater": lambda x, y: ops.greater(x, y),
    "math.greater_equal": lambda x, y: ops.greater_equal(x, y),
    "math.less": lambda x, y: ops.less(x, y),
    "math.less_equal": lambda x, y: ops.less_equal(x, y),
    **dict.fromkeys(["math.equal", "__operators__.eq"], lambda x, y: ops.equal(x, y)),
    **dict.fromkeys(["math.not_equal", "__operators__.ne"], lambda x, y: ops.not_equal(x, y)),
    "math.logical_and": lambda x, y: ops.logical_and(x, y),
    "math.logical_or": lambda x, y: ops.logical_or(x, y),
    "math.logical_not": lambda x: ops.logical_not(x),
    **{f"math.{name}": _unary(getattr(ops, name)) for name in (
        "abs exp log sqrt rsqrt square sin cos tan tanh sigmoid sign floor ceil round erf log1p expm1 softplus"
    ).split()},
    **{f"nn.{name}": _unary(getattr(ops, name), "features") for name in "relu relu6 elu selu".split()},
    **{f"nn.{name}": _unary(getattr(ops, name)) for name in "tanh sigmoid softplus softsign".split()},
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, alpha),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate),
    "nn.silu": lambda features, beta=1.0: features * ops.sigmoid(beta * features) if beta != 1 else ops.silu(features),
    "nn.softmax": _softmax,
    "nn.log_softmax": lambda logits, axis=-1: ops.log_softmax(logits, axis=axis),
    **dict.fromkeys(["math.l2_normalize", "nn.l2_normalize"], _normalize),
    **dict.fromkeys(["compat.v1.math.l2_normalize", "compat.v1.nn.l2_normalize"], _normalize),
    **{f"math.reduce_{name}": _reduce(getattr(ops, name)) for name in "sum mean max min prod any all std".split()},
    "math.reduce_variance": _reduce(ops.var),
    "math.reduce_logsumexp": _reduce(ops.logsumexp),
    **dict.fromkeys(["math.argmax", "compat.v1.argmax"], _argmax),
    "math.cumsum": lambda x, axis=0: ops.cumsum(x, axis),
    "linalg.matmul": _matmul,
    "einsum": lambda equation, *given: ops.einsum(equation, *given),
    "concat": lambda values, axis: ops.concatenate(values, axis),
    "stack": lambda values, axis=0: ops.stack(values, axis),
    "unstack": lambda value, num=None, axis=0: ops.unstack(value, num, axis),
    "split": _split,
    "reshape": _reshape,
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    **dict.fromkeys(["squeeze", "compat.v1.squeeze"], _squeeze),
    **dict.fromkeys(["transpose", "compat.v1.transpose"], _transpose),
    "tile": lambda input, multiples: ops.tile(input, multiples),
    "repeat": lambda input, repeats, axis=None: ops.repeat(input, repeats, axis),
    "reverse": lambda tensor, axis: ops.flip(tensor, axis),
    "broadcast_to": lambda input, shape: ops.broadcast_to(input, shape),
    **dict.fromkeys(["pad", "compat.v1.pad"], _pad),
    **dict.fromkeys(["shape", "compat.v1.shape"], _shape),
    **dict.fromkeys(["gather", "compat.v1.gather"], _gather),
    "cast": _cast,
    "one_hot": _one_hot,
    "where": _where,
    "clip_by_value": _clip,
    "identity": lambda input: input,
    "stop_gradient": lambda input: ops.stop_gradient(input),
    "zeros_like": lambda input, dtype=None: ops.zeros_like(input, dtype),
    "ones_like": lambda input, dtype=None: ops.ones_like(input, dtype),
    "convert_to_tensor": lambda value: value,
    "image.resize": _resize,
    "__operators__.getitem": _getitem,
}  # fmt: skip


def function(name: str, config: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what an op's layer does, from tensors to tensors.

    Raises BadInput for a function that Keras 3 has no equal of.
    """
    named = str(config.get("function"))
    found = FUNCTIONS.get(named)
    if found is None:
        raise refused(f"tf.{named}", str(config.get("name")))

    def call(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("name", None)
        try:
            return found(*args, **kwargs)
        except TypeError as error:
            raise refused(
                f"tf.{named} with {', '.join(kwargs)}", str(config.get("name"))
            ) from error

    return call


def refused(what: str, layer: str) -> BadInput:
    """Return the error for an op that cannot be told to Keras 3."""
    return BadInput(
        f"The model calls {what}, for which Diglot has no function of Keras 3.",
        where=f"layer {layer}",
        hint="load the model with the TensorFlow that wrote it, save it as a SavedModel (tf.saved_model.save), and "
        "name that folder",
    )
