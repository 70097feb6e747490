"""The weight map: which target weight holds which source weight, and how, both ways.

Only numpy is needed here: the map is applied in processes that hold one framework or none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diglot.ir.kept_layer import KeptLayer
from diglot.ir.weight_entry import WeightEntry, WeightMapError, freeze
from diglot.ir.weight_entry import settle as settle

FORMAT = 1
TO_KERAS, TO_TORCH = "torch->keras", "keras->torch"


@dataclass(frozen=True)
class TensorSpec:
    """One input (`name`) or output (`path`: keys and indices into the returned structure).

    `shape` is the source's, a str for a dynamic size; `perm` says target = source.permute(perm).
    """

    shape: Sequence[int | str]
    dtype: str = "float32"
    perm: Sequence[int] | None = None
    name: str | None = None
    path: Sequence[str | int] = ()

    def to_target(self, array: np.ndarray) -> np.ndarray:
        """`array` in the source's layout -> the target's."""
        return array if self.perm is None else np.ascontiguousarray(array.transpose(self.perm))

    def to_source(self, array: np.ndarray) -> np.ndarray:
        """`array` in the target's layout -> the source's."""
        if self.perm is None:
            return array
        return np.ascontiguousarray(array.transpose(np.argsort(self.perm)))


@dataclass(frozen=True)
class ModulePair:
    """Two modules whose outputs correspond one to one; `outputs` gives a perm (or None) for each
    tensor that they return, in order. `target` is an attribute path, as in WeightEntry. `paths` says
    where each is in what the translation's source returns, which may be more; () where it is not."""

    source: str
    target: str
    source_class: str = ""
    target_class: str = ""
    file: str | None = None
    line: int | None = None
    outputs: Sequence[Sequence[int] | None] = (None,)
    paths: Sequence[Sequence[str | int]] = ()


