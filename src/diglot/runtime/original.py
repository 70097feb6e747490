"""The Keras model that a translation to PyTorch was made of, brought to life again for its proof.

How, is in `original` of translation.json, in one of four ways:

- "archive": source.keras in the folder, with the modules that its own classes are defined in;
- "factory": the function that the user named is called again, and source.weights.h5 is read;
- "graph": a SavedModel's folder, source, or a frozen graph, source.pb (see `runtime.graph_files`);
- "live": only the model that was handed over in Python has it; it runs in the process it lives in.

In float64 the model is widened where it is (`runtime.wide`), not rebuilt.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from diglot import keras_files
from diglot.errors import BadInput
from diglot.runtime.calling import call_model, how_called
from diglot.runtime.graphs import GraphModel
from diglot.runtime.keras_exact import set_width
from diglot.runtime.nests import tensors
from diglot.runtime.wide import Widened, wide_literals

ARCHIVE, WEIGHTS = "source.keras", "source.weights.h5"
CALLED = ("call", "inputs", "names")
"""What of a record says how the model is called, and not how it is made."""


class Original:
    """One original model, of which the last one built is kept."""

    def __init__(self, live: Any = None) -> None:
        """`live`: a model that lives in this process, lent until `close`."""
        self._live = live
        self._model: Any = None
        self._built: tuple[str, int] | None = None
        self._record: Mapping[str, Any] = {}
        self._widened: Widened | None = None
        self._states: list[tuple[Any, np.ndarray]] = []
        self._width = ""

    def model(self, directory: Path, floatx: str, weights: bool) -> Any:
        """The model, with its own weights, computing in `floatx`. (Without its weights it cannot
        be had, so `weights` changes nothing.)"""
        self._give_back()
        self._record = read_record(directory)
        self._width = floatx
        if self._record["kind"] == "graph":
            set_width(floatx)
            self._built = None
            self._model = GraphModel(self._record, directory, floatx)
            return self._model
        if self._live is not None:
            self._model = self._live
        else:
            self._build(directory)
        set_width(floatx)
        if floatx == "float64":
            self._widened = Widened(self._model)
        else:
            self._states = [(v, _numpy(v)) for v in self._model.non_trainable_variables]
        return self._model

    def _build(self, directory: Path) -> None:
        import keras

        name = ARCHIVE if self._record["kind"] == "archive" else WEIGHTS
        made_of = (str(directory / name), (directory / name).stat().st_mtime_ns)
        if self._built == made_of:
            return
        self._built = None
        keras.utils.clear_session()
        set_width("float32")
        self._model = build(directory, self._record)
        self._built = made_of

    def arguments(self, values: list[Any]) -> tuple[str, list[Any]]:
        """How the model is called, and the inputs with integers in the dtype that it takes."""
        from keras import ops

        dtypes = [item.get("dtype") for item in self._record.get("inputs", [])]
        dtypes += [None] * (len(values) - len(dtypes))
        given = [
            ops.cast(value, dtype) if dtype and "float" not in dtype else value
            for value, dtype in zip(values, dtypes, strict=True)
        ]
        return str(self._record.get("call", "single")), given

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Within the block float32 in the model's own code means the width that it computes in."""
        theirs = self._record["kind"] != "graph"  # Python code of the author's
        with wide_literals() if theirs and self._width == "float64" else contextlib.nullcontext():
            yield

    def _give_back(self) -> None:
        """Leave the model as it was before it was run."""
        if self._widened is not None:
            self._widened.restore()
            self._widened = None
        for variable, value in self._states:
            variable.assign(value)
        self._states = []

    def close(self) -> None:
        """Give back a live model as it was, and Keras in float32."""
        if self._model is not None:
            self._give_back()
            set_width("float32")


def read_record(directory: Path) -> dict[str, Any]:
    """`original` of a folder's translation.json. Raises BadInput where there is none."""
    path = directory / "translation.json"
    with contextlib.suppress(OSError, ValueError):
        record = json.loads(path.read_text(encoding="utf-8")).get("original")
        if isinstance(record, dict):
            return record
    raise BadInput(
        "The folder does not say what Keras model it was translated from.",
        where=str(path),
        hint="translate again, into this folder",
    )


# -- writing down how a model was made ----------------------------------------------------------------


def describe(
    model: Any, example_inputs: Any, spec: str | None = None, trusted: bool = False
) -> dict[str, Any]:
    """What translation.json keeps in `original` of a live Keras model, JSON-ready.

    `example_inputs` are the model's own: an array, or a tuple, list or dict of them. `spec` is the
    factory (``file.py:function``) that the model came from, if it came from one.
    """
    record: dict[str, Any] = {
        "kind": "live",
        "call": how_called(model, example_inputs),
        "inputs": [
            {"shape": [int(n) for n in array.shape], "dtype": _dtype(array)}
            for array in tensors(example_inputs)
        ],
    }
    if isinstance(example_inputs, Mapping):
        record["names"] = [str(name) for name in example_inputs]
    modules = _modules(model, trusted)
    if modules == []:
        record |= {"kind": "archive", "modules": [], "trusted": trusted}
    elif spec is not None:
        record |= {"kind": "factory", "spec": spec}
    elif modules is not None:
        layers = _layer_names(model)
        record |= {"kind": "archive", "modules": modules, "trusted": trusted, "layers": layers}
    return record


