"""Keras models that the user names, loaded, with example inputs and dynamic sizes.

net.py:make, package.module:make      a function that returns a Keras model or (model, inputs)
model.keras, model.h5                 a saved model; nothing in it runs unless it is trusted
keras:applications/ResNet50(…)        a builder of keras.applications; random weights
hub:DIRECTORY                         a keras-hub preset: the task that it holds, else the backbone
hub:PRESET                            the backbone of a preset that is fetched
hub:BertBackbone(num_layers=2, …)     a class of keras_hub.models with its arguments; random weights
FOLDER, graph.pb                      a SavedModel, or a frozen graph of TensorFlow 1
FOLDER, FOLDER/model.py               what an earlier translation to Keras wrote
"""

from __future__ import annotations

import inspect
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diglot import inputs as input_specs
from diglot import origins, translated
from diglot.errors import BadInput, UsageError
from diglot.factories import Factory, TheirCode, import_file, import_module, parse_call
from diglot.graph_ends import WHOLE, GraphEnds
from diglot.keras_files import check_config, check_weights, import_package, load_keras
from diglot.sources import LoadedSource, own_examples

FORMS = (
    "file.py:factory, package.module:factory, model.keras, model.h5, a SavedModel's folder, graph.pb, "
    "keras:applications/NAME or hub:PRESET"
)
_PRESETS = "presets: https://keras.io/keras_hub/presets"
_SERIALISED = ("config.json", "task.json")
_REACH = 5.0
"""Seconds to wait for the site that presets come from."""


def is_keras_spec(spec: str) -> bool:
    """Whether a source can only be Keras's or TensorFlow's, to tell by its name."""
    scheme, _, rest = spec.partition(":")
    path = Path(spec).expanduser()
    if path.suffix.lower() in (".keras", ".h5", ".hdf5", ".pb"):
        return True
    folder = translated.find_folder(spec)
    if folder is not None:
        return translated.language(folder) == "keras"
    return (bool(rest) and scheme in ("keras", "hub")) or (path / "saved_model.pb").is_file()


def load_keras_source(
    spec: str,
    inputs: Sequence[str] = (),
    trust: bool = False,
    custom: Sequence[str] = (),
    ends: GraphEnds = WHOLE,
) -> LoadedSource:
    """Load what ``spec`` names. ``inputs`` are ``--input`` texts, in Keras's layout; without them the
    model's own examples are taken, or else None, for it then has to say itself what it takes.

    ``custom`` names Python files (or modules) that define classes of the model. Only with ``trust`` may
    a file hold code. ``ends`` says between what a graph is read. Raises BadInput with one sentence for
    whatever cannot be loaded, and MissingExtra where keras-hub is needed.
    """
    wanted = input_specs.parse_inputs(inputs)
    source = _dispatch(spec, trust, custom, ends)
    if wanted:
        source.example_inputs = _examples(source.model, wanted)
        source.dynamic = input_specs.dynamic_sizes(wanted)
    return source


def _dispatch(spec: str, trust: bool, custom: Sequence[str], ends: GraphEnds) -> LoadedSource:
    scheme, _, rest = spec.partition(":")
    path = Path(spec).expanduser()
    given = _custom(custom)
    if scheme == "keras" and rest:
        model = _application(rest, spec)
        return _loaded(model, None, spec)
    if scheme == "hub" and rest:
        return _loaded(_hub(rest, spec), None, spec)
    if path.suffix.lower() in (".keras", ".h5", ".hdf5"):
        source = _loaded(load_keras(path, trust, given), None, spec)
        origins.remember_file(source.model, path)
        return source
    folder = translated.find_folder(spec)
    if folder is not None:
        return translated.load_translated(folder, spec)
    if path.is_dir() or path.suffix.lower() == ".pb":
        return _graph(path, spec, ends)
    if ends != WHOLE:
        raise UsageError("--signature, --feed, --fetch and --tags are for TensorFlow's graphs.")
    model, examples = make_keras(spec)
    source = _loaded(model, examples, spec)
    factory = Factory.parse(spec, FORMS)
    if factory.module.endswith(".py"):
        # Named from wherever it is proven again.
        spec = f"{Path(factory.module).expanduser().resolve()}:{factory.call}"
    source.factory = spec
    return source