@dataclass
class KerasModel:
    """What the Keras model of a translation, its source or its target, is called and how it is written.

    ``style``: "functional" for a graph of layers, "layers" for classes, as `translate` has it. ``is_sequence``: whether
    it is a keras.Sequential. ``layers``: the names of its layers by their attribute paths, where it is the source;
    ``automatic``: the paths of those that Keras named; ``root``: the name of its only layer, where the PyTorch program
    is that layer; ``models``: the layers that are models, each its "module" in PyTorch, its "name" and its "kind"
    ("functional", "sequential"); ``kept``: layers of Keras's own that the PyTorch program writes out; ``own``: the
    modules of the layers of a graph that are of the user's own classes; ``built``: weights, by their names in PyTorch,
    that a layer of the user's own made in ``build``; ``weights``: what such layers call their weights, ""
    where Keras does.
    """

    style: str = "layers"
    name: str = ""
    is_sequence: bool = False
    layers: dict[str, str] = field(default_factory=dict)
    automatic: list[str] = field(default_factory=list)
    root: str = ""
    models: list[dict[str, str]] = field(default_factory=list)
    kept: list[KeptLayer] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the layers of a file."""
        self.kept = [k if isinstance(k, KeptLayer) else KeptLayer(**k) for k in self.kept]


@dataclass
class WeightMap:
    """The whole map of a translation, as stored in weight_map.json."""

    entries: list[WeightEntry] = field(default_factory=list)
    root: str | None = None
    unmapped: list[dict[str, str]] = field(default_factory=list)
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    structure: dict[str, Any] = field(
        default_factory=lambda: {"inputs": "single", "outputs": "tensor"}
    )
    modules: list[ModulePair] = field(default_factory=list)
    direction: str = TO_KERAS
    ties: list[dict[str, str]] = field(default_factory=list)
    """Second names of weights in PyTorch: "name", "to" (that in the entries), their modules' "class" and "to_class"."""
    keras: KerasModel = field(default_factory=KerasModel)
    classes: dict[str, str] = field(default_factory=dict)
    """Of a Functional program, which has no layers for them: the classes of PyTorch's modules by path ("" the root)."""

    @property
    def to_torch(self) -> bool:
        """Whether the source is Keras, so that entries and modules are read the other way round:
        `target` names what the source has, `sources` what the generated PyTorch program has."""
        return self.direction == TO_TORCH

    def __getitem__(self, target: str) -> WeightEntry:
        """The entry of one target weight; KeyError where there is none."""
        for entry in self.entries:
            if entry.target == target:
                return entry
        raise KeyError(target)

    def __len__(self) -> int:
        return len(self.entries)

    # -- arrays -------------------------------------------------------------------------------

    def apply(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Target arrays by target path, from source arrays by state_dict name (dtypes kept).

        Raises WeightMapError where `state` lacks a source or has it in another shape.
        """
        return {entry.target: entry.to_target(_take(state, entry)) for entry in self.entries}

    def invert(
        self, target_arrays: Mapping[str, np.ndarray], current_state: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Source arrays by name from target arrays by path: the inverse of `apply`.

        Holds every source that the given targets are made of; targets may be left out. Several
        targets may slice one source. Raises WeightMapError where two targets that are one weight
        in the source hold different values, so that no choice between them is made in silence.
        """
        result: dict[str, np.ndarray] = {}
        used: dict[str, int] = {}
        given = [entry for entry in self.entries if entry.target in target_arrays]
        for entry in given:
            current = [
                result.get(name, array)
                for name, array in zip(entry.sources, _take(current_state, entry), strict=True)
            ]
            values = entry.to_source(target_arrays[entry.target], current)
            result.update(zip(entry.sources, values, strict=True))
            for name in entry.sources:
                used[name] = used.get(name, 0) + 1
        for entry in given:
            if entry.combine != "sum" and any(used[name] > 1 for name in entry.sources):
                _check_written(entry, target_arrays[entry.target], result)
        return result

    # -- files --------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The JSON text of weight_map.json."""
        inputs = [
            {"name": s.name, "shape": s.shape, "dtype": s.dtype, "perm": s.perm}
            for s in self.inputs
        ]
        outputs = [
            {"path": s.path, "shape": s.shape, "dtype": s.dtype, "perm": s.perm}
            for s in self.outputs
        ]
        modules = []
        for pair in self.modules:
            record = asdict(pair)
            record["outputs"] = [{"perm": perm} for perm in pair.outputs]
            for output, path in zip(record["outputs"], record.pop("paths"), strict=False):
                output["path"] = path
            modules.append(record)
        document = {
            "format": FORMAT,
            "direction": self.direction,
            "root": self.root,
            "entries": [asdict(entry) for entry in self.entries],
            "unmapped": self.unmapped,
            "inputs": inputs,
            "outputs": outputs,
            "structure": self.structure,
            "modules": modules,
            "ties": self.ties,
            "keras": asdict(self.keras),
            "classes": self.classes,
        }
        return json.dumps(document, indent=1, default=_plain) + "\n"

    @classmethod
    def from_json(cls, text: str) -> WeightMap:
        """Read what `to_json` wrote; raises WeightMapError for anything else."""
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise WeightMapError(
                    f"expected weight map format {FORMAT}, received {document['format']!r}; "
                    "translate again, or use the Diglot that wrote it"
                )
            modules = []
            for record in document.get("modules", []):
                perms = tuple(freeze(output["perm"]) for output in record["outputs"])
                paths = tuple(tuple(o["path"]) for o in record["outputs"] if "path" in o)
                modules.append(ModulePair(**{**record, "outputs": perms, "paths": paths}))
            return cls(
                entries=[WeightEntry(**record) for record in document["entries"]],
                root=document["root"],
                unmapped=document.get("unmapped", []),
                inputs=[TensorSpec(**_frozen(record)) for record in document["inputs"]],
                outputs=[TensorSpec(**_frozen(record)) for record in document["outputs"]],
                structure=document["structure"],
                modules=modules,
                direction=document.get("direction", TO_KERAS),
                ties=document.get("ties", []),
                keras=KerasModel(**document.get("keras", {})),
                classes=document.get("classes", {}),
            )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise WeightMapError(
                f"expected a weight map, received JSON that is none: {error!r}"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weight_map.json, whole or not at all."""
        temporary = Path(f"{os.fspath(path)}.part")
        temporary.write_text(self.to_json(), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> WeightMap:
        """Read weight_map.json; raises WeightMapError where it is no weight map, OSError where it
        cannot be read."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    # -- live target model --------------------------------------------------------------------

    def root_layer(self, model: Any) -> Any:
        """The layer of a live Keras model that target paths start from: the root layer, or the
        model itself in functional style."""
        return model if self.root is None else model.get_layer(self.root)

    def variables(self, model: Any) -> dict[str, Any]:
        """Every mapped variable of a live Keras model by target path."""
        root = self.root_layer(model)
        return {entry.target: resolve(root, entry.target) for entry in self.entries}


def _take(state: Mapping[str, np.ndarray], entry: WeightEntry) -> list[np.ndarray]:
    """The entry's source arrays; raises WeightMapError naming one that is missing."""
    for name in entry.sources:
        if name not in state:
            raise WeightMapError(
                f"expected a source weight {name!r} (for {entry.target}), the state dict has none; "
                "push and pull need the model that was translated"
            )
    return [np.asarray(state[name]) for name in entry.sources]


def _check_written(entry: WeightEntry, wanted: np.ndarray, state: Mapping[str, np.ndarray]) -> None:
    """Raise WeightMapError unless `state` still gives `wanted` for the entry."""
    sources = _take(state, entry)
    got = entry.to_target(sources)
    # What a source of fewer bits cannot hold is no conflict.
    narrow = np.asarray(wanted).astype(got.dtype)
    if not np.array_equal(got, narrow, equal_nan=got.dtype.kind in "fc"):
        raise WeightMapError(
            f"{entry.target}: another target weight is the same weight "
            f"{', '.join(entry.sources)} in the source, but the two now hold different values; "
            "tie them in the target before training, or push only one"
        )


def _plain(value: Any) -> Any:
    """Whatever json cannot write, as something that it can: numpy numbers, sizes, dtypes."""
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def _frozen(record: dict[str, Any]) -> dict[str, Any]:
    return {key: freeze(value) for key, value in record.items()}


def resolve(root: Any, path: str) -> Any:
    """The object at an attribute path below a live Keras layer or model, by getattr and index.

    `root` is a Layer or a model. In a Functional or Sequential model, nested ones included, the first part of
    the path is a layer's name. List items are named by index, dict items by key. Raises WeightMapError naming the
    part that is missing. A graph (``runtime.graphs``) names its weights itself.
    """
    named_weights = getattr(root, "named_weights", {})
    if path in named_weights:
        return named_weights[path]
    parts = path.split(".") if path else []
    value, done = root, 0
    while done < len(parts):
        named = _named_layer(value, parts[done:])
        if named is not None:
            value, length = named
            done += length
            continue
        where = ".".join(parts[:done]) or type(root).__name__
        value = _step_into(value, parts[done], where, path)
        done += 1
    return value


def _named_layer(model: Any, parts: list[str]) -> tuple[Any, int] | None:
    """The layer of a Functional or Sequential model whose name is the longest prefix of `parts`, and its length.

    Names go before attributes: a layer may well be called `output`, as the model's property is. A model with a
    `call` of its own is known by its attributes.
    """
    if not hasattr(model, "get_layer"):
        return None
    if not (hasattr(model, "operations") or hasattr(model, "_functional")):
        return None
    names = {layer.name: layer for layer in model.layers}
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            return names[name], length
    return None


def _step_into(value: Any, part: str, where: str, path: str) -> Any:
    if hasattr(value, part):
        return getattr(value, part)
    try:
        if isinstance(value, Mapping):
            return value[part]
        if part.lstrip("-").isdigit():
            return value[int(part)] if hasattr(value, "__getitem__") else value.layers[int(part)]
    except (KeyError, IndexError, AttributeError):
        pass
    raise WeightMapError(
        f"expected {part!r} in {where} (path {path}), {type(value).__name__} has none; "
        "the model and the weight map are not of the same translation"
    )
