"""The Functional program that a Keras model amounts to: what stands beside a translation without a source."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from typing import Any

from keras import Layer, Sequential
from keras.src.models.functional import Functional
from keras.src.utils.naming import to_snake_case

from diglot.frontends.keras_tracing.automatic import is_automatic
from diglot.frontends.keras_tracing.graph import runs_its_graph, steps_of
from diglot.frontends.listing import Listing

_WIDTH = 96
#: Arguments of layers that say how weights begin, not what is computed.
_UNSAID = re.compile(
    r"(_initializer|_regularizer|_constraint|^seed|^dtype|^name|^trainable|^batch_)$"
)
_QUIET = {"activation": ("linear",), "data_format": ("channels_last",)}


def listing(model: Layer) -> Listing | None:
    """Return the program of a Functional or Sequential model; ``None`` for one that an author wrote as a class."""
    made = Listing(["import keras", "from keras import layers, ops", ""])
    if isinstance(model, Sequential):
        _sequential(made, model, "model")
    elif runs_its_graph(model):
        _functional(made, model, "model")
    else:
        return None
    return made


def _say(made: Listing, line: str, layer: Any = None) -> None:
    made.lines.append(line)
    if layer is not None:
        made.places.setdefault(id(layer), []).append(len(made.lines))


def _sequential(made: Listing, model: Sequential, variable: str) -> None:
    _inner_models(made, model.layers)
    _say(made, f"{variable} = keras.Sequential(")
    _say(made, "    [")
    if model.built and model.inputs:
        _say(made, f"        {_input(model.inputs[0])},")
    for layer in model.layers:
        if type(layer).__name__ != "InputLayer":
            _say(made, f"        {_construct(layer)},", layer)
    _say(made, "    ],")
    _say(made, f"    name={model.name!r},".replace("'", '"'))
    _say(made, ")")


def _functional(made: Listing, model: Functional, variable: str) -> None:
    steps = steps_of(model)
    _inner_models(made, [s.operation for s in steps])
    uses = Counter(t for s in steps for t in s.inputs)
    uses.update(id(t) for t in model.outputs)
    inner = [s.operation for s in steps if isinstance(s.operation, (Sequential, Functional))]
    names: dict[int, str] = {id(layer): _variable(layer.name, {}) for layer in inner}
    for tensor in model.inputs:
        name = _variable(tensor._keras_history.operation.name, names)
        names[id(tensor)] = "inputs" if len(model.inputs) == 1 else name
        _say(made, f"{names[id(tensor)]} = {_input(tensor)}")
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        outputs = []
        for tensor in step.outputs:
            passing = following is not None and uses[tensor] == following.inputs.count(tensor)
            last = following is None
            own = (
                "x" if (passing or last) and len(step.outputs) == 1 else _variable(step.name, names)
            )
            names[tensor] = own
            outputs.append(own)
        _statement(made, ", ".join(outputs), step, names)
    tensors = [names[id(t)] for t in model.inputs], [names[id(t)] for t in model.outputs]
    given = [t[0] if len(t) == 1 else f"[{', '.join(t)}]" for t in tensors]
    _say(made, f'{variable} = keras.Model({given[0]}, {given[1]}, name="{model.name}")')


def _statement(made: Listing, target: str, step: Any, names: dict[int, str]) -> None:
    given = step.node.arguments
    arguments = [_value(a, names) for a in given.args]
    arguments += [
        f"{k}={_value(v, names)}"
        for k, v in given.kwargs.items()
        if v is not None and k != "training"
    ]
    called = ", ".join(arguments)
    if isinstance(step.operation, Layer):
        line = f"{target} = {_construct(step.operation)}({called})"
    else:
        line = f"{target} = ops.{to_snake_case(step.kind)}({called})"
    if len(line) > _WIDTH and f")({called})" in line:
        _say(made, f"{target} = {_construct(step.operation)}(", step.operation)
        _say(made, f"    {called}", step.operation)
        _say(made, ")", step.operation)
    else:
        _say(made, line, step.operation)


def _inner_models(made: Listing, layers: list[Any]) -> None:
    """Say the models that are layers of another before it."""
    said: set[int] = set()
    for layer in layers:
        if id(layer) in said or not isinstance(layer, (Sequential, Functional)):
            continue
        said.add(id(layer))
        inner = Listing(made.lines, {})
        if isinstance(layer, Sequential):
            _sequential(inner, layer, _variable(layer.name, {}))
        else:
            _functional(inner, layer, _variable(layer.name, {}))
        for key, lines in inner.places.items():
            made.places.setdefault(key, []).extend(lines)
        _say(made, "")


def _variable(name: str, taken: dict[int, str]) -> str:
    made = re.sub(r"\W", "_", name)
    made = made if made.isidentifier() else f"x_{made}"
    while made in taken.values():
        made += "_"
    return made


def _input(tensor: Any) -> str:
    shape = tuple(tensor.shape[1:])
    said = [repr(shape)]
    if str(tensor.dtype) != "float32":
        said.append(f'dtype="{tensor.dtype}"')
    name = tensor._keras_history.operation.name
    if not name.startswith(("input_layer", "keras_tensor")):
        said.append(f'name="{name}"')
    return f"keras.Input({', '.join(said)})"


def _construct(layer: Layer) -> str:
    """``layers.Conv2D(16, 3, padding="same", name="conv1")``; a model within a model by its variable."""
    if isinstance(layer, (Sequential, Functional)):
        return _variable(layer.name, {})
    home = "layers." if type(layer).__module__.startswith("keras.") else ""
    said = _arguments(layer)
    if not is_automatic(layer):
        said.append(f'name="{layer.name}"')
    return f"{home}{type(layer).__name__}({', '.join(said)})"


def _arguments(layer: Layer) -> list[str]:
    """The constructor's arguments that are not what they are by default."""
    try:
        config = layer.get_config()
    except (NotImplementedError, AttributeError, KeyError, TypeError, ValueError):
        return []
    said = []
    for name, parameter in list(inspect.signature(type(layer).__init__).parameters.items())[1:]:
        if name not in config or _UNSAID.search(name) or config[name] in _QUIET.get(name, ()):
            continue
        value, needed = config[name], parameter.default is parameter.empty
        if not needed and _plain(value) == _plain(parameter.default):
            continue
        if not needed and isinstance(value, dict):
            continue
        made = _text(_short(value))
        said.append(made if needed and not any("=" in s for s in said) else f"{name}={made}")
    return said


def _plain(value: Any) -> Any:
    return (
        tuple(value)
        if isinstance(value, (list, tuple)) and len(set(map(str, value))) > 1
        else _short(value)
    )


def _short(value: Any) -> Any:
    """``(3, 3)`` is 3."""
    if isinstance(value, (list, tuple)) and value and all(v == value[0] for v in value):
        return value[0] if isinstance(value[0], int) and len(value) < 4 else tuple(value)
    return tuple(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        inner = value.get("config") or {}
        if isinstance(inner, str):  # a registered function
            return inner
        return f"{value.get('class_name', 'dict')}({', '.join(f'{k}={v!r}' for k, v in inner.items() if k == 'name')})"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _value(value: Any, names: dict[int, str]) -> str:
    if id(value) in names:
        return names[id(value)]
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_value(v, names) for v in value)
        return (
            f"[{inner}]"
            if isinstance(value, list)
            else f"({inner},)"
            if len(value) == 1
            else f"({inner})"
        )
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}": {_value(v, names)}' for k, v in value.items()) + "}"
    return _text(value)


__all__ = ["listing"]
