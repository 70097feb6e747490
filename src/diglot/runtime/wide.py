"""Running somebody's Keras model in float64, although it was built in float32.

The model is not rebuilt: its variables, its constants and its dtype policies are widened where they
are, which needs no `get_config`, and is what `module.double()` does on the other side. What was there
is put back by `restore`; the variables of the model itself are never written to.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from diglot.literals import SHORT_TABLE, intended
from diglot.runtime import wide_tensorflow

NARROW = ("float32", "float16", "bfloat16")
WIDE = "float64"
"""No program says more numbers than that."""

_FLOAT64 = 2
"""The number of float64 among TensorFlow's dtypes."""

_MEASURED = {"Normalization": ("mean", "variance")}
"""Attributes of layers that hold weights, not what a program says: the other side loads them, bit for
bit, and so they are widened as variables are."""


class Widened:
    """A live Keras model whose float variables, constants and policies are float64, until
    `restore`."""

    def __init__(self, model: Any) -> None:
        """Widen `model` in place. Raises what Keras does for a variable that cannot be."""
        self._undo: list[Callable[[], None]] = []
        self._done: set[int] = set()
        self._untracked: dict[int, Any] = {}  # TensorFlow's own variables, by id: their wide twins
        with self._restored_on_error():
            layers = model._flatten_layers()
            for layer in layers:
                self._layer(layer)
            for variable in _variables(model, layers):
                self._variable(variable)

    @contextlib.contextmanager
    def _restored_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put everything back as it was. May be called twice."""
        while self._undo:
            self._undo.pop()()

    # -- parts ----------------------------------------------------------------------------------

    def _set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute past whatever the owner's `__setattr__` tracks or forbids."""
        held = vars(owner)
        before = held[name]
        held[name] = value
        self._undo.append(lambda: held.__setitem__(name, before))

    def _layer(self, layer: Any) -> None:
        self._operation(layer)
        for metric in getattr(layer, "_metrics", ()):  # that a call feeds
            self._operation(metric)
            for variable in metric.variables:
                self._variable(variable)
        policy = vars(layer).get("_dtype_policy")
        if policy is not None and getattr(policy, "compute_dtype", None) in NARROW:
            import keras

            self._set(layer, "_dtype_policy", keras.dtype_policies.DTypePolicy(WIDE))
        for tensor in getattr(layer, "_inputs", None) or ():
            # A Functional model casts what it is called with to the dtype of its inputs.
            if getattr(tensor, "_dtype", None) in NARROW:
                self._set(tensor, "_dtype", WIDE)
        for operation in getattr(layer, "operations", ()):
            self._operation(operation)

    def _operation(self, operation: Any) -> None:
        """Constants and dtypes that a layer or an operation holds in its attributes."""
        if id(operation) in self._done:
            return
        self._done.add(id(operation))
        for name, value in list(vars(operation).items()):
            if isinstance(value, str):
                if name.endswith("dtype") and value in NARROW:
                    self._set(operation, name, WIDE)
                continue
            if name.endswith("_regularizer") and hasattr(value, "__dict__"):
                self._operation(value)  # it adds to a loss, and may hold tensors of its own
                continue
            widen = _exactly if _is_measured(operation, name) else _as_written
            wider = _widened(value, widen, self._untracked)
            if wider is not value:
                self._set(operation, name, wider)
        for node in getattr(operation, "_inbound_nodes", ()):
            for name in ("args", "kwargs"):  # constants that an op of a Functional model was given
                value = getattr(node.arguments, name)
                wider = _widened(value, _as_written, self._untracked)
                if wider is not value:
                    self._set(node.arguments, name, wider)

    def _variable(self, variable: Any) -> None:
        if variable.dtype not in NARROW:
            return
        held = variable._value
        value = np.asarray(_numpy(held), WIDE)
        self._set(variable, "_dtype", WIDE)
        variable._initialize(value)
        self._undo.append(lambda: setattr(variable, "_value", held))


