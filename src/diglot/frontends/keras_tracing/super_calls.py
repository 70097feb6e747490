"""``super().call(x)`` of a layer that extends one of Keras's: that one is a layer within the author's.

Before (an author's layer)::

    class Residual(keras.layers.Dense):
        def call(self, x):
            return x + super().call(x)

After::

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(8, 8)

        def forward(self, x):
            return x + self.dense(x)
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from keras import Layer
from keras.src.utils.naming import to_snake_case

from diglot.frontends import keras_layers
from diglot.frontends.keras_layers import LayerRecord


@dataclasses.dataclass(frozen=True)
class Base:
    """The class of Keras's that a layer extends, and where the module of that part is."""

    cls: type
    record: LayerRecord
    path: str


def base_of(layer: Layer) -> tuple[type, LayerRecord] | None:
    """The class of Keras's whose ``call`` a layer's own calls, where the layer changes nothing of what that does."""
    found = keras_layers.extended(layer)
    if found is None or not layer.built:
        return None
    base, record = found
    own = type(layer).__mro__[: type(layer).__mro__.index(base)]
    functions = [f for cls in own for f in vars(cls).values() if inspect.isfunction(f)]
    if record.inner or not any("call" in f.__code__.co_names for f in functions):
        return None
    return found if record.refuse is None or record.refuse(layer) is None else None


def name_of(base: type) -> str:
    """What the module is called: ``batch_normalization``."""
    return to_snake_case(base.__name__)


@contextlib.contextmanager
def installed(layer: Layer, base: Base | None, run: Callable[..., Any]) -> Iterator[None]:
    """For the length of the block the ``call`` of the class that a layer extends is ``run(training, args, kwargs)``."""
    if base is None:
        yield
        return
    original, own = base.cls.call, "call" in vars(base.cls)  # type: ignore[attr-defined]
    signature = inspect.signature(original)

    def call(self: Layer, *args: Any, **kwargs: Any) -> Any:
        if self is not layer:
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        training = bound.arguments.pop("training", False)
        return run(training, bound.args[1:], bound.kwargs)

    base.cls.call = call  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if own:
            base.cls.call = original  # type: ignore[attr-defined]
        else:
            del base.cls.call  # type: ignore[attr-defined]
