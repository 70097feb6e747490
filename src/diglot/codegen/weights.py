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

from diglot.errors import BadInput

FORMAT = 1

Shape = tuple[int, ...]
Step = tuple[Any, ...]


class WeightMapError(BadInput):
    """A weight map that does not fit the arrays, the file or the model it is used with."""


# --- steps: ["slice", axis, start, stop], ["permute", [...]], ["reshape", [...]],
#     ["blocks", axis, [order]] ---------------------------------------------------------------


def _forward(step: Step, array: np.ndarray) -> np.ndarray:
    """Apply one step to `array`; raises WeightMapError for a step that does not exist."""
    kind = step[0]
    if kind == "slice":
        _, axis, start, stop = step
        index = [slice(None)] * array.ndim
        index[axis] = slice(start, stop)
        return array[tuple(index)]
    if kind == "permute":
        return np.transpose(array, step[1])
    if kind == "reshape":
        return np.reshape(array, step[1])
    if kind == "blocks":
        _, axis, order = step
        blocks = np.split(array, len(order), axis=axis)
        return np.concatenate([blocks[i] for i in order], axis=axis)
    raise WeightMapError(
        f"expected a step slice, permute, reshape or blocks, received {kind!r}; "
        "the weight map was written by a newer Diglot: upgrade it"
    )