def _variables(model: Any, layers: list[Any]) -> list[Any]:
    """Every variable of the model once, those of layers that it does not track included, and the states of
    recurrent layers, which are none of their variables."""
    found = {id(v): v for layer in [model, *layers] for v in layer.variables}
    states = [
        getattr(layer, "states", None) for layer in layers if getattr(layer, "stateful", False)
    ]
    found |= {id(v): v for held in states if held for v in held if hasattr(v, "assign")}
    return list(found.values())


def _numpy(value: Any) -> Any:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(value)).astype(WIDE)


def _widened(
    value: Any, widen: Callable[[np.ndarray], np.ndarray], variables: dict[int, Any]
) -> Any:
    """`value` with the float arrays and tensors in it made float64 by `widen`; itself where it holds
    none. TensorFlow's own variables, of which Keras knows nothing, are put into `variables`."""
    from keras.src import backend

    if isinstance(value, np.ndarray):
        return widen(value) if str(value.dtype) in NARROW else value
    # Keras tracks lists and dicts by classes of its own.
    tracked = isinstance(value, dict) and type(value).__module__.startswith("keras.")
    if tracked or isinstance(value, list) or type(value) in (tuple, dict):
        items = value.values() if isinstance(value, dict) else value
        wider = [_widened(item, widen, variables) for item in items]
        if all(a is b for a, b in zip(wider, items, strict=True)):
            return value
        return (
            dict(zip(value, wider, strict=True))
            if isinstance(value, dict)
            else tuple(wider)
            if isinstance(value, tuple)
            else wider
        )
    is_constant = backend.is_tensor(value) and not isinstance(value, backend.Variable)
    if is_constant and backend.standardize_dtype(value.dtype) in NARROW:
        if hasattr(value, "assign"):
            return variables.setdefault(id(value), _wide_variable(value))
        if not hasattr(value, "__array__"):
            return value  # a symbol of a graph
        narrow = np.asarray(backend.convert_to_numpy(value))
        return backend.convert_to_tensor(widen(narrow), dtype=WIDE)
    return value


def _wide_variable(variable: Any) -> Any:
    wide = type(variable)(np.asarray(variable.numpy(), WIDE), trainable=variable.trainable)
    wide.narrow = variable  # so that its id is not given again
    return wide


def _is_measured(operation: Any, name: str) -> bool:
    return any(name in _MEASURED.get(kind.__name__, ()) for kind in type(operation).__mro__)


def _exactly(value: np.ndarray) -> np.ndarray:
    """A weight: the very number that its 32 bits hold."""
    return value.astype(WIDE)


def _as_written(value: np.ndarray) -> np.ndarray:
    """A constant as a program says it, with as few digits as tell a float32 apart: 0.7, not 0.699999988079071."""
    if value.ndim == 0:
        return np.asarray(intended(value[()]), WIDE)
    measured = value.size > SHORT_TABLE and not (value == value.flat[0]).all()
    if value.dtype != np.float32 or measured:  # the program reads them from its weight file
        return value.astype(WIDE)
    return value.astype(str).astype(WIDE)


# -- what a model's own code says in so many words ---------------------------------------------------


@contextlib.contextmanager
def wide_literals() -> Iterator[None]:
    """Within the block a dtype that a layer's code spells out as float32 is float64.

    Models cast by hand (`ops.cast(x, "float32")`, `tf.constant(0.5)`, `tf.range(n, dtype=tf.float32)`),
    which would mix two widths, or hide a difference of 1e-9 behind rounding of 1e-7. Functions of
    Keras's backend, and of TensorFlow's public names, that take a dtype are replaced.
    """
    import keras
    from keras.src import backend

    places: list[Any] = [backend, backend.core, backend.numpy, backend.nn, backend.random]
    tensorflow = keras.backend.backend() == "tensorflow"
    if tensorflow:
        import tensorflow as tf

        places += [tf, tf.math, tf.random, tf.linalg, tf.dtypes, tf.strings, tf.image, tf.signal]
        places += [tf.nn, tf.compat.v1, tf.experimental.numpy]
        eagerly = tf.config.functions_run_eagerly()
        # A tf.function that was traced in float32 would go on computing in it.
        tf.config.run_functions_eagerly(True)
    replaced: list[tuple[Any, str, Any]] = []
    made: dict[int, Any] = {}
    for place in places:
        for name, function in list(vars(place).items()):
            if id(function) not in made:
                made[id(function)] = _wider(function)
            if made[id(function)] is not None:
                replaced.append((place, name, function))
    if tensorflow:
        for place, name, function, wider in [
            *wide_tensorflow.replacements(_wider, _wide_dtype),
            (backend.nn, "conv", backend.nn.conv, _compiling(backend.nn.conv)),
        ]:
            replaced.append((place, name, function))
            made[id(function)] = wider
    try:
        for place, name, function in replaced:
            setattr(place, name, made[id(function)])
        yield
    finally:
        for place, name, function in replaced:
            setattr(place, name, function)
        if tensorflow:
            tf.config.run_functions_eagerly(eagerly)


