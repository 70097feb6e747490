"""What every watched Keras layer returns (and receives), while a model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diglot.runtime.nests import results_at, tensors

Paths = Mapping[str, Sequence[Sequence[str | int]]]


@dataclass
class Call:
    """One call of one layer: flat lists of the tensors that went in and came out."""

    path: str
    inputs: list[Any]
    outputs: list[Any]


@dataclass
class Recorder:
    """The calls of the watched layers, in the order in which they returned."""

    paths: Mapping[int, str]
    wanted: Paths
    calls: list[Call] = field(default_factory=list)


_active: list[Recorder] = []


def install() -> None:
    """Make every Keras layer report its calls. May be called twice."""
    import keras

    layer = keras.layers.Layer
    if getattr(layer.__call__, "_diglot", False):
        return
    original = layer.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = original(self, *args, **kwargs)
        if _active and id(self) in _active[-1].paths:
            recorder = _active[-1]
            path = recorder.paths[id(self)]
            found = results_at(outputs, recorder.wanted.get(path, ()))
            recorder.calls.append(Call(path, tensors([args, kwargs]), found))
        return outputs

    call._diglot = True  # type: ignore[attr-defined]
    # A layer's own __call__ cannot be replaced on the object: Python looks it up on the class.
    layer.__call__ = call


@contextlib.contextmanager
def recording(layers: Mapping[str, Any], wanted: Paths | None = None) -> Iterator[Recorder]:
    """Record the calls of `layers` (by the name to record them under) within the block; of a layer in
    `wanted` only those results that are there."""
    install()
    paths: dict[int, str] = {}
    for path, layer in layers.items():
        paths.setdefault(id(layer), path)
    recorder = Recorder(paths, wanted or {})
    _active.append(recorder)
    try:
        yield recorder
    finally:
        _active.pop()


_SETTINGS = (
    "activation",
    "approximate",
    "axis",
    "dilation_rate",
    "epsilon",
    "groups",
    "kernel_size",
    "key_dim",
    "momentum",
    "negative_slope",
    "num_heads",
    "padding",
    "pool_size",
    "rate",
    "strides",
    "use_bias",
)


def describe_layer(layer: Any) -> dict[str, Any]:
    """Class and settings of a layer, as far as JSON can hold them: {"class", "settings"}."""
    plain = (bool, int, float, str, type(None), list, tuple)
    settings = {name: getattr(layer, name) for name in _SETTINGS if hasattr(layer, name)}
    return {
        "class": type(layer).__name__,
        "settings": {n: v if isinstance(v, plain) else str(v) for n, v in settings.items()},
    }
