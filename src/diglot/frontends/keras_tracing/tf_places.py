"""Where TensorFlow's functions are found by the code of a model: its public names, names that modules of the author's
hold, and everything else by way of TensorFlow's own dispatch."""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from diglot.errors import Unsupported

#: A module, the name of a function in it, the function, and what stands for it.
Place = tuple[ModuleType, str, Callable, Callable]

_NAMESPACES = (
    "math nn linalg image random signal bitwise raw_ops strings sets dtypes debugging quantization sparse ragged "
    "experimental.numpy compat.v1 compat.v1.nn compat.v1.math compat.v1.image compat.v1.debugging"
).split()
_KEPT = frozenset("function executing_eagerly get_default_graph placeholder".split())
_LIBRARIES = ("tensorflow", "keras", "torch", "numpy", "diglot")


class Unfollowed(Unsupported, TypeError):
    """A tensor of the model came to a function of TensorFlow's that cannot be followed.

    It is a TypeError, so that TensorFlow looks for someone who knows what to do.
    """

    def to_dict(self) -> dict[str, object]:
        return super().to_dict() | {"kind": "Unsupported"}


def public(traced: Callable[[str, Callable], Callable]) -> list[Place]:
    """TensorFlow's public functions, and what ``traced(name, function)`` makes of each."""
    import tensorflow as tf

    found: list[Place] = []
    made: dict[int, Callable] = {}
    for path in ("", *_NAMESPACES):
        place: Any = functools.reduce(getattr, filter(None, path.split(".")), tf)
        for name, function in list(vars(place).items()):
            plain = callable(function) and not isinstance(function, (type, ModuleType))
            if plain and not name.startswith("_") and name not in _KEPT:
                stand_in = made.setdefault(id(function), traced(name, function))
                found.append((place, name, function, stand_in))
    return found


def everywhere(places: list[Place]) -> list[Place]:
    """The places, and those of other modules that hold the same functions (``from tensorflow import reshape``)."""
    made = {id(function): (function, traced) for _, _, function, traced in places}
    found = list(places)
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__.split(".")[0] in _LIBRARIES:
            continue
        for name, value in list(vars(module).items()):
            if id(value) in made:
                found.append((module, name, *made[id(value)]))
    return found


_handlers: list[Callable] = []


@contextlib.contextmanager
def dispatched(handle: Callable) -> Iterator[None]:
    """Within the block ``handle(function, args, kwargs)`` is asked for calls that TensorFlow refused; what it does not
    know either it answers with NotImplemented."""
    _register()
    _handlers.append(handle)
    try:
        yield
    finally:
        _handlers.pop()


@functools.cache
def _register() -> None:
    import tensorflow as tf

    base = tf.__internal__.dispatch.GlobalOpDispatcher

    class Dispatcher(base):
        def handle(self, op: Callable, args: Any, kwargs: Any) -> Any:
            made = _handlers[-1](op, args, kwargs) if _handlers else NotImplemented
            return self.NOT_SUPPORTED if made is NotImplemented else made

    Dispatcher().register()


def called() -> str:
    """The function of TensorFlow's that the author's code calls just now."""
    frames = [
        frame for frame in traceback.extract_stack() if "/tensorflow/python/" in frame.filename
    ]
    wrapping = ("/util/", "/profiler/", "/weak_tensor_ops.py")
    inner = next((f for f in frames if not any(part in f.filename for part in wrapping)), None)
    if any("custom_gradient.py" in frame.filename for frame in frames):
        return "tf.custom_gradient"
    return f"tf.{inner.name}" if inner is not None else "tf.convert_to_tensor"
