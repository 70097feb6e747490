"""What the two directions of a translation do differently: build its target, carry weights, keep files.

Entries of the weight map name Keras's weights as `target` and PyTorch's as `sources` in both.
"""

from __future__ import annotations

import io
import linecache
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import WeightMap, settle
from diglot.errors import BadInput, UsageError
from diglot.runtime.afresh import import_afresh

if TYPE_CHECKING:
    import torch
    from torch import nn

    from diglot.translation import Translation


class Direction(ABC):
    """One direction, for one translation."""

    #: What a saved folder holds, beside proof and pages.
    files: tuple[str, ...]
    source_language: str

    def __init__(self, translation: Translation) -> None:
        """The way of `translation`."""
        self.translation = translation

    @property
    def map(self) -> WeightMap:
        """The translation's weight map."""
        return self.translation.weight_map

    def source(self, model: Any = None) -> Any:
        """The live source: `model`, or the translation's own. Raises UsageError where there is none."""
        source = model if model is not None else self.translation.source_model
        if source is None:
            raise UsageError(
                "this translation holds no source model",
                hint=f"pass the {self.source_language} model: t.push(model)",
            )
        return source

    @abstractmethod
    def build(self) -> Any:
        """A live target, with the weights that it was saved or made with."""

    @abstractmethod
    def state(self, model: Any = None) -> dict[str, np.ndarray]:
        """PyTorch's weights and buffers as arrays, by ``state_dict`` name."""

    @abstractmethod
    def target_arrays(self, model: Any = None) -> dict[str, np.ndarray]:
        """The target's weights by its own names, made from the source's present ones."""

    @abstractmethod
    def pull(self, target: Any, model: Any = None) -> None:
        """Carry the source's present weights into `target`."""

    @abstractmethod
    def push(self, target: Any, model: Any = None) -> None:
        """Carry the weights of `target` into the source."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights, and what the source can be had from again, beside model.py."""


class ToKeras(Direction):
    """PyTorch to Keras: the source is an ``nn.Module``, or the program that it was exported to."""

    files = (
        "model.py",
        "model.weights.h5",
        "model.keras",
        "weight_map.json",
        "translation.json",
        "source.pt2",
    )
    source_language = "PyTorch"

    def build(self) -> Any:
        """Import the program into this process; its weights are pulled."""
        from diglot import origins

        model = build_model(self.translation.source)
        self.pull(model)
        origins.remember(model, self.translation)
        return model

    def state(self, model: Any = None) -> dict[str, np.ndarray]:
        """Those of the source that the map names."""
        held = torch_tensors(self.source(model))
        wanted = {name for entry in self.map.entries for name in entry.sources}
        return {name: torch_numpy(held[name]) for name in wanted if name in held}

    def target_arrays(self, model: Any = None) -> dict[str, np.ndarray]:
        """Keras's weights by attribute path."""
        return self.map.apply(self.state(model))

    def pull(self, target: Any, model: Any = None) -> None:
        """Into the Keras model `target`."""
        assign_all(self.map, target, self.target_arrays(model))

    def push(self, target: Any, model: Any = None) -> None:
        """From the Keras model `target`."""
        fill_module(self.source(model), self.map, keras_arrays(self.map, target))

    def save(self, folder: Path) -> None:
        """source.pt2, and what the Keras worker writes: model.weights.h5 and model.keras."""
        from diglot.runtime import materialise

        self._save_program(folder / "source.pt2")
        live = self.translation.live
        arrays = self.target_arrays() if live is None else keras_arrays(self.map, live)
        materialise(folder, arrays)

    def _save_program(self, path: Path) -> None:
        exported = self.translation.exported
        if exported is None:
            return
        import torch

        # Through memory: on a full disk torch's own writer ends the whole process.
        content = io.BytesIO()
        torch.export.save(exported, content)
        part = path.with_name("source.part.pt2")
        part.write_bytes(content.getbuffer())
        part.replace(path)


