"""The layers and models that a config of Keras 2 describes, made with Keras 3.

A Functional model lists its layers, and for each the calls that were made of it: ``inbound_nodes``. A tensor in
such a call is ``[layer, call, result]``, with the call's keyword arguments as a fourth item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from diglot.errors import BadInput
from diglot.keras2 import operations
from diglot.keras2.configs import Config, modern, plain
from diglot.keras2.functions import FUNCTIONS

MODELS = ("Functional", "Model", "Sequential")
_CONSTANT = "_CONSTANT_VALUE"
_WITH_STATES = (keras.layers.RNN, keras.layers.Bidirectional)


def build(config: Mapping[str, Any], custom: Mapping[str, Any]) -> keras.Model:
    """Return the model of a file's config, with weights of its own yet.

    ``custom`` holds classes and functions of the author's by name. Raises BadInput for what Keras 3 cannot be told.
    """
    with keras.saving.custom_object_scope({**FUNCTIONS, **custom}):
        return Builder(custom).make(config)


def allowed(name: str) -> str:
    """A layer's name as Keras 3 takes it, which has no "/" in it."""
    return name.replace("/", "_")


def _renamed(config: Any) -> Any:
    named = isinstance(config, Mapping) and isinstance(config.get("name"), str)
    return {**config, "name": allowed(config["name"])} if named else config


class Builder:
    """Makes layers of their configs."""

    def __init__(self, custom: Mapping[str, Any]) -> None:
        self.custom = custom

    def make(self, entry: Mapping[str, Any]) -> Any:
        """Return the layer, cell or model that ``{"class_name": …, "config": …}`` describes."""
        name, config = entry["class_name"], _renamed(entry["config"])
        own = self._own(entry)
        if own is not None:
            given = {k: plain(v) for k, v in config.items() if k != "batch_input_shape"}
            return own.from_config(given)
        if name == "Sequential":
            return self._sequential(config)
        if name in MODELS:
            return Functional(self, config).model()
        if name == "Lambda":
            return _lambda(config)
        name, values = modern(name, config)
        for key, value in values.items():
            values[key] = self._part(key, value)
        cls = getattr(keras.layers, name, None)
        if cls is None:
            raise BadInput(f"Keras 3 has no layer {name}.", received=str(config.get("name")))
        trained = values.pop("trainable", True)  # which not every class takes
        layer = cls(**values)
        if not trained:
            layer.trainable = False
        return layer

    def _own(self, entry: Mapping[str, Any]) -> Any:
        """The author's class, where it is one."""
        for name in (entry.get("registered_name"), entry["class_name"]):
            if isinstance(name, str):
                found = self.custom.get(name) or keras.saving.get_registered_object(name)
                if found is not None:
                    return found
        return None

    def _part(self, key: str, value: Any) -> Any:
        """What an option holds: layers and cells are made, functions are those that Keras 2 meant."""
        if isinstance(value, list) and key in ("cell", "cells", "layers"):
            return [self._part(key, item) for item in value]
        if key in ("cell", "cells", "layer", "layers", "backward_layer") and isinstance(
            value, dict
        ):
            return self.make(value)
        if key.endswith("activation") and isinstance(value, dict):
            return self.make(value) if hasattr(keras.layers, value["class_name"]) else value
        if key.endswith("activation") and isinstance(value, str):
            return FUNCTIONS.get(value, value)
        return value

    def _sequential(self, config: Any) -> keras.Sequential:
        entries = config if isinstance(config, list) else config["layers"]
        options = {} if isinstance(config, list) else {"name": config.get("name")}
        layers = [] if not entries else [*self._input(entries[0])]
        shape = None if layers or isinstance(config, list) else config.get("build_input_shape")
        layers += [self.make(e) for e in entries if e["class_name"] != "InputLayer"]
        model = keras.Sequential(layers, **options)
        if shape is not None and not model.built:
            model.build(plain(shape))
        return model

    def _input(self, first: Mapping[str, Any]) -> Iterator[keras.layers.InputLayer]:
        """The input that the first layer of a sequence is, or says that it has."""
        config = first["config"]
        if isinstance(config, Mapping) and config.get("batch_input_shape") is not None:
            yield input_layer(
                {"name": f"{config.get('name', 'layer')}_input", **_plain_input(first)}
            )


def _lambda(config: Mapping[str, Any]) -> keras.layers.Lambda:
    """A Lambda layer, of a file that its user trusts."""
    gone = ("module", "function_type", "output_shape_type", "output_shape_module")
    values = {k: plain(v) for k, v in config.items() if k not in (*gone, "batch_input_shape")}
    if isinstance(values["function"], (list, tuple)):
        code, defaults, closure = values["function"]
        inner = {"code": code, "defaults": defaults, "closure": closure}
        values["function"] = {"class_name": "__lambda__", "config": inner}
    return keras.layers.Lambda.from_config(values, safe_mode=False)


def _plain_input(entry: Mapping[str, Any]) -> Config:
    config = entry["config"]
    kept = ("batch_input_shape", "dtype", "sparse")
    kept += ("name",) if entry["class_name"] == "InputLayer" else ()
    return {key: config[key] for key in kept if key in config}


def input_layer(config: Mapping[str, Any]) -> keras.layers.InputLayer:
    """Return the input of a model."""
    dtype = plain(config.get("dtype"))
    return keras.layers.InputLayer(
        batch_shape=tuple(plain(config["batch_input_shape"])),
        dtype="float32" if str(dtype).startswith("mixed_") else dtype,
        sparse=bool(config.get("sparse")),
        name=config.get("name"),
    )


