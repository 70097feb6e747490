"""A finished translation: the program, its weights, what is known about it, and how weights travel."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.carrying import Direction, ToKeras, ToTorch
from diglot.codegen.weights import WeightMap
from diglot.errors import BadInput
from diglot.output import write_whole

if TYPE_CHECKING:
    import torch
    from torch import nn


class Translation:
    """What :func:`diglot.translate` and :func:`diglot.load` return.

    Attributes:
        source: the target program's text.
        weight_map: Keras weight <-> PyTorch weight, with the transform; works both ways.
        info: what ``translation.json`` holds: classes, lines, notes, summary, dynamic sizes, example inputs.
        source_model: the live source model (after :func:`load`, an exported program as a module; None
            for a Keras source until it is asked for).
        exported: the ``torch.export`` program.
        directory: where it was saved or loaded from.
        weights: for a translation to PyTorch, what ``model.safetensors`` holds: tensors or arrays by
            ``state_dict`` name.
        live: the live target, if it has been built.
        held: the folder of a source that lived in the process only; it goes with the translation.
    """

    def __init__(
        self,
        source: str,
        weight_map: WeightMap,
        info: dict[str, Any],
        source_model: Any,
        exported: Any = None,
        hub: Any = None,
        directory: Path | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.weight_map = weight_map
        self.info = info
        self.source_model = source_model
        self.exported = exported
        self.hub = hub
        self.directory = directory
        self.weights = dict(weights or {})
        self.live: Any = None
        self.held: Any = None
        self._way: Direction = (ToTorch if weight_map.to_torch else ToKeras)(self)

    def __repr__(self) -> str:
        lines = self.source.count("\n")
        return f"<Translation of {self.info.get('name')}: {lines} lines, {len(self.weight_map)} weights>"

    # --- weights ------------------------------------------------------------------------------------

    def state(self, model: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Return PyTorch's weights and buffers as arrays, by ``state_dict`` name: the source's, or those
        of a target in PyTorch."""
        return self._way.state(model)

    def target_arrays(self, model: Any = None) -> dict[str, np.ndarray]:
        """Return the target's weights, made from the source's present ones: by attribute path for a Keras
        target, by ``state_dict`` name for one in PyTorch."""
        return self._way.target_arrays(model)

    @property
    def model(self) -> Any:
        """The live target model, built in this process on first use with the source's weights."""
        if self.live is None:
            self.live = self._way.build()
        return self.live

    def pull(self, model: Any = None) -> None:
        """Carry the present weights of the source (or of ``model``) into the target model."""
        self._way.pull(self.model, model)

    def push(self, model: Any = None) -> None:
        """Carry the target model's present weights back into the source (or into ``model``), exactly.

        Raises :class:`BadInput` when a weight does not fit.
        """
        self._way.push(self.model, model)

    def optimizer(self, optimizer: Any = None) -> torch.optim.Optimizer:
        """Return a ``torch.optim`` optimizer of the target that goes on where Keras's stands.

        For a translation to PyTorch: `optimizer` is a Keras one, by default that which the source was
        compiled with. Rate or schedule, momentum and every average are carried, so that the next steps on
        the same gradients are those that Keras would take; SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta and
        Nadam, with clipping and weight decay. The target starts from the weights it has: ``pull()`` brings
        the source's present ones. Regularisers are part of Keras's loss and have to be added to yours.

        Raises :class:`UsageError` where there is no optimizer, and :class:`BadInput` for what has no equal.
        """
        from diglot.optimizers import of_source

        return of_source(self, optimizer)

    # --- files --------------------------------------------------------------------------------------

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write the program, its weights and what is known about it into a folder.

        To Keras: ``model.py``, ``model.weights.h5``, ``model.keras``, ``weight_map.json``,
        ``translation.json``, ``source.pt2``. To PyTorch: ``model.safetensors`` in place of the two Keras
        files, and ``source.keras`` (or ``source.weights.h5``) in place of ``source.pt2``. And
        ``proof.json`` and ``pages.html`` where there is a proof. Each file appears whole.
        """
        from diglot.report.pages import write_pages

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "model.py", self.source)
        self.weight_map.save(folder / "weight_map.json")
        write_whole(folder / "translation.json", json.dumps(self.info, indent=1) + "\n")
        self._way.save(folder)
        self.directory = folder
        write_pages(folder)
        return folder


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
            expected=", ".join(ToKeras.files),
            received=f"no {', '.join(missing)}",
            hint="save one there with t.save(…) or diglot translate … -o …",
        )
    try:
        info = json.loads((folder / "translation.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{folder / 'translation.json'} is damaged", received=str(error)) from error
    weight_map = WeightMap.load(folder / "weight_map.json")
    source = (folder / "model.py").read_text(encoding="utf-8")
    if weight_map.to_torch:
        from diglot import torch_program

        weights = torch_program.read_weights(folder / torch_program.WEIGHTS)
        return Translation(source, weight_map, info, None, directory=folder, weights=weights)
    exported = source_model = None
    if (folder / "source.pt2").is_file():
        from diglot.archive import load_exported
        from diglot.frontends import attention, marks  # noqa: F401  they define the ops in the file
        from diglot.ir.runnable import RunnableProgram
        from diglot.passes import stochastic_depth

        exported = load_exported(folder / "source.pt2", own=True)
        stochastic_depth.rewrite(exported.graph_module.graph)  # noise that training alone must draw
        source_model = RunnableProgram(exported, info.get("output_structure")).eval()
    return Translation(source, weight_map, info, source_model, exported, directory=folder)