def _compiling(function: Any) -> Any:
    """`function`, free to compile what it calls.

    On the CPU TensorFlow computes a 3D convolution, channels first, only where it is compiled, which
    is what Keras's own function does, afresh at every call, so that no float32 stays in it.
    """
    import tensorflow as tf

    @functools.wraps(function)
    def compiled(*args: Any, **kwargs: Any) -> Any:
        tf.config.run_functions_eagerly(False)
        try:
            return function(*args, **kwargs)
        finally:
            tf.config.run_functions_eagerly(True)

    return compiled


def _wider(function: Any) -> Any:
    """`function` with narrow dtypes among its arguments widened; None for one that takes no dtype."""
    if isinstance(function, (type, ModuleType)) or not callable(function):
        return None
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    names = [n for n in ("dtype", "out_type") if n in parameters]
    if not names:
        return None
    (name,) = names[:1]
    place = list(parameters).index(name)
    default = _wide_dtype(parameters[name].default)
    # tf.constant(0.5) is float32 although nothing says so, as tf.one_hot is; in Keras floatx decides.
    literal = _is_float if function.__module__.startswith("tensorflow") else _never
    if function.__name__ == "one_hot" and literal is _is_float:
        literal = _always
    converts = literal is _is_float and function.__name__.startswith(
        ("constant", "convert_to_tensor")
    )

    def wider(*args: Any, **kwargs: Any) -> Any:
        given = [_wide_dtype(a) if i == place else a for i, a in enumerate(args)]
        if converts and given and isinstance(given[0], np.ndarray) and given[0].dtype in NARROW:
            given[0] = _as_written(given[0])
        if kwargs.get(name) is not None:
            kwargs[name] = _wide_dtype(kwargs[name])
        elif len(args) <= place and default is not parameters[name].default:
            kwargs[name] = default
        elif len(args) <= place and default is None and literal(args, kwargs):
            kwargs[name] = WIDE
        if "fn_output_signature" in kwargs:
            kwargs["fn_output_signature"] = _wide_dtype(kwargs["fn_output_signature"])
        wide = WIDE in (kwargs.get(name), given[place] if len(given) > place else None)
        if wide and given and type(given[0]) is float:
            given[0] = np.float64(given[0])  # TensorFlow casts a plain one by way of float32
        return function(*given, **kwargs)

    return wider


def _wide_dtype(dtype: Any) -> Any:
    """ "float64" for a narrow float, however it is spelt; else `dtype` itself."""
    if isinstance(dtype, type) and issubclass(dtype, np.floating):
        dtype = np.dtype(dtype)
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", str(dtype))
    if name == "complex64":
        return "complex128"
    if str(name).removeprefix("torch.") not in NARROW:
        return dtype
    kind: Any = type(dtype)
    return kind(_FLOAT64) if hasattr(dtype, "as_datatype_enum") else WIDE


def _is_float(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a tensor is made of Python's own floats, and of nothing that has a dtype."""
    values = [*args, *kwargs.values()]
    plain = [value for value in values if isinstance(value, (int, float, list, tuple))]
    with contextlib.suppress(ValueError, TypeError):
        array = np.asarray(plain[0]) if plain else np.zeros((), int)
        return array.dtype.kind == "f" and not any(hasattr(v, "dtype") for v in values)
    return False


def _never(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return False


def _always(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return True