class ToTorch(Direction):
    """Keras to PyTorch: the source is a live Keras model, or what its folder can build it from."""

    files = (
        "model.py",
        "model.safetensors",
        "weight_map.json",
        "translation.json",
        "source.keras",
        "source.weights.h5",
    )
    source_language = "Keras"

    def source(self, model: Any = None) -> Any:
        """As above; where there is none, the one that the folder holds is built, once."""
        translation = self.translation
        if model is None and translation.source_model is None and translation.directory is not None:
            from diglot.runtime import original

            folder = translation.directory
            translation.source_model = original.build(folder, original.read_record(folder))
        return super().source(model)

    def build(self) -> nn.Module:
        """Import the program into this process, in evaluation mode, with the weights it was made with
        or saved with."""
        from diglot import origins, torch_program

        with tempfile.TemporaryDirectory(prefix="diglot-") as folder:
            path = Path(folder) / "model.py"
            path.write_text(self.translation.source, encoding="utf-8")
            module = torch_program.build(path)
        state = {n: torch_program.as_tensor(v) for n, v in self.translation.weights.items()}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise BadInput(
                "The generated program and its weights do not fit each other.", received=str(error)
            ) from error
        if self.translation.source_model is not None:
            self.pull(module)
        origins.remember_layers(module, self.map)
        return module.eval()

    def state(self, model: Any = None) -> dict[str, np.ndarray]:
        """All of the PyTorch program's (of `model`, the live one, or those it was made with)."""
        module = model if model is not None else self.translation.live
        held = self.translation.weights if module is None else module.state_dict()
        return {name: torch_numpy(value) for name, value in held.items()}

    def target_arrays(self, model: Any = None) -> dict[str, np.ndarray]:
        """PyTorch's weights by ``state_dict`` name; `model` is a Keras one."""
        return self.map.invert(keras_arrays(self.map, self.source(model)), self.state())

    def pull(self, target: Any, model: Any = None) -> None:
        """Into the module `target`."""
        fill_module(target, self.map, keras_arrays(self.map, self.source(model)))

    def push(self, target: Any, model: Any = None) -> None:
        """From the module `target` into the Keras model."""
        held = torch_tensors(target)
        wanted = {name for entry in self.map.entries for name in entry.sources}
        state = {name: torch_numpy(held[name]) for name in wanted if name in held}
        assign_all(self.map, self.source(model), self.map.apply(state))

    def save(self, folder: Path) -> None:
        """model.safetensors, and the Keras model's own file."""
        from diglot import torch_program
        from diglot.runtime import graph_files, original

        translation = self.translation
        live = translation.live
        weights = translation.weights if live is None else live.state_dict()
        torch_program.write_weights(folder / torch_program.WEIGHTS, weights)
        record = translation.info["original"]
        if record["kind"] == "graph" and "path" in record:
            graph_files.keep(
                record, graph_files.place(record, translation.directory or folder), folder
            )
        elif translation.source_model is not None:
            original.write(translation.source_model, record, folder)
        elif translation.directory is not None and translation.directory != folder:
            for name in (original.ARCHIVE, original.WEIGHTS):
                if (translation.directory / name).is_file():
                    shutil.copyfile(translation.directory / name, folder / name)


def build_model(source: str) -> Any:
    """Import a generated Keras program from a temporary file and return its model."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="diglot-") as folder:
        path = Path(folder) / "model.py"
        path.write_text(source, encoding="utf-8")
        # The file goes; its lines stay, for whoever looks a class's source up (tracebacks, inspect).
        linecache.cache[str(path)] = (len(source), None, source.splitlines(True), str(path))
        return import_afresh(path).build_model()


def keras_arrays(weight_map: WeightMap, model: Any) -> dict[str, np.ndarray]:
    """Every mapped weight of a live Keras model by its path."""
    return {name: keras_numpy(v) for name, v in weight_map.variables(model).items()}


def assign_all(weight_map: WeightMap, model: Any, arrays: dict[str, np.ndarray]) -> None:
    """Give a live Keras model weights by their paths."""
    variables = weight_map.variables(model)
    for name, array in arrays.items():
        variables[name].assign(array)
    settle(model)


def fill_module(module: nn.Module, weight_map: WeightMap, arrays: dict[str, np.ndarray]) -> None:
    """Give a live module what Keras's weights, by path, are on its side, exactly.

    Raises BadInput where a weight does not fit.
    """
    import torch

    held = torch_tensors(module)
    wanted = {name for entry in weight_map.entries for name in entry.sources}
    current = {name: torch_numpy(held[name]) for name in wanted if name in held}
    with torch.no_grad():
        for name, array in weight_map.invert(arrays, current).items():
            held[name].copy_(torch.from_numpy(np.array(array, order="C")))


def torch_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """A module's parameters and buffers, by each of their names."""
    held: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    held.update(module.named_buffers(remove_duplicate=False))
    return held


def torch_numpy(tensor: Any) -> np.ndarray:
    """A tensor (or an array) as an array; bfloat16, which numpy lacks, as float32."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def keras_numpy(variable: Any) -> np.ndarray:
    """A Keras variable's value; bfloat16 as float32."""
    value = variable.numpy() if hasattr(variable, "numpy") else variable
    array = np.asarray(value)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array
