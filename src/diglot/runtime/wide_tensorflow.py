"""What TensorFlow's own code says in so many words of float32, while a model of its functions is run in float64."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from diglot.runtime.graph_ops import fake_quant, pool_3d, response_norm
from diglot.runtime.resizing import widening

#: A module, the name of a function or class in it, itself, and what stands for it.
Place = tuple[Any, str, Any, Any]


def replacements(wider: Callable[[Any], Any], wide: Callable[[Any], Any]) -> list[Place]:
    """What is replaced within TensorFlow, whichever way a layer comes by the functions that call it.

    ``wider(function)`` is the function with narrow dtypes among its arguments widened, ``wide(dtype)`` a dtype.
    """
    import tensorflow as tf
    from keras.src import backend
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import gen_image_ops, gen_nn_ops, math_ops

    places: list[Place] = [
        (math_ops, "cast", math_ops.cast, wider(math_ops.cast)),
        (ops, "convert_to_tensor", ops.convert_to_tensor, wider(ops.convert_to_tensor)),
        (
            gen_image_ops,
            "resize_bilinear",
            gen_image_ops.resize_bilinear,
            widening(gen_image_ops.resize_bilinear),
        ),
        (backend.numpy, "signbit", backend.numpy.signbit, _signbit(backend.numpy.signbit)),
        (tf, "TensorArray", tf.TensorArray, _array_class(tf.TensorArray, wide)),
    ]
    places += [
        (tf.quantization, name, function, _fake_quant)
        for name, function in vars(tf.quantization).items()
        if name.startswith("fake_quant_with_min_max") and not name.endswith("gradient")
    ]
    norm = gen_nn_ops.lrn
    for name, op in (("max_pool3d", "MaxPool3D"), ("avg_pool3d", "AvgPool3D")):
        pool = vars(gen_nn_ops)[name]
        places.append((gen_nn_ops, name, pool, _in_float64(pool, op, pool_3d)))
    places += [  # a public name is the op itself
        (place, name, norm, _in_float64(norm, "LRN", response_norm))
        for place in (gen_nn_ops, tf.nn, tf.compat.v1.nn)
        for name in ("lrn", "local_response_normalization")
        if vars(place).get(name) is norm
    ]
    for place in (tf.debugging, tf.compat.v1.debugging, tf.compat.v1, tf):
        for name, function in vars(place).items():
            if name.startswith("assert_") or name == "Assert":
                places.append((place, name, function, _nothing))
    return places


def _array_class(plain: Any, wide: Callable[[Any], Any]) -> Callable[..., Any]:
    def make(dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return plain(wide(dtype), *args, **kwargs)

    return make


def _signbit(narrow: Any) -> Callable[[Any], Any]:
    """Keras's reads the bits of a float32, as `argmin` and `argmax` do by it."""
    import tensorflow as tf

    def signbit(x: Any) -> Any:
        x = tf.convert_to_tensor(x)
        return tf.bitcast(x, tf.int64) < 0 if x.dtype == tf.float64 else narrow(x)

    return signbit


def _nothing(*args: Any, **kwargs: Any) -> None:
    """An assertion about values that are the checked model's own business."""


def _in_float64(
    function: Callable[..., Any], op: str, replaced: Callable[[Any, list[Any]], list[Any] | None]
) -> Callable[..., Any]:
    """An op's function, but for a tensor of float64, which the op does not take."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        x, *_ = given.args
        if getattr(x, "dtype", None) != "float64":
            return function(*args, **kwargs)
        attributes = {k: v for k, v in given.arguments.items() if k not in ("input", "name")}
        made = replaced(_node(op, **attributes), [x])
        assert made is not None
        return made[0]

    return call


def _node(op: str, **attributes: Any) -> Any:
    """A node with attributes of any kind, as the ops' replacements ask for them."""
    values = {
        k: types.SimpleNamespace(
            b=v,
            i=v,
            f=v,
            s=v.encode() if isinstance(v, str) else v,
            list=types.SimpleNamespace(i=v),
        )
        for k, v in attributes.items()
    }
    return types.SimpleNamespace(op=op, attr=values)


def _fake_quant(
    inputs: Any,
    min: Any = -6.0,
    max: Any = 6.0,
    num_bits: int = 8,
    narrow_range: bool = False,
    name: Any = None,
) -> Any:
    node = _node("FakeQuant", num_bits=num_bits, narrow_range=narrow_range)
    return fake_quant(node, [inputs, np.float64(min), np.float64(max)])[0]