def _layer_names(model: Any) -> list[Any]:
    """The names of a model's layers in order, each with those of its own layers where it is a model.

    A class without a ``get_config`` of its own is saved without the name that Keras gave it by counting: another
    process counts anew.
    """
    return [
        [layer.name, _layer_names(layer) if hasattr(layer, "layers") else []]
        for layer in getattr(model, "layers", [])
    ]


def _rename(model: Any, names: list[Any]) -> None:
    """Give layers the names again that a list of `_layer_names` has for them, in place."""
    layers = getattr(model, "layers", [])
    if len(layers) != len(names):
        return
    for layer, (name, inner) in zip(layers, names, strict=True):
        if layer.name != name:
            layer.name = name
        _rename(layer, inner)


def _dtype(array: Any) -> str:
    return str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")


def _modules(model: Any, trusted: bool) -> list[dict[str, str | None]] | None:
    """Where the classes and functions of the author's own are defined that a serialised model
    names: {"key", "module", "name", "file"} each; None for a model that cannot be serialised, or
    found again in another process."""
    import keras

    if not isinstance(model, keras.Model):
        return None
    classes = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    try:
        found = list(
            dict.fromkeys(keras_files.named_in(keras.saving.serialize_keras_object(model)))
        )
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError):
        return None  # a get_config of the author's own that is missing, or fails
    if any(named.name in keras_files.RUNNING for named in found) and not trusted:
        return None
    places = []
    for named in found:
        package = str(named.module).partition(".")[0]
        if package in ("keras_hub", "keras_nlp", "keras_cv"):
            places.append({"key": "", "module": package, "name": "", "file": None})
        elif keras_files.is_custom(named):
            given = keras.saving.get_registered_object(named.key) or classes.get(named.name)
            place = _place(given if given is not None else _imported(named))
            if place is None:
                return None
            places.append({"key": named.key, **place})
    return [place for i, place in enumerate(places) if place not in places[:i]]


def _imported(named: keras_files.Named) -> Any:
    return getattr(sys.modules.get(str(named.module)), named.name, None)


def _place(given: Any) -> dict[str, str | None] | None:
    """Where a class or function can be imported from; None where it cannot."""
    module, name = getattr(given, "__module__", None), getattr(given, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    value: Any = sys.modules.get(module)
    file = getattr(value, "__file__", None)
    for part in name.split("."):
        value = getattr(value, part, None)
    return {"module": module, "name": name, "file": file} if value is given else None


def write(model: Any, record: Mapping[str, Any], folder: Path) -> None:
    """Write what `build` needs of a model into a folder, whole or not at all.

    Raises BadInput where the disk is full, and what Keras raises for a model that it cannot save.
    """
    if record["kind"] == "live":
        return
    name, save = (
        (ARCHIVE, model.save) if record["kind"] == "archive" else (WEIGHTS, model.save_weights)
    )
    part = folder / f".part-{name}"
    try:
        save(str(part))
        part.replace(folder / name)
    except OSError as error:
        raise BadInput(
            f"{name} could not be written: {error.strerror or error}.",
            where=str(folder),
            hint="make room there, or name another output folder",
        ) from error
    finally:
        part.unlink(missing_ok=True)


# -- bringing it back ---------------------------------------------------------------------------------


def build(directory: Path, record: Mapping[str, Any]) -> Any:
    """The live model that a folder's record tells of, with its weights, in float32.

    Raises BadInput where it cannot be rebuilt.
    """
    if record["kind"] == "live":
        raise BadInput(
            "The Keras model of this translation lives in the Python process that made it only: its "
            "classes cannot be imported, or cannot be saved.",
            hint="prove it there, with diglot.prove(translation); or translate from a function "
            "that returns the model, file.py:function",
        )
    if record["kind"] == "graph":
        return GraphModel(record, directory, "float32")
    if record["kind"] == "archive":
        custom = {place["key"]: _import(place) for place in record["modules"]}
        custom.pop("", None)
        trusted = bool(record.get("trusted"))
        model = keras_files.load_keras(directory / ARCHIVE, trusted, custom)
        _rename(model, record.get("layers", []))
        return model
    from diglot.sources_keras import make_keras

    model, _ = make_keras(record["spec"])
    if not model.built:
        _run_once(model, record)
    model.load_weights(str(directory / WEIGHTS))
    return model


def _import(place: Mapping[str, Any]) -> Any:
    """A class or function (the module itself, where it has no name) by its record."""
    module = _module(place["module"], place.get("file"))
    value: Any = module
    for part in place["name"].split(".") if place["name"] else []:
        value = getattr(value, part, None)
    if value is None:
        raise BadInput(
            f"{place['module']} no longer has {place['name']}, which the Keras model needs.",
            where=getattr(module, "__file__", None),
        )
    return value


def _module(name: str, file: str | None) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or " ") or not file or not Path(file).is_file():
            raise BadInput(
                f"The Keras model needs the module {name}, which cannot be imported.",
                hint="run diglot in the folder that holds it",
            ) from error
    from diglot.factories import import_file

    return import_file(file)


def _run_once(model: Any, record: Mapping[str, Any]) -> None:
    """Call a model on zeros, which builds it."""
    values = [np.zeros(item["shape"], item["dtype"]) for item in record["inputs"]]
    names = record.get("names") or range(len(values))
    call_model(model, record["call"], list(names), values)


def _numpy(variable: Any) -> np.ndarray:
    from keras import ops

    return np.array(ops.convert_to_numpy(variable.value))
