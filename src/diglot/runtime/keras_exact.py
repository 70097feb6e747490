"""Running Keras exactly: without dropout, and in float64 throughout."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

NORMAL, UNIFORM = 0.7, 0.3
"""What every standard normal and every uniform number is while two programs are compared."""
# Not MultiHeadAttention's `_dropout`: its Dropout is a layer of its own, and with a rate of 0 it would compute
# in another way, which makes something else of a row that is masked throughout.
DROPOUT_ATTRIBUTES = ("rate", "dropout", "recurrent_dropout", "drop_prob", "drop_rate")


@contextlib.contextmanager
def no_dropout(model: Any) -> Iterator[None]:
    """Within the block every dropout of `model` drops nothing, in training mode too, and the
    numbers that model.py draws are NORMAL and UNIFORM."""
    import keras
    from keras.src import backend
    from keras.src.random import random as module

    def keep(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return inputs

    def normal(
        shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        return keras.ops.full(shape, mean + NORMAL * stddev, dtype=dtype or keras.config.floatx())

    def uniform(
        shape: Any, minval: Any = 0.0, maxval: Any = 1.0, dtype: Any = None, seed: Any = None
    ) -> Any:
        value = minval + UNIFORM * (maxval - minval)
        return keras.ops.full(shape, value, dtype=dtype or keras.config.floatx())

    changed: list[tuple[Any, str, Any]] = []
    for layer in model._flatten_layers() if model is not None else ():
        own = not type(layer).__module__.startswith("keras.")
        # Its own attributes only: a property of the name reads one of them.
        for name, value in list(vars(layer).items()):
            to = _without_dropout(name, own)
            if to is not None and isinstance(value, float) and 0.0 < value <= 1.0:
                changed.append((layer, name, value))
                setattr(layer, name, to)
    replaced = [(place, "dropout", keep) for place in (keras.random, module, backend.random)]
    # Keras's own layers and initializers draw through `module`; model.py goes by the public name.
    replaced += [(keras.random, "normal", normal), (keras.random, "uniform", uniform)]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        replaced += [(tf.random, "normal", normal), (tf.random, "uniform", uniform)]
        replaced.append((tf.nn, "dropout", keep))
    try:
        with _replaced(replaced):
            yield
    finally:
        for layer, name, value in changed:
            setattr(layer, name, value)


def _without_dropout(name: str, own: bool) -> float | None:
    """What an attribute that says how much is dropped, or kept, is where nothing is; None for any other.

    Authors (``own``) who write stochastic depth themselves call it ``drop_path_rate``, ``survival_prob``…
    """
    if name in DROPOUT_ATTRIBUTES or (own and "drop" in name and not name.startswith("_")):
        return 0.0
    kept = own and re.search(r"(keep|survival)_?(prob|rate)", name) is not None
    return 1.0 if kept else None


@contextlib.contextmanager
def _replaced(functions: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Within the block functions of modules, (module, name, function) each, are others."""
    before = [(place, name, getattr(place, name)) for place, name, _ in functions]
    for place, name, function in functions:
        setattr(place, name, function)
    try:
        yield
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def set_width(floatx: str) -> None:
    """Make Keras compute in `floatx`: "float32" or "float64".

    On JAX and PyTorch, Keras makes float32 of every float64 that it computes with, even where
    floatx is float64; for a proof it must not. The default dtype policy is made of floatx once, when
    a first layer asks for it, and kept, so it is set here as well.
    """
    import keras
    from keras.src.backend.common import dtypes

    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    if keras.backend.backend() != "tensorflow":
        dtypes.BIT64_TO_BIT32_DTYPE["float64"] = floatx


