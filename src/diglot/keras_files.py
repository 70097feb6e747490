"""Keras model files, ``.keras`` and whole-model ``.h5``, read without running anything in them.

Keras's safe mode refuses bytecode. Before Keras sees a file at all it is checked here: that it is
whole, stays in its place, is not far larger inside than outside, links to no other file, and names no
class that Keras, or the user, has not given.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from diglot.errors import BadInput, DiglotError, MissingExtra

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
SIZE_FLOOR, EXPANSION = 1 << 28, 100
"""What takes up more than this many bytes must not be more than so many times larger than its file."""
#: Classes of Keras that run what a file brings along: bytecode, another program, a pickle.
RUNNING = {
    "Lambda": "a Lambda layer holds Python bytecode",
    "__lambda__": "a lambda function is stored as Python bytecode",
    "TFSMLayer": "a TFSMLayer runs another SavedModel",
    "TorchModuleWrapper": "a TorchModuleWrapper unpickles a PyTorch module",
}
_PACKAGES = ("keras", "builtins", "keras_hub", "keras_nlp", "keras_cv", "tensorflow.keras")
#: Layers of Keras 2 for raw TensorFlow ops in a Functional model, beside those that `keras2.operations` reads.
_OPS = ("TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty")


@dataclass(frozen=True)
class Named:
    """A class or function that a model's config names."""

    kind: str
    name: str
    module: str | None
    registered: str | None

    @property
    def key(self) -> str:
        """What custom objects are looked up by."""
        return self.registered or self.name


def load_keras(path: Path, trust: bool = False, custom: Mapping[str, Any] | None = None) -> Any:
    """The live model in a ``.keras`` or ``.h5`` file, not compiled.

    `custom` holds classes and functions by registered name, in addition to those that are registered.
    Only with `trust` may the file hold code. Raises :class:`BadInput` for a file that is missing,
    damaged, unsafe, or names something unknown.
    """
    if not path.is_file():
        raise BadInput(f"There is no file {path}.", received=str(path.absolute()))
    with path.open("rb") as stream:
        read = _read_archive if stream.read(2) == b"PK" else _read_h5
    with _damaged(path):
        config = read(path)
    version = _version(path, read is _read_h5)
    if version < 3:
        config = _named_as_now(config)
    check_config(config, path, trust, custom or {})
    import keras

    with _Built(path):
        if version < 3:
            return _load_old(path, config, custom or {}, read is _read_h5)
        if read is _read_h5:
            # By its content: a file of Keras 2 may be called anything.
            from keras.src.legacy.saving import legacy_h5_format

            return legacy_h5_format.load_model_from_hdf5(
                str(path), custom_objects=dict(custom or {}), compile=False, safe_mode=not trust
            )
        with path.open("rb") as stream:
            return keras.src.saving.saving_lib.load_model(
                stream, custom_objects=dict(custom or {}), compile=False, safe_mode=not trust
            )


def _load_old(path: Path, config: Any, custom: Mapping[str, Any], is_h5: bool) -> Any:
    """The model of a file that Keras 2 wrote."""
    import h5py

    from diglot import keras2

    model = keras2.build(config, custom)
    if is_h5:
        with h5py.File(path, "r") as file:
            keras2.load_h5(model, config, file["model_weights"])
        return model
    archived = zipfile.ZipFile(path)
    with archived as archive, _unpacked(archive, WEIGHTS) as content, h5py.File(content) as file:
        keras2.load_archive(model, config, file)
    return model


@contextlib.contextmanager
def _unpacked(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """A member outside its archive: in it every step back would read it from its start."""
    with archive.open(name) as stream, tempfile.TemporaryFile() as content:
        shutil.copyfileobj(stream, content, 1 << 20)
        yield content


def _version(path: Path, is_h5: bool) -> int:
    """Which Keras wrote a file: 1, 2 or 3. Before Keras 2 files did not say."""
    import h5py

    with _damaged(path):
        if is_h5:
            with h5py.File(path, "r") as file:
                said = file.attrs.get("keras_version", "1")
        else:
            with zipfile.ZipFile(path) as archive:
                said = json.loads(archive.read(METADATA)).get("keras_version", "3")
    text = said.decode() if isinstance(said, bytes) else str(said)
    first = text.partition(".")[0]
    if first == "1":
        raise BadInput(
            f"{path} was written by Keras 1, whose layers have other options and weights.",
            hint="load it with Keras 2 (TensorFlow 1 or 2 up to 2.15) and save it again",
        )
    return int(first) if first.isdigit() else 3


def _named_as_now(config: Any) -> Any:
    """A config of Keras 2 without the modules of its own classes, which have moved."""
    if isinstance(config, list):
        return [_named_as_now(item) for item in config]
    if not isinstance(config, dict):
        return config
    kept = {key: _named_as_now(value) for key, value in config.items()}
    if str(kept.get("module")).partition(".")[0] in ("keras", "tf_keras", "tensorflow"):
        if kept.get("registered_name") in (None, kept.get("class_name")):
            kept.pop("registered_name", None)
            del kept["module"]
    return kept


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """Whatever reading a file raises becomes one :class:`BadInput`."""
    try:
        yield
    except NotImplementedError as error:  # a compression that Python does not know
        raise BadInput(f"{path} cannot be unpacked: {error}.") from error
    except (zipfile.BadZipFile, ValueError, KeyError, OSError, RuntimeError, EOFError) as error:
        text = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path} cannot be read as a Keras model: it is damaged, or something else.",
            received=f"{type(error).__name__}: {text}",
            hint="save it again with model.save('model.keras')",
        ) from error


