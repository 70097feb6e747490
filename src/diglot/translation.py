"""A finished translation: the program, its weights, what is known about it, and how weights travel."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import WeightMap
from diglot.errors import BadInput, UsageError
from diglot.output import write_whole

if TYPE_CHECKING:
    import torch
    from torch import nn

FILES = (
    "model.py",
    "model.weights.h5",
    "model.keras",
    "weight_map.json",
    "translation.json",
    "source.pt2",
)


class Translation:
    """What :func:`diglot.translate` and :func:`diglot.load` return.

    Attributes:
        source: the target program's text.
        weight_map: target weight <-> source weight, with the transform; works both ways.
        info: what ``translation.json`` holds: classes, lines, notes, summary, dynamic sizes, example inputs.
        source_model: the live source model (after :func:`load`, the exported program as a module).
        exported: the ``torch.export`` program.
        directory: where it was saved or loaded from.
    """

    def __init__(
        self,
        source: str,
        weight_map: WeightMap,
        info: dict[str, Any],
        source_model: nn.Module | None,
        exported: Any = None,
        hub: Any = None,
        directory: Path | None = None,
    ) -> None:
        self.source = source
        self.weight_map = weight_map
        self.info = info
        self.source_model = source_model
        self.exported = exported
        self.hub = hub
        self.directory = directory
        self._model: Any = None

    def __repr__(self) -> str:
        lines = self.source.count("\n")
        return f"<Translation of {self.info.get('name')}: {lines} lines, {len(self.weight_map)} weights>"

    # --- weights ------------------------------------------------------------------------------------

    def state(self, model: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Return the source's weights and buffers as arrays, by ``state_dict`` name."""
        source = self._source(model)
        state: dict[str, torch.Tensor] = dict(source.named_parameters(remove_duplicate=False))
        state.update(source.named_buffers(remove_duplicate=False))
        wanted = {name for entry in self.weight_map.entries for name in entry.sources}
        return {n: _numpy(state[n]) for n in wanted if n in state}

    def target_arrays(self, model: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Return the target's weights, by attribute path, made from the source's present ones."""
        return self.weight_map.apply(self.state(model))

    @property
    def model(self) -> Any:
        """The live Keras model, built in this process on first use with the source's weights."""
        if self._model is None:
            self._model = build_model(self.source, self.info.get("name", "model"))
            self.pull()
        return self._model

    def pull(self, model: nn.Module | None = None) -> None:
        """Carry the source model's present weights into the Keras model."""
        target = self.model if self._model is None else self._model
        arrays = self.target_arrays(model)
        variables = self.weight_map.variables(target)
        for name, array in arrays.items():
            variables[name].assign(array)

    def push(self, model: nn.Module | None = None) -> None:
        """Carry the Keras model's present weights back into the source model (or into ``model``), exactly.

        Raises :class:`BadInput` when a weight does not fit.
        """
        import torch

        source = self._source(model)
        variables = self.weight_map.variables(self.model)
        arrays = {name: np.asarray(_keras_numpy(v)) for name, v in variables.items()}
        changed = self.weight_map.invert(arrays, self.state(source))
        tensors: dict[str, torch.Tensor] = dict(source.named_parameters(remove_duplicate=False))
        tensors.update(source.named_buffers(remove_duplicate=False))
        with torch.no_grad():
            for name, array in changed.items():
                tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def _source(self, model: nn.Module | None) -> nn.Module:
        source = model if model is not None else self.source_model
        if source is None:
            raise UsageError(
                "this translation holds no source model",
                hint="pass the PyTorch model: t.push(model)",
            )
        return source

    # --- files --------------------------------------------------------------------------------------

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the program, its weights and what is known about it into a folder.

        ``model.py``, ``model.weights.h5``, ``model.keras``, ``weight_map.json``, ``translation.json``,
        ``source.pt2``, and ``proof.json`` and ``pages.html`` where there is a proof. Each file appears whole.
        """
        from diglot.report.pages import write_pages
        from diglot.runtime import materialise

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "model.py", self.source)
        self.weight_map.save(folder / "weight_map.json")
        write_whole(folder / "translation.json", json.dumps(self.info, indent=1) + "\n")
        self._save_source(folder / "source.pt2")
        materialise(folder, self._present_arrays())
        self.directory = folder
        write_pages(folder)
        return folder

    def _present_arrays(self) -> dict[str, np.ndarray]:
        """The trained Keras weights where there is a live Keras model, else the source's."""
        if self._model is None:
            return self.target_arrays()
        return {
            n: np.asarray(_keras_numpy(v))
            for n, v in self.weight_map.variables(self._model).items()
        }

    def _save_source(self, path: Path) -> None:
        if self.exported is None:
            return
        import torch

        # Through memory: on a full disk torch's own writer ends the whole process.
        content = io.BytesIO()
        torch.export.save(self.exported, content)
        part = path.with_name("source.part.pt2")
        part.write_bytes(content.getbuffer())
        part.replace(path)


def load(directory: str | os.PathLike[str]) -> Translation:
    """Read a saved translation. Nothing in the folder runs until ``.model`` is used.

    Raises :class:`BadInput` for a folder that is none.
    """
    folder = Path(directory)
    missing = [
        n for n in ("model.py", "weight_map.json", "translation.json") if not (folder / n).is_file()
    ]
    if missing:
        raise BadInput(
            f"{folder} is not a saved translation",
            expected=", ".join(FILES),
            received=f"no {', '.join(missing)}",
            hint="save one there with t.save(…) or diglot translate … -o …",
        )
    try:
        info = json.loads((folder / "translation.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{folder / 'translation.json'} is damaged", received=str(error)) from error
    weight_map = WeightMap.load(folder / "weight_map.json")
    exported = source_model = None
    if (folder / "source.pt2").is_file():
        from diglot.archive import load_exported
        from diglot.frontends import attention, marks  # noqa: F401  they define the ops in the file
        from diglot.ir.runnable import RunnableProgram
        from diglot.passes import stochastic_depth

        exported = load_exported(folder / "source.pt2", own=True)
        stochastic_depth.rewrite(exported.graph_module.graph)  # noise that training alone must draw
        source_model = RunnableProgram(exported, info.get("output_structure")).eval()
    source = (folder / "model.py").read_text(encoding="utf-8")
    made = Translation(source, weight_map, info, source_model, exported, directory=folder)
    return made


def build_model(source: str, name: str) -> Any:
    """Import a generated program from a temporary file and return its Keras model."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory(prefix="diglot-") as folder:
        path = Path(folder) / "model.py"
        path.write_text(source, encoding="utf-8")
        module_name = f"diglot_generated_{name}_{abs(hash(source)) % 10**8}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise BadInput("the generated program cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    return module.build_model()


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.numpy()


def _keras_numpy(variable: Any) -> np.ndarray:
    value = variable.numpy() if hasattr(variable, "numpy") else np.asarray(variable)
    return np.asarray(value)
