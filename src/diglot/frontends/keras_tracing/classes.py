"""The classes of the mirror's modules: one for each class of the source, with its name and parameters."""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any

from keras import Layer, Sequential
from keras.src.models.functional import Functional
from torch import nn

from diglot.frontends.keras_tracing.automatic import is_automatic


class Running:
    """What a mirror module's ``forward`` does; set by :mod:`diglot.frontends.keras_tracing.calls`."""

    run: Any = None


def _camel(name: str) -> str:
    name = re.sub(r"(_\d+)?_\d+\.\d+.*$", "", name)  # sizes, as in mobilenetv2_1.00_224
    parts = [p for p in re.split(r"[^0-9a-zA-Z]+", name) if p]
    made = "".join(p[0].upper() + p[1:] for p in parts) or "Model"
    return f"Model{made}" if made[0].isdigit() else made


def input_names(model: Functional) -> list[str]:
    """Return the names of a Functional model's inputs, as identifiers."""
    names: list[str] = []
    for tensor in model.inputs:
        name = re.sub(
            r"\W",
            "_",
            tensor._keras_history.operation.name if tensor._keras_history else tensor.name,
        )
        name = name if name.isidentifier() else f"input_{name}"
        while name in names:
            name += "_"
        names.append(name)
    # Keras numbers the inputs of a process; alone, an input has no number.
    plain = [
        re.sub(r"^input_layer(_\d+)?$", "input" if len(names) == 1 else r"input\1", n)
        for n in names
    ]
    return plain if len(set(plain)) == len(plain) else names


def parameters(layer: Layer) -> list[inspect.Parameter]:
    """Return the parameters that a layer's module takes: those of ``call``, without the mode."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if isinstance(layer, Functional):
        return [inspect.Parameter(name, kind) for name in input_names(layer)]
    if isinstance(layer, Sequential):
        return [inspect.Parameter("input", kind)]
    signature = inspect.signature(type(layer).call)
    return [p for name, p in list(signature.parameters.items())[1:] if name != "training"]


def mirror_class(layer: Layer, base: type[nn.Module], *, part: bool = False) -> type[nn.Module]:
    """Return the class of a layer's module: cached by the source's class. A Functional model has one of its own; as a
    ``part`` that each of an author's layers makes for itself, the one that is called so."""
    cls = type(layer)
    if isinstance(layer, (Functional, Sequential)) and cls.__name__ in (
        "Functional",
        "Sequential",
        "Model",
    ):
        unnamed = re.fullmatch(r"functional(_\d+)?", layer.name)
        said = re.sub(r"_\d+$", "", layer.name) if part and is_automatic(layer) else layer.name
        name = "Net" if unnamed else _camel(said)
        make = _part if part else made_class
        return make(name, cls, base, tuple(parameters(layer)))
    return _cached(cls, base, tuple(parameters(layer)))


def take_apart(module: nn.Module, names: list[str], structure: str) -> None:
    """Let a model whose ``call`` takes one list, or one dict, take each of its tensors by a name of its own."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    cls = type(module)
    taken = [p for p in inspect.signature(module.forward).parameters.values() if p.kind == kind]
    required = [p for p in taken if p.default is p.empty]
    apart = structure == "dict" or (structure == "list" and len(names) > 1)
    if apart and names and len(required) <= 1 and not {p.name for p in taken} & set(names):
        parts = tuple(inspect.Parameter(name, kind) for name in names)
        module.__class__ = made_class(cls.__name__, cls.source_class, cls.__base__, parts)
        module.taken_apart = structure  # type: ignore[assignment]


@functools.cache
def _part(
    name: str, cls: type, base: type[nn.Module], given: tuple[inspect.Parameter, ...]
) -> type[nn.Module]:
    return made_class(name, cls, base, given)


@functools.cache
def _cached(
    cls: type, base: type[nn.Module], given: tuple[inspect.Parameter, ...]
) -> type[nn.Module]:
    return made_class(cls.__name__, cls, base, given)


def made_class(
    name: str, cls: type, base: type[nn.Module], given: tuple[inspect.Parameter, ...]
) -> type[nn.Module]:
    """Return a new class for modules that stand for a layer of class ``cls``, with the parameters ``given``."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return Running.run(self, args, kwargs)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    forward.__signature__ = inspect.Signature([own, *given])  # type: ignore[attr-defined]
    attributes = {
        "forward": forward,
        "source_class": cls,
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
    }
    return type(name, (base,), attributes)