class _Built:
    """Whatever Keras raises while it builds the model becomes one :class:`BadInput`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, DiglotError):
            return
        raise BadInput(
            f"Keras cannot build the model in {self.path}.",
            received=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}",
            hint="load it with keras.saving.load_model to see the whole error; a model with layers "
            "of your own can be named as file.py:function, a function that returns it",
        ) from error


# -- files --------------------------------------------------------------------------------------------


def _read_archive(path: Path) -> Any:
    """The config of a ``.keras`` archive, once every member has been checked."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            place = PurePosixPath(member.filename.replace("\\", "/"))
            if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
                raise BadInput(
                    f"{path} was refused: a file in it climbs out of the archive.",
                    received=member.filename,
                )
            _check_size(path, member.filename, member.file_size, member.compress_size)
        names = [member.filename for member in members]
        if len(set(names)) != len(names):
            raise BadInput(f"{path} was refused: it holds one file twice.")
        if CONFIG not in names:
            raise BadInput(f"{path} is no Keras model: it has no {CONFIG}.")
        broken = archive.testzip()
        if broken is not None:
            raise BadInput(f"{path} is damaged: {broken} in it does not have its checksum.")
        if WEIGHTS in names:
            with _unpacked(archive, WEIGHTS) as content:
                _check_h5(path, content, archive.getinfo(WEIGHTS).file_size)
        return json.loads(archive.read(CONFIG))


def _check_size(path: Path, name: str, size: int, stored: int) -> None:
    if size > SIZE_FLOOR and size > EXPANSION * max(stored, 1):
        raise BadInput(
            f"{path} was refused: {name} in it unpacks to {size / 2**20:.0f} MiB out of "
            f"{stored / 2**20:.1f} MiB.",
            hint="a model is stored in about the room that its weights take",
        )


def _read_h5(path: Path) -> Any:
    """The config of a whole-model HDF5 file, once its data have been checked."""
    import h5py

    if not h5py.is_hdf5(path):
        raise BadInput(
            f"{path} is neither a Keras archive nor an HDF5 file.",
            received="an empty file"
            if not path.stat().st_size
            else "something else, or half of one",
            hint="save the model again with model.save('model.keras')",
        )
    _check_h5(path, path, path.stat().st_size)
    with h5py.File(path, "r") as file:
        config = file.attrs.get("model_config")
        if config is None:
            raise BadInput(
                f"{path} holds weights only, no model.",
                hint="write a function that builds the model and loads these weights, and name it as "
                "file.py:function",
            )
        if "model_weights" not in file:
            raise BadInput(f"{path} is damaged: it has no model_weights.")
        return json.loads(config)


def check_weights(path: Path) -> None:
    """Refuse a file of weights that is damaged, reads from others, or is far too large."""
    with _damaged(path):
        _check_h5(path, path, path.stat().st_size)


def _check_h5(path: Path, content: Any, stored: int) -> None:
    """Refuse an HDF5 file that reads from other files, or is far larger than it can be."""
    import h5py

    with h5py.File(content, "r") as file:

        def visit(group: Any, depth: int) -> int:
            total = 0
            for name in group:
                link = group.get(name, getlink=True)
                where = f"{group.name}/{name}".replace("//", "/")
                if not isinstance(link, h5py.HardLink):
                    raise BadInput(
                        f"{path} was refused: {where} in it is a link.",
                        received=f"{type(link).__name__} to {getattr(link, 'filename', link.path)}",
                    )
                item = group[name]
                if isinstance(item, h5py.Group):
                    if depth > 200:
                        raise BadInput(f"{path} was refused: {where} in it is nested without end.")
                    total += visit(item, depth + 1)
                elif isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise BadInput(f"{path} was refused: {where} in it lies in another file.")
                    total += item.size * item.dtype.itemsize
            return total

        _check_size(path, "its data", visit(file, 0), stored)


_HOW_TO_GIVE_LAMBDAS = (
    "the file says that there is a lambda, not what it does: find it in the code that trained the model, write it "
    'in a Python file, custom_objects = {"<lambda>": lambda x: keras.activations.relu(x, max_value=20)}, and give '
    "that file: --custom activation.py"
)


