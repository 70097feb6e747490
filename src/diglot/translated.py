"""A translation's folder as the source of the next: its program with its weights, called as it was called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.codegen.weights import WeightMap, WeightMapError
from diglot.output import is_translation
from diglot.sources import LoadedSource

if TYPE_CHECKING:
    from diglot.translation import Translation


def find_folder(spec: str) -> Path | None:
    """The translation's folder that a source names, itself or by its model.py; None where it names none."""
    path = Path(spec).expanduser()
    folder = path.parent if path.name == "model.py" else path
    return folder if is_translation(folder) and (folder / "weight_map.json").is_file() else None


def language(folder: Path) -> str | None:
    """What a translation's program is in: "torch" or "keras"; None where its weight map cannot be read."""
    try:
        weight_map = WeightMap.load(folder / "weight_map.json")
    except (WeightMapError, OSError):
        return None
    return "torch" if weight_map.to_torch else "keras"


def load_translated(folder: Path, spec: str) -> LoadedSource:
    """The program of a translation's folder, with the weights, inputs and dynamic sizes that stand beside it.

    Raises :class:`BadInput` for a folder that is damaged.
    """
    from diglot import translation

    found = translation.load(folder)
    made = LoadedSource(found.model, None, None, spec, str(found.info.get("name")))
    if found.weight_map.to_torch:
        made.example_inputs, made.dynamic = _inputs(found)
    return made


def _inputs(found: Translation) -> tuple[Any, dict[str, dict[int, str]]]:
    """What a PyTorch program is called with, as random tensors, and which of their sizes are dynamic."""
    import torch

    from diglot.parity.inputs import choose_sizes, make_inputs

    weight_map, info = found.weight_map, found.info
    sizes = {symbol: int(about["example"]) for symbol, about in info["dynamic"].items()}
    for symbol, size in choose_sizes(info)[0].items():
        sizes.setdefault(symbol, size)
    arrays = make_inputs(weight_map.inputs, info["example_inputs"], sizes, 0)
    tensors = [torch.from_numpy(array) for array in arrays]
    by_name = weight_map.structure["inputs"] == "dict"
    dynamic, given = {}, {}
    for place, (spec, tensor) in enumerate(zip(weight_map.inputs, tensors, strict=True)):
        key = str(spec.name) if by_name else str(place)
        given[key] = tensor
        dynamic[key] = {
            axis: size
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str) and size.isidentifier()
        }
    if by_name:
        return given, dynamic
    return (tensors[0] if len(tensors) == 1 else tuple(tensors)), dynamic