class Functional:
    """Puts the layers of a Functional model together, call by call, until each has been made."""

    def __init__(self, builder: Builder, config: Mapping[str, Any]) -> None:
        self.builder, self.config = builder, config
        self.layers: dict[str, Any] = {}
        self.results: dict[str, list[Any]] = {}  # of each call of a layer, in order
        self.calls: dict[str, list[Any]] = {}  # that are still to be made
        self.first = _first_calls(config)

    def model(self) -> keras.Model:
        """Return the model."""
        for entry in self.config["layers"]:
            name = entry.get("name") or entry["config"]["name"]
            self.results[name], self.calls[name] = [], []
            if entry["class_name"] == "InputLayer":
                config = _renamed(entry["config"])
                given = {"batch_input_shape": config.get("batch_shape"), **config}
                self.results[name].append(input_layer(given).output)
                continue
            self.layers[name] = self._called(entry)
            self.calls[name] = list(entry["inbound_nodes"])
        while any(self.calls.values()):
            advanced = [self._advance(name, calls) for name, calls in self.calls.items()]
            if not any(advanced):
                stuck = ", ".join(name for name, calls in self.calls.items() if calls)
                raise BadInput("The model's layers wait for each other.", received=stuck)
        ends = [self._tensors(self.config[f"{end}_layers"]) for end in ("input", "output")]
        inputs, outputs = (e[0] if isinstance(e, list) and len(e) == 1 else e for e in ends)
        model = keras.Model(inputs, outputs, name=self.config.get("name"))
        if not self.config.get("trainable", True):
            model.trainable = False
        return model

    def _called(self, entry: Mapping[str, Any]) -> Callable[..., Any]:
        name = entry["class_name"]
        if name in operations.LAYERS:
            return operations.function(name, entry["config"])
        layer = self.builder.make(entry)
        if not isinstance(layer, _WITH_STATES):
            return layer

        def with_states(given: Any, **kwargs: Any) -> Any:
            if isinstance(given, list):  # in Keras 2 the states may come behind the sequence
                given, kwargs["initial_state"] = given[0], given[1:]
            return layer(given, **kwargs)

        return with_states

    def _advance(self, name: str, calls: list[Any]) -> bool:
        """Make the calls of a layer whose inputs are there; tell whether there was one."""
        before = len(calls)
        while calls and all(self._is_there(t) for t in _named(calls[0])):
            inputs, kwargs = self._arguments(calls.pop(0))
            self.results[name].append(self.layers[name](inputs, **kwargs))
        return len(calls) < before

    def _is_there(self, tensor: list[Any]) -> bool:
        name, call = tensor[0], tensor[1]
        if name not in self.results:
            raise BadInput("The model reads a layer that it does not have.", received=str(name))
        made = len(self.results[name])
        if call - self.first[name] not in range(made + len(self.calls[name])):
            raise BadInput(
                f"The model reads call {call} of the layer {name}, of which there is none."
            )
        return call - self.first[name] < made

    def _arguments(self, call: Any) -> tuple[Any, dict[str, Any]]:
        kwargs: dict[str, Any] = {}
        for tensor in _with_kwargs(call):
            kwargs.update(tensor[3])
        inputs = self._tensors(call)
        if isinstance(inputs, list) and len(inputs) == 1:
            (inputs,) = inputs
        kwargs = {k: self._tensors(v) for k, v in kwargs.items() if v is not None}
        return inputs, kwargs

    def _tensors(self, value: Any) -> Any:
        """Return what stands for tensors as the tensors."""
        if _is_constant(value):
            return plain(value[2])
        if is_tensor(value):
            results = self.results[value[0]][value[1] - self.first[value[0]]]
            return results[value[2]] if isinstance(results, (list, tuple)) else results
        if isinstance(value, list):
            return [self._tensors(item) for item in value]
        if isinstance(value, dict) and "class_name" not in value:
            return {key: self._tensors(item) for key, item in value.items()}
        return plain(value)


def is_tensor(value: Any) -> bool:
    """Tell whether an item of a call names a tensor: layer, call, result and perhaps keyword arguments."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(number, int) for number in value[1:3])
        and (len(value) == 3 or isinstance(value[3], dict))
    )


def _is_constant(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (3, 4) and value[0] == _CONSTANT


def _named(value: Any) -> Iterator[list[Any]]:
    """Every tensor that a call reads."""
    if is_tensor(value) or _is_constant(value):
        if not _is_constant(value):
            yield value
        value = value[3] if len(value) == 4 else None
    parts = value.values() if isinstance(value, dict) else value
    for part in parts if isinstance(value, (dict, list)) else ():
        yield from _named(part)


def _with_kwargs(value: Any) -> Iterator[list[Any]]:
    if is_tensor(value) or _is_constant(value):
        if len(value) == 4:
            yield value
        return
    parts = value.values() if isinstance(value, dict) else value
    for part in parts if isinstance(value, (dict, list)) else ():
        yield from _with_kwargs(part)


def _first_calls(config: Mapping[str, Any]) -> dict[str, int]:
    """What number the first call of each layer has: of a model that was built by itself the calls count from 1."""
    entries = {e.get("name") or e["config"]["name"]: e for e in config["layers"]}
    read: dict[str, set[int]] = {name: set() for name in entries}
    ends = [config["input_layers"], config["output_layers"]]
    for tensor in _named([*(e["inbound_nodes"] for e in entries.values()), *ends]):
        read.setdefault(tensor[0], set()).add(tensor[1])
    return {
        name: int(len(e["inbound_nodes"]) in read[name] and e["class_name"] != "InputLayer")
        for name, e in entries.items()
    }


__all__ = ["MODELS", "Builder", "Functional", "build", "input_layer", "is_tensor"]