# -- what a config names ------------------------------------------------------------------------------


def named_in(config: Any) -> Iterator[Named]:
    """Every class and function that a serialised model names, as often as it does.

    Raises ValueError for a config that is nested too deeply to be one.
    """
    pending: list[tuple[Any, int]] = [(config, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > 500:
            raise ValueError("the config is nested without end")
        if isinstance(value, (list, tuple)):
            pending += [(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            continue
        pending += [(v, depth + 1) for k, v in value.items() if k != "compile_config"]
        for key in ("activation", "recurrent_activation"):  # Keras 2 wrote a function's bare name
            if isinstance(value.get(key), str):
                yield Named("function", value[key], None, None)
        name, module = value.get("class_name"), value.get("module")
        if not isinstance(name, str):
            continue
        registered = value.get("registered_name")
        registered = registered if isinstance(registered, str) else None
        if name == "function":
            yield Named("function", str(value.get("config")), module, registered)
        else:
            yield Named("class", name, module, registered)


def is_custom(named: Named) -> bool:
    """Whether something is neither Keras's own nor a marker such as ``__keras_tensor__``."""
    if named.name.startswith("__"):
        return False
    module = str(named.module or "")
    if any(module == p or module.startswith(f"{p}.") for p in _PACKAGES):
        return False
    registered = named.registered or ""
    return bool(module) or ">" in registered or _is_unknown_to_keras(named)


def _is_unknown_to_keras(named: Named) -> bool:
    """For a config without modules, as Keras 2 wrote it: by the name alone."""
    import keras

    from diglot.keras2 import OLD_NAMES

    places = (
        keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints,
        keras.activations, keras.optimizers, keras.losses, keras.metrics, keras.dtype_policies,
        keras.random,
    )  # fmt: skip
    old = ("Functional", "Model", "Policy", "PolicyV1", "TensorShape", "CustomMaskWarning")
    if named.name in old or named.name in OLD_NAMES:
        return False
    return not any(hasattr(place, named.name) for place in places)


def check_config(config: Any, path: Path, trust: bool, custom: Mapping[str, Any]) -> None:
    """Refuse a model's config that runs code (unless trusted) or names what nobody gave."""
    if not isinstance(config, dict) or "class_name" not in config:
        raise BadInput(
            f"{path} is damaged: its config is no model's.", received=type(config).__name__
        )
    found = list(dict.fromkeys(named_in(config)))
    running = [RUNNING[named.name] for named in found if named.name in RUNNING]
    if running and not trust:
        raise BadInput(
            f"{path} was refused: {'; '.join(dict.fromkeys(running))}, and loading it would run that.",
            hint="if you know who made the file and trust them, add --trust "
            "(trust=True in Python); or write the layer as a class",
        )
    for package in dict.fromkeys(str(n.module).partition(".")[0] for n in found if n.module):
        if package in ("keras_hub", "keras_nlp", "keras_cv"):
            import_package(package, "This model")
    check_custom([named for named in found if is_custom(named)], path, custom)


def check_custom(found: Iterable[Named], path: Path, custom: Mapping[str, Any]) -> None:
    """Refuse custom classes and functions that are neither registered nor in `custom`."""
    import keras

    unknown = []
    for named in found:
        known = (named.key in custom) or (named.name in custom)
        if not known and keras.saving.get_registered_object(named.key) is None:
            unknown.append(named)
    ops = [named.name for named in unknown if named.name in _OPS]
    if ops:
        raise BadInput(
            f"{path} holds raw TensorFlow ops as layers of Keras 2, which Keras 3 cannot read.",
            received=", ".join(ops),
            hint="load it with the TensorFlow that wrote it, save it as a SavedModel "
            "(tf.saved_model.save), and name that folder",
        )
    if unknown:
        listed = ", ".join(
            f"{n.name}" + (f" (registered as {n.registered})" if n.registered else "")
            + (f" of {n.module}" if n.module else "")
            for n in unknown
        )  # fmt: skip
        what = (
            "a class or function" if len(unknown) == 1 else f"{len(unknown)} classes or functions"
        )
        raise BadInput(
            f"{path} names {what} that Keras does not have.",
            received=listed,
            hint=_HOW_TO_GIVE_LAMBDAS
            if any(n.name == "<lambda>" for n in unknown)
            else "give the Python file that defines it: --custom layers.py (which should register it "
            "with @keras.saving.register_keras_serializable()); or name a function that "
            "returns the model: file.py:function",
        )


def import_package(package: str, needed_for: str) -> Any:
    """An optional package of Keras's. Raises :class:`MissingExtra` where it is not installed."""
    import importlib

    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        extra = "hub" if package == "keras_hub" else None
        raise MissingExtra(package.replace("_", "-"), extra, needed_for=needed_for) from error
