"""What is replaced in Keras while a model runs on torch tensors, and put back afterwards.

A Keras op, called on a tracer, ends in functions of Keras's backend (``backend.numpy.sum``). While tracing these are
the torch functions of :mod:`diglot.frontends.keras_ops`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from keras import Layer, Operation
from keras.src import backend
from keras.src.backend.common.variables import Variable as KerasVariable
from keras.src.utils.backend_utils import DynamicBackend

from diglot.frontends import keras_ops
from diglot.frontends.keras_tracing import assigned, tensor, tf_calls
from diglot.frontends.keras_tracing.keras_control import CONTROL
from diglot.frontends.keras_tracing.tensor import Tracer, unwrap, wrap

_NAMESPACES = ("numpy", "nn", "core", "math", "linalg", "image", "random")
#: Functions of the backend that are reached without a namespace.
_FUNCTIONS = (
    "cast cond convert_to_tensor is_tensor scatter shape stop_gradient vectorized_map rnn lstm gru"
).split()
_LOCK = threading.RLock()


class Namespace(ModuleType):
    """Stands for a module of Keras's backend: its functions take and return tracers."""

    def __init__(self, name: str, original: ModuleType) -> None:
        super().__init__(name)
        self._name, self._original = name, original

    def __getattr__(self, attribute: str) -> Any:
        original = getattr(self._original, attribute, None)
        if isinstance(original, (type, ModuleType)) or (
            original is not None and not callable(original)
        ):
            return original
        if self._name == "core" and attribute in CONTROL:
            return CONTROL[attribute]
        return traced(f"{self._name}.{attribute}")


def traced(name: str) -> Callable:
    """Return a function of Keras's backend (``numpy.sum``) as one from tracers to tracers."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return wrap(keras_ops.find(name)(*unwrap(args), **unwrap(kwargs)))

    function.__name__ = name.rpartition(".")[2]
    return function


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Tracer, torch.Tensor))


def _symbolic_call(operation: Operation, *args: Any, **kwargs: Any) -> Any:
    """Run an op on tracers: its own ``call``, which ends in functions of the backend, or a plainer way."""
    plainer = keras_ops.operation(type(operation).__name__)
    made = plainer(operation, *unwrap(args), **unwrap(kwargs)) if plainer is not None else None
    return operation.call(*args, **kwargs) if made is None else wrap(made)


_installed: list[Any] = []


@contextlib.contextmanager
def installed(
    call_layer: Callable,
    value_of: Callable[[Any], torch.Tensor],
    assign: Callable[[Any, Any], Tracer],
    add_loss: Callable[..., None],
) -> Iterator[None]:
    """Run Keras on torch tensors for the length of the context.

    ``call_layer(layer, args, kwargs)`` is what calling a layer does; ``value_of(variable)`` gives the torch tensor
    that holds a Keras variable, in Keras's shape, and ``assign(variable, value)`` writes to it;
    ``add_loss(layer, loss)`` is what a layer does with a loss. Entering again inside, with the same ones, does nothing.
    """
    with _LOCK:
        if _installed and _installed[-1] == (call_layer, value_of):
            yield
            return
        saved: list[tuple[Any, str, Any]] = []

        def replace(owner: Any, name: str, value: Any) -> None:
            saved.append((owner, name, vars(owner)[name]))
            setattr(owner, name, value)

        _installed.append((call_layer, value_of))
        tensor._variable_value.append(value_of)
        try:
            replace(Layer, "__call__", lambda layer, *a, **k: call_layer(layer, a, k))
            replace(Layer, "add_loss", lambda layer, *a, **k: add_loss(layer, *a, **k))
            replace(Operation, "symbolic_call", _symbolic_call)
            replace(KerasVariable, "value", property(lambda v: Tracer(value_of(v))))
            replace(KerasVariable, "assign", lambda v, value: assign(v, value))
            for owner, name, made in assigned.of_tensorflow(assign):
                replace(owner, name, made)
            for name in _NAMESPACES:
                original = getattr(backend, name)
                if not isinstance(original, Namespace):
                    replace(backend, name, Namespace(name, original))
            for name in _FUNCTIONS:
                replace(backend, name, CONTROL.get(name) or traced(f"core.{name}"))
            replace(backend, "is_tensor", _is_tensor)
            # What preprocessing layers ask for their ops, inside a tf.data pipeline or outside.
            replace(DynamicBackend, "__getattr__", lambda _, name: getattr(backend, name))
            with tf_calls.installed():
                yield
        finally:
            for owner, name, value in reversed(saved):
                setattr(owner, name, value)
            tensor._variable_value.pop()
            _installed.pop()
