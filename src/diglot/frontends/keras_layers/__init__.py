"""The layers of Keras as torch modules: one file for each family, one record for each class."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import Any

from diglot.carried import is_carried
from diglot.frontends.keras_layers.records import (
    CARRIED,
    METHODS,
    OWN_CALL,
    REFUSED,
    TABLE,
    LayerRecord,
)

__all__ = [
    "CARRIED",
    "OWN_CALL",
    "REFUSED",
    "TABLE",
    "LayerRecord",
    "extended",
    "find",
    "load",
    "methods_of",
]


@functools.cache
def load() -> None:
    """Import every family, which enters its records."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


@functools.cache
def _of_class(cls: type) -> LayerRecord | None:
    import keras

    load()
    if cls.__name__ in CARRIED and is_carried(cls):
        return CARRIED[cls.__name__]
    own: set[str] = set()
    for base in cls.__mro__:
        record = TABLE.get(base.__name__)
        if record is not None and getattr(keras.layers, base.__name__, None) is base:
            # What Keras's class does not have, it does not call (a method of a Keras before this one, say).
            return None if any(hasattr(base, name) for name in own) else record
        if base is keras.layers.Layer:
            return None
        own |= _functions(base) - _HARMLESS
    return None


#: What a subclass may define and still compute as its base does.
_HARMLESS = frozenset(
    """__init__ build get_config from_config build_from_config get_build_config compute_output_shape
    compute_output_spec compute_mask add_loss count_params save_own_variables load_own_variables get_quantization_config
    quantize summary __repr__ __str__""".split()
)


def _functions(cls: type) -> set[str]:
    """The functions that a class itself defines."""
    return {n for n, v in vars(cls).items() if callable(v) and not isinstance(v, type)}


def extended(layer: Any) -> tuple[type, LayerRecord] | None:
    """Return the class of Keras's that a layer extends by a ``call`` of its own, with the record of that class.

    None where it changes how that class computes, too.
    """
    import keras

    load()
    own: set[str] = set()
    for base in type(layer).__mro__:
        record = TABLE.get(base.__name__)
        if record is not None and getattr(keras.layers, base.__name__, None) is base:
            fits = record.when is None or record.when(layer)
            changed = {name for name in own - _HARMLESS - {"call"} if hasattr(base, name)}
            return (base, record) if fits and "call" in own and not changed else None
        own |= _functions(base)
    return None


def find(layer: Any) -> LayerRecord | None:
    """Return the record of a layer, None for a layer that is run by its own ``call``."""
    record = _of_class(type(layer))
    return record if record is None or record.when is None or record.when(layer) else None


def methods_of(layer: Any) -> dict[str, Any]:
    """Return what stands in PyTorch for methods of a layer that are Keras's own, by their names."""
    import keras

    load()
    for base in type(layer).__mro__:
        if base.__name__ in METHODS and getattr(keras.layers, base.__name__, None) is base:
            return {
                name: function
                for name, function in METHODS[base.__name__].items()
                if getattr(type(layer), name) is getattr(base, name)
            }
    return {}


def refusal(layer: Any) -> str | None:
    """Return why a layer cannot be translated, None for one that can."""
    import keras

    load()
    for base in type(layer).__mro__:
        if getattr(keras.layers, base.__name__, None) is base and base.__name__ in REFUSED:
            return REFUSED[base.__name__]
    if getattr(layer, "quantization_mode", None):
        return f"its weights are quantised ({layer.quantization_mode}): translate the model before quantising"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights beside its kernel: merge them first (save, then load the model)"
    record = find(layer)
    return record.refuse(layer) if record is not None and record.refuse is not None else None