def _loaded(model: Any, examples: Any, spec: str) -> LoadedSource:
    return LoadedSource(model, examples, None, spec, type(model).__name__)


def make_keras(spec: str) -> tuple[Any, Any]:
    """What a factory (``file.py:function`` or ``module:function``) makes: a Keras model, and example
    inputs or None. Raises BadInput for whatever else it makes."""
    import keras

    from diglot.frontends.keras_tracing.authored import watched

    with watched():
        module, made = Factory.parse(spec, FORMS).make(keras.layers.Layer)
    pair = isinstance(made, (tuple, list)) and len(made) == 2
    model, examples = made if pair else (made, None)
    if not isinstance(model, keras.layers.Layer):
        is_torch = any(kind.__module__.startswith("torch.") for kind in type(model).__mro__)
        raise BadInput(
            f"{spec} made no Keras model.",
            expected="a keras.Model, or (keras.Model, example_inputs)",
            received=type(made).__name__,
            hint="a PyTorch model is translated with --to keras" if is_torch else None,
        )
    return model, own_examples(module) if examples is None else examples


def _custom(names: Sequence[str]) -> dict[str, Any]:
    """Classes and functions by name from the Python files and modules that the user gave; what has another name
    in the model's file than in Python stands in a dict of theirs, ``custom_objects``."""
    found: dict[str, Any] = {}
    for name in names:
        module = import_file(name) if name.endswith(".py") else import_module(name, "a module")
        found |= {
            key: value
            for key, value in vars(module).items()
            if (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == module.__name__
        }
        named = vars(module).get("custom_objects")
        found |= named if isinstance(named, dict) else {}
    return found


# -- Keras's own collections --------------------------------------------------------------------------


def _application(rest: str, spec: str) -> Any:
    """A model of keras.applications, with random weights unless the arguments name others."""
    import keras

    family, _, text = rest.partition("/")
    builders = {n: b for n, b in vars(keras.applications).items() if callable(b) and n[0].isupper()}
    name, args, kwargs = parse_call(text, spec, FORMS) if text else ("", [], {})
    if family != "applications" or name not in builders or args:
        import difflib

        near = difflib.get_close_matches(name, builders, n=3, cutoff=0.4)
        raise BadInput(
            "This names no builder of keras.applications.",
            expected="keras:applications/NAME(keyword=value, …), NAME one of "
            + ", ".join(near or sorted(builders)),
            received=spec,
        )
    kwargs = {"weights": None, **kwargs}
    with TheirCode(f"Building {spec}", "the arguments must be those of keras.applications"):
        return builders[name](**kwargs)


def _hub(rest: str, spec: str) -> Any:
    """A keras-hub model: a class with arguments, a folder with a preset, or a preset by name."""
    keras_hub = import_package("keras_hub", f"{spec}")
    name, args, kwargs = parse_call(rest, spec, FORMS)
    folder = Path(name).expanduser()
    builder = getattr(keras_hub.models, name, None)
    if inspect.isclass(builder):
        if args:
            raise BadInput("Classes of keras-hub take keyword arguments only.", received=spec)
        with TheirCode(f"Building {spec}", "the arguments must be those of the class"):
            return builder(**kwargs)
    if (folder / "config.json").is_file():
        _check_preset(folder)
        name = str(folder)
    elif folder.is_dir():
        raise BadInput(f"{folder} is no preset of keras-hub: it has no config.json.")
    else:
        _check_reach(name, spec)
    kind, options, hint = keras_hub.models.Backbone, {}, _PRESETS
    if folder.is_dir():
        hint = "the folder must hold what keras-hub's save_to_preset writes"
    if (folder / "task.json").is_file():
        # A backbone with a head. What makes its inputs of texts or files is Python beside the model.
        config = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        kind = getattr(keras_hub.models, str(config.get("class_name")), None)
        options = {"preprocessor": None}
        if not (inspect.isclass(kind) and issubclass(kind, keras_hub.models.Task)):
            raise BadInput(
                f"{folder / 'task.json'} names no task of keras-hub.",
                expected="BertTextClassifier, GPT2CausalLM or another class of keras_hub.models",
                received=str(config.get("class_name")),
            )
    with TheirCode(f"Loading {spec}", hint):
        return kind.from_preset(name, **options, **kwargs)


def _check_preset(folder: Path) -> None:
    """Refuse a preset's files that would run something."""
    for path in sorted(folder.glob("*.json")):
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise BadInput(f"{path} is damaged: its JSON cannot be read.") from error
        if path.name in _SERIALISED or (isinstance(config, dict) and "class_name" in config):
            check_config(config, path, False, {})
    for path in sorted(folder.glob("*.h5")):
        check_weights(path)


def _check_reach(preset: str, spec: str) -> None:
    """Fail at once where the site that a preset comes from cannot be reached."""
    host = "huggingface.co" if preset.startswith("hf:") else "www.kaggle.com"
    try:
        socket.create_connection((host, 443), timeout=_REACH).close()
    except OSError as error:
        raise BadInput(
            f"{spec} must be fetched from {host}, which cannot be reached.",
            received=str(error),
            hint="name a folder that holds the preset, hub:FOLDER, or a class with its arguments, "
            "hub:BertBackbone(num_layers=2, …), which needs no network",
        ) from error


# -- TensorFlow's graphs ------------------------------------------------------------------------------


def _graph(path: Path, spec: str, ends: GraphEnds) -> LoadedSource:
    """A SavedModel's folder, or a frozen graph, as the TensorFlow frontend reads it."""
    from diglot.frontends import tensorflow_graph

    if path.is_dir():
        if ends.signature and (ends.feeds or ends.fetches):
            raise UsageError(
                "--signature says already what goes in and out: leave out --feed and --fetch."
            )
        if not (path / "saved_model.pb").is_file():
            raise BadInput(
                f"{path} is a folder without a model.",
                expected="a SavedModel (with saved_model.pb in it)",
                received=", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing",
            )
        graph = tensorflow_graph.read_saved_model(
            path, ends.signature, ends.tags, ends.feeds, ends.fetches
        )
        return _loaded(graph, None, spec)
    if not path.is_file():
        raise BadInput(f"There is no file {path}.", received=str(path.absolute()))
    if ends.signature or ends.tags:
        raise UsageError(
            "--signature and --tags are for SavedModels; a frozen graph has --feed and --fetch."
        )
    graph = tensorflow_graph.read_frozen(path, ends.feeds or None, ends.fetches or None)
    return _loaded(graph, None, spec)


# -- example inputs -----------------------------------------------------------------------------------


def _examples(model: Any, wanted: Sequence[input_specs.InputSpec]) -> Any:
    """Example inputs of Keras's kind, as `--input` describes them: arrays, integers without a range
    in that of the smallest vocabulary of the model."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    sizes = [getattr(layer, "input_dim", None) for layer in layers]
    bound = min((size for size in sizes if isinstance(size, int)), default=None)
    ranged = [
        input_specs.InputSpec(s.name, s.dtype, s.sizes, s.examples, bound)
        if s.high is None and "int" in s.dtype and bound and not (s.name or "").endswith("mask")
        else s
        for s in wanted
    ]
    made = input_specs.make_examples(ranged)
    if isinstance(made, dict):
        return {name: tensor.numpy() for name, tensor in made.items()}
    return [tensor.numpy() for tensor in made] if isinstance(made, tuple) else made.numpy()
