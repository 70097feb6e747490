"""The source text that makes a layer of Keras's again, from what ``keras.saving`` says of it."""

from __future__ import annotations

import collections
import contextlib
import copy
import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras.src.utils.naming import to_snake_case

#: What a constructor says besides: a layer's name is written where it is called.
_UNSAID = ("name", "dtype", "trainable")


class NotWritableError(ValueError):
    """A value of a configuration has no text."""


def constructor(said: Mapping[str, Any], name: str | None = None) -> str:
    """Return ``layers.LSTM(4, activation="softsign")`` for a serialised layer; raises :class:`NotWritableError`.

    ``name`` is written as well where it is not the one that Keras gives a single layer of the class.
    """
    if said.get("class_name") == "Sequential":
        return _sequential(said, name)
    cls, home = _class(said)
    config = dict(said["config"])
    policy = config.get("dtype")
    if isinstance(policy, dict):
        policy = policy["config"].get("name")
    if policy not in (None, keras.config.floatx()) or config.get("trainable") is False:
        raise NotWritableError(f"a layer of dtype {policy}, or one that is not trained")
    made: list[str] = []
    given = _parameters(cls)
    for key, value in _said(cls, said).items():
        required = key in given and given[key].default is inspect.Parameter.empty
        made.append(_text(value) if required else f"{key}={_text(value)}")
    if name is not None and name != to_snake_case(cls.__name__):
        made.append(f"name={name!r}")
    return f"{home}{said['class_name']}({', '.join(made)})"


def _sequential(said: Mapping[str, Any], name: str | None) -> str:
    """``keras.Sequential([layers.Dense(4, name="dense"), …])``: what it is built for, its place says."""
    counts = collections.Counter[str]()
    made = []
    for each in said["config"]["layers"]:
        if each["class_name"] == "InputLayer":
            continue
        own = each["config"]["name"]
        usual = to_snake_case(each["class_name"])
        if re.fullmatch(rf"{usual}(_\d+)?", own):  # numbers go on through all that Keras has made
            own = f"{usual}_{counts[usual]}" if counts[usual] else usual
            counts[usual] += 1
        made.append(constructor(each, own))
    named = "" if name in (None, "sequential") else f", name={name!r}"
    return f"keras.Sequential([{', '.join(made)}]{named})"


def _class(said: Mapping[str, Any]) -> tuple[type, str]:
    """The class of something serialised, and what is written before its name."""
    module, name = str(said.get("module")), str(said["class_name"])
    homes = {
        "keras.layers": (keras.layers, "layers."),
        "keras.initializers": (keras.initializers, ""),
    }
    for kind in ("initializers", "regularizers", "constraints"):
        homes[f"keras.{kind}"] = (getattr(keras, kind), f"keras.{kind}.")
    if said.get("registered_name") or module not in homes:
        raise NotWritableError(f"{module}.{name} is no layer, initializer or the like of Keras's")
    home, before = homes[module]
    return getattr(home, name), before


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = list(inspect.signature(cls.__init__).parameters.items())[1:]
    return {name: p for name, p in found if p.kind not in kinds}


def _said(cls: type, said: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that must be written: those without a default, and those that are not what they are by default."""
    config, given = said["config"], _parameters(cls)
    required = [n for n, p in given.items() if p.default is inspect.Parameter.empty]
    if set(required) - set(config):
        raise NotWritableError(f"{cls.__name__} does not say its {required}")
    wanted = _comparable({k: v for k, v in config.items() if k not in _UNSAID})
    usual = _configured(cls, {n: config[n] for n in required}, said)
    found = {
        k: v
        for k, v in config.items()
        if k not in _UNSAID and (k in required or usual.get(k, ...) != wanted[k])
    }
    for key, value in list(found.items()):
        short = _short(value)
        if short is not value and _configured(cls, {**found, key: short}, said) == wanted:
            found[key] = short
    if _configured(cls, found, said) != wanted:
        raise NotWritableError(f"{cls.__name__} with {found} is another layer")
    order = [*given, *found]
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


def _configured(cls: type, arguments: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a layer that is made with some arguments and built as the one that was noted."""
    made = cls(**{k: _made(v) for k, v in arguments.items()})
    if isinstance(made, keras.Layer) and said.get("build_config"):
        with contextlib.suppress(TypeError, ValueError, AttributeError, KeyError, IndexError):
            made.build_from_config(copy.deepcopy(said["build_config"]))
    config = {k: v for k, v in _serialised(made.get_config()).items() if k not in _UNSAID}
    return _comparable(config)


def _short(value: Any) -> Any:
    """``3`` for ``(3, 3)``, which most arguments of layers take."""
    alike = isinstance(value, (list, tuple)) and value and all(type(v) is int for v in value)
    return value[0] if alike and len(set(value)) == 1 else value


def _made(value: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(copy.deepcopy(value))
    return [_made(v) for v in value] if isinstance(value, (list, tuple)) else value


def _serialised(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: v if isinstance(v, (dict, str, int, float, bool, list, tuple, type(None)))
        else keras.saving.serialize_keras_object(v)
        for k, v in config.items()
    }  # fmt: skip


def _comparable(value: Any) -> Any:
    """A value of a configuration without what says nothing of what is computed: names, sizes that it was built for."""
    if isinstance(value, dict):
        skipped = (
            ("build_config", "name", "registered_name") if "class_name" in value else ("name",)
        )
        return {k: _comparable(v) for k, v in value.items() if k not in skipped}
    if isinstance(value, (list, tuple)):
        return [_comparable(v) for v in value]
    return value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        if "class_name" not in value:
            raise NotWritableError("a dict")
        named = str(value.get("module")) == "keras.layers" or value["class_name"] == "Sequential"
        name = value["config"].get("name") if named else None
        return constructor(value, None if name is None else _inner_name(name))
    if isinstance(value, (list, tuple)):
        items = [_text(v) for v in value]
        nested = any(isinstance(v, dict) for v in value)
        if nested:
            return f"[{', '.join(items)}]"
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    raise NotWritableError(f"a {type(value).__name__}")


def _inner_name(name: str) -> str:
    """The name of a wrapped layer as its author gave it: a wrapper says ``forward_lstm``."""
    return re.sub(r"^(forward|backward)_", "", name)