@contextlib.contextmanager
def exact() -> Iterator[Counter[str]]:
    """Within the block float64 attention, GELU, leaky ReLU and Rescaling keep their constants in float64, and
    float64 convolutions in groups are made of ordinary ones; counts where that was so, by name.

    On TensorFlow, Keras rounds the constant 1/sqrt(d) of `dot_product_attention` (and so of
    MultiHeadAttention) and the numbers of `Rescaling`, and TensorFlow those of `gelu` and the slope of
    `leaky_relu`, to float32, whatever the inputs are: relative errors of 6e-8 and 5e-9, which would
    hide everything smaller.
    Convolutions in groups it differentiates on the CPU only where they are compiled, a hundred times
    more slowly than it does the ordinary ones. In float32 nothing is different.
    """
    import keras
    from keras.src import backend

    used: Counter[str] = Counter()
    if keras.backend.backend() != "tensorflow" or keras.config.floatx() != "float64":
        yield used
        return
    import tensorflow as tf

    attend, leaky_relu_of_tensorflow = backend.nn.dot_product_attention, tf.nn.leaky_relu
    gelu_of_tensorflow, rescaling_of_keras = tf.nn.gelu, keras.layers.Rescaling.call

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        if query.dtype == tf.float64 and not args:
            scale = kwargs.get("scale")
            size = tf.cast(tf.shape(key)[-1], tf.float64)
            exactly = tf.math.rsqrt(size) if scale is None else tf.constant(scale, tf.float64)
            kwargs["scale"] = exactly
            used["dot_product_attention"] += 1
        return attend(query, key, value, *args, **kwargs)

    def gelu(x: Any, approximate: bool = True, name: str | None = None) -> Any:
        x = tf.convert_to_tensor(x)
        if x.dtype != tf.float64:
            return gelu_of_tensorflow(x, approximate=approximate, name=name)
        used["gelu"] += 1
        inner = tf.constant(0.5**0.5, tf.float64) * x
        if approximate:
            inner = tf.constant((2 / math.pi) ** 0.5, tf.float64) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1.0 + (tf.tanh(inner) if approximate else tf.math.erf(inner)))

    def plain_gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:
        return gelu(features, approximate, name)

    def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Any:
        x = tf.convert_to_tensor(features)
        if x.dtype != tf.float64:
            return leaky_relu_of_tensorflow(features, alpha=alpha, name=name)
        used["leaky_relu"] += 1
        return tf.where(x > 0, x, tf.constant(alpha, tf.float64) * x)

    def rescaling(self: Any, inputs: Any) -> Any:
        if self.compute_dtype != "float64":
            return rescaling_of_keras(self, inputs)
        used["Rescaling"] += 1
        scale, offset = (tf.constant(n, tf.float64) for n in (self.scale, self.offset))
        return tf.cast(inputs, tf.float64) * scale + offset

    functions = [
        (keras.layers.Rescaling, "call", rescaling),
        (backend.nn, "dot_product_attention", attention),
        (backend.nn, "gelu", gelu),
        (backend.nn, "conv", _by_groups(backend.nn.conv, used)),
        *((tf.nn, "gelu", plain_gelu), (tf.nn, "leaky_relu", leaky_relu)),
    ]
    with _replaced(functions):
        yield used


def _by_groups(conv: Callable[..., Any], used: Counter[str]) -> Callable[..., Any]:
    """Keras's `conv`, with float64 convolutions in groups made of ordinary ones, the same sums of the
    same products, and counted in `used`."""
    import tensorflow as tf
    from keras.src import backend

    def by_groups(
        inputs: Any,
        kernel: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
    ) -> Any:
        strides, dilation_rate = (
            steps if isinstance(steps, int) else tuple(steps) for steps in (strides, dilation_rate)
        )
        options = (strides, padding, data_format, dilation_rate)
        first = backend.standardize_data_format(data_format) == "channels_first"
        axis = 1 if first else -1
        inputs, kernel = tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel)
        channels, per_group = inputs.shape[axis], kernel.shape[-2]
        groups = (channels or per_group) // per_group
        if inputs.dtype != tf.float64 or groups * per_group != channels or groups == 1:
            return conv(inputs, kernel, *options)
        if kernel.shape[-1] % groups:
            return conv(inputs, kernel, *options)  # which says what is wrong
        used["conv"] += 1
        even = isinstance(strides, int) or len(set(strides)) == 1
        if per_group == 1 and len(inputs.shape) < 5 and even:
            # Each channel makes as many of the outputs, which stand beside one another.
            shape = [*kernel.shape[:-2], channels, kernel.shape[-1] // channels]
            return backend.nn.depthwise_conv(inputs, tf.reshape(kernel, shape), *options)
        parts = zip(tf.split(inputs, groups, axis), tf.split(kernel, groups, -1), strict=True)
        return tf.concat([conv(x, w, *options) for x, w in parts], axis)

    return by_groups