def _backward(step: Step, array: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Undo one step: `before` is the value that the step is applied to at present (any values,
    its shape counts; for a slice, the part outside the slice is kept from it)."""
    kind = step[0]
    if kind == "slice":
        _, axis, start, stop = step
        index = [slice(None)] * before.ndim
        index[axis] = slice(start, stop)
        result = np.array(before)
        result[tuple(index)] = array
        return result
    if kind == "permute":
        return np.transpose(array, np.argsort(step[1]))
    if kind == "reshape":
        return np.reshape(array, before.shape)
    if kind == "blocks":
        _, axis, order = step
        return _forward(("blocks", axis, [int(i) for i in np.argsort(order)]), array)
    return _forward(step, array)  # raises: unknown


def _freeze(value: Any) -> Any:
    """Lists to tuples, all the way down, so that entries read from JSON equal the written ones."""
    if isinstance(value, (list, tuple)):
        return tuple(_freeze(item) for item in value)
    return value


@dataclass(frozen=True)
class WeightEntry:
    """One target weight and the source weights that it is made of.

    Every source first passes through `steps`; then `combine` makes one array of them: None (there
    is one source), "sum", "stack" (a new axis 0) or "concat:AXIS".
    """

    target: str
    sources: Sequence[str]
    shape: Sequence[int]
    source_shapes: Sequence[Sequence[int]]
    combine: str | None = None
    steps: Sequence[Step] = ()
    dtype: str = "float32"
    trainable: bool = True
    kind: str = "parameter"

    def __post_init__(self) -> None:
        """Freeze the sequences and check the fields against each other; raises WeightMapError."""
        for name in ("sources", "shape", "source_shapes", "steps"):
            object.__setattr__(self, name, _freeze(tuple(getattr(self, name))))
        known = self.combine in (None, "sum", "stack") or str(self.combine).startswith("concat:")
        if not known:
            raise WeightMapError(
                f"{self.target}: expected combine null, sum, stack or concat:AXIS, "
                f"received {self.combine!r}"
            )
        if not self.sources or (self.combine is None and len(self.sources) != 1):
            raise WeightMapError(
                f"{self.target}: {len(self.sources)} sources need a way to combine them"
            )
        if len(self.source_shapes) != len(self.sources):
            raise WeightMapError(
                f"{self.target}: {len(self.sources)} sources but "
                f"{len(self.source_shapes)} source shapes"
            )

    # -- source to target ---------------------------------------------------------------------

    def to_target(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The target array (shape `shape`, dtype of the sources) from the source arrays, in order.

        Raises WeightMapError where a shape is not the one that the map was written for.
        """
        parts = self._parts(arrays)
        if self.combine is None:
            result = parts[0]
        elif self.combine == "sum":
            result = parts[0]
            for part in parts[1:]:
                result = result + part
        elif self.combine == "stack":
            result = np.stack(parts)
        else:
            result = np.concatenate(parts, axis=self._concat_axis)
        if result.shape != tuple(self.shape):
            raise WeightMapError(
                f"{self.target}: expected shape {list(self.shape)}, its steps give "
                f"{list(result.shape)}"
            )
        return np.ascontiguousarray(result).reshape(self.shape)

    def gradient_to_target(self, gradients: Sequence[np.ndarray], rtol: float = 1e-9) -> np.ndarray:
        """The target's gradient from the sources' gradients.

        As `to_target`, but where sources are summed each of them has the target's own gradient:
        the first is returned, after a check that the others agree within `rtol` of the largest
        element. Raises WeightMapError where they do not.
        """
        if self.combine != "sum":
            return self.to_target(gradients)
        parts = self._parts(gradients)
        scale = max((float(np.max(np.abs(part))) for part in parts if part.size), default=0.0)
        for name, part in zip(self.sources[1:], parts[1:], strict=True):
            gap = float(np.max(np.abs(part - parts[0]))) if part.size else 0.0
            if gap > rtol * scale:
                raise WeightMapError(
                    f"{self.target}: the gradients of {self.sources[0]} and {name} differ by "
                    f"{gap:.3g}, although the two weights are added"
                )
        return np.ascontiguousarray(parts[0]).reshape(self.shape)

    # -- target to source ---------------------------------------------------------------------

    def to_source(self, target: np.ndarray, current: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The source arrays (their shapes and dtypes) that make `to_target` give `target`.

        `current` holds the present source arrays: what the target does not determine is kept
        from them (the part outside a slice; how a sum is shared out). Nothing is written in place.
        """
        target = np.asarray(target)
        if target.shape != tuple(self.shape):
            raise WeightMapError(
                f"{self.target}: expected shape {list(self.shape)}, received {list(target.shape)}"
            )
        parts = self._split(target, self._parts(current))
        if parts is None:
            return [np.array(array) for array in current]
        results = []
        for part, array in zip(parts, current, strict=True):
            befores = [np.asarray(array)]
            for step in self.steps:
                befores.append(_forward(step, befores[-1]))
            value = part
            for step, before in zip(reversed(self.steps), reversed(befores[:-1]), strict=True):
                value = _backward(step, value, before)
            results.append(np.array(value, dtype=befores[0].dtype, order="C"))
        return results

    def _split(self, target: np.ndarray, parts: list[np.ndarray]) -> list[np.ndarray] | None:
        """Undo `combine`; None where the present parts already add up to `target`."""
        if self.combine is None:
            return [target]
        if self.combine == "sum":
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            if np.array_equal(total.astype(target.dtype), target):
                return None
            others = total - parts[0] if len(parts) > 2 else parts[-1]
            return [target - others, *parts[1:]] if len(parts) > 1 else [target]
        if self.combine == "stack":
            return list(target)
        axis = self._concat_axis
        ends = np.cumsum([part.shape[axis] for part in parts])[:-1]
        return list(np.split(target, ends, axis=axis))

    def _parts(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Every source after `steps`, its shape checked first."""
        if len(arrays) != len(self.sources):
            raise WeightMapError(
                f"{self.target}: expected {len(self.sources)} source arrays, received {len(arrays)}"
            )
        parts = []
        for name, shape, array in zip(self.sources, self.source_shapes, arrays, strict=True):
            value = np.asarray(array)
            if value.shape != tuple(shape):
                raise WeightMapError(
                    f"{name}: expected shape {list(shape)}, received {list(value.shape)}"
                )
            for step in self.steps:
                value = _forward(step, value)
            parts.append(value)
        return parts

    @property
    def _concat_axis(self) -> int:
        return int(str(self.combine).partition(":")[2])


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
    tensor that they return, in order. `target` is an attribute path, as in WeightEntry."""

    source: str
    target: str
    source_class: str = ""
    target_class: str = ""
    file: str | None = None
    line: int | None = None
    outputs: Sequence[Sequence[int] | None] = (None,)


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
    direction: str = "torch->keras"

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
                perms = tuple(_freeze(output["perm"]) for output in record["outputs"])
                modules.append(ModulePair(**{**record, "outputs": perms}))
            return cls(
                entries=[WeightEntry(**record) for record in document["entries"]],
                root=document["root"],
                unmapped=document.get("unmapped", []),
                inputs=[TensorSpec(**_frozen(record)) for record in document["inputs"]],
                outputs=[TensorSpec(**_frozen(record)) for record in document["outputs"]],
                structure=document["structure"],
                modules=modules,
                direction=document.get("direction", "torch->keras"),
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
    return {key: _freeze(value) for key, value in record.items()}


def resolve(root: Any, path: str) -> Any:
    """The object at an attribute path below a live Keras layer or model, by getattr and index.

    `root` is a Layer, or a Functional model, where the first part of the path is a layer's name.
    List items are named by index, dict items by key. Raises WeightMapError naming the part that
    is missing.
    """
    parts = path.split(".") if path else []
    value = root
    if parts and hasattr(root, "operations") and hasattr(root, "get_layer"):
        value, parts = _named_layer(root, parts)
    for done, part in enumerate(parts):
        value = _step_into(value, part, ".".join(parts[:done]) or type(root).__name__, path)
    return value


def _named_layer(model: Any, parts: list[str]) -> tuple[Any, list[str]]:
    """The layer of a Functional model whose name is the longest prefix of `parts`, and the rest.

    Names go before attributes: a layer may well be called `output`, as the model's property is.
    """
    names = {layer.name: layer for layer in model.layers}
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in names:
            return names[name], parts[length:]
    return model, parts


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
