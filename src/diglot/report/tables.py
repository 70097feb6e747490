"""The figures of the weight table and of the model summary, ready to print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WeightRow:
    """One target weight and where it comes from."""

    target: str
    sources: tuple[str, ...]
    transform: str
    source_shape: str
    shape: str
    size: int
    dtype: str
    kind: str


@dataclass(frozen=True)
class ModuleRow:
    """One layer, on both sides."""

    path: str
    name: str
    depth: int
    source_class: str
    target_class: str
    shape: str
    source_params: int | None
    target_params: int | None
    leaf: bool
    share: float


@dataclass(frozen=True)
class Totals:
    """Numbers of weights on both sides, counted from the weight map (shared weights once)."""

    source_parameters: int
    target_parameters: int
    source_buffers: int
    target_buffers: int
    tensors: int


def shape_text(shape: Any) -> str:
    """``[64, "s0"]`` as ``64 × s0``; ``scalar`` for an empty shape, ``—`` where unknown."""
    if shape is None:
        return "—"
    return " × ".join(str(size) for size in shape) if len(shape) else "scalar"


def _size(shape: Sequence[Any] | None) -> int:
    return math.prod(int(size) for size in shape or [] if isinstance(size, int))


def step_text(step: Sequence[Any]) -> str:
    """One transform step of the weight map in words."""
    name, *arguments = step
    if name == "permute":
        order = [int(axis) for axis in arguments[0]]
        return "transpose" if order == [1, 0] else f"permute ({', '.join(map(str, order))})"
    if name == "slice" and len(arguments) == 3:
        axis, start, stop = arguments
        return f"[{start}:{stop}] of axis {axis}"
    if name == "reshape":
        return f"reshape ({', '.join(str(size) for size in arguments[0])})"
    if name == "blocks" and len(arguments) == 2:
        axis, order = arguments
        return f"blocks ({', '.join(str(block) for block in order)}) of axis {axis}"
    return " ".join(str(part) for part in step)


def transform_text(entry: Mapping[str, Any]) -> str:
    """What happens to the source weight(s) on the way, "as it is" for nothing."""
    parts = [step_text(step) for step in entry.get("steps") or []]
    combine = entry.get("combine")
    if combine:
        name, _, axis = str(combine).partition(":")
        parts.append(f"{name} of {len(entry.get('sources') or [])}")
        if axis:
            parts[-1] += f" along axis {axis}"
    return ", then ".join(parts) or "as it is"


def weight_rows(weight_map: Mapping[str, Any]) -> list[WeightRow]:
    """One row per entry of the weight map, in its order."""
    rows = []
    for entry in weight_map.get("entries") or []:
        kind = str(entry.get("kind") or "parameter")
        if kind == "parameter" and entry.get("trainable") is False:
            kind = "frozen"
        shapes = entry.get("source_shapes") or []
        rows.append(
            WeightRow(
                target=str(entry.get("target") or ""),
                sources=tuple(str(name) for name in entry.get("sources") or []),
                transform=transform_text(entry),
                source_shape=", ".join(dict.fromkeys(shape_text(shape) for shape in shapes)),
                shape=shape_text(entry.get("shape")),
                size=_size(entry.get("shape")),
                dtype=str(entry.get("dtype") or ""),
                kind=kind,
            )
        )
    return rows


def totals(weight_map: Mapping[str, Any]) -> Totals:
    """Parameter and buffer counts of both sides."""
    entries = weight_map.get("entries") or []
    sources: dict[str, tuple[str, int]] = {}
    target = {"parameter": 0, "buffer": 0}
    for entry in entries:
        kind = "buffer" if entry.get("kind") == "buffer" else "parameter"
        target[kind] += _size(entry.get("shape"))
        shapes = entry.get("source_shapes") or []
        for name, shape in zip(entry.get("sources") or [], shapes, strict=False):
            sources[name] = (kind, _size(shape))
    source = {
        kind: sum(size for own, size in sources.values() if own == kind)
        for kind in ("parameter", "buffer")
    }
    return Totals(
        source["parameter"], target["parameter"], source["buffer"], target["buffer"], len(entries)
    )


def module_rows(
    summary: Sequence[Mapping[str, Any]], symbols: Mapping[str, Any] | None = None
) -> list[ModuleRow]:
    """Rows of the model summary; ``symbols`` is ``dynamic`` of translation.json.

    Dynamic sizes are shown by the name that the user knows (``batch``, not ``s0``).
    """
    names = {
        symbol: str((about or {}).get("name") or symbol)
        for symbol, about in (symbols or {}).items()
    }
    paths = [str(item.get("module") or "") for item in summary]
    parents = {path.rsplit(".", k)[0] for path in paths for k in range(1, path.count(".") + 1)}
    if any(paths):
        parents.add("")
    largest = max(
        (int(item.get("target_params") or 0) for item, p in zip(summary, paths, strict=True)
         if p not in parents),
        default=0,
    )  # fmt: skip
    rows = []
    for item, path in zip(summary, paths, strict=True):
        shape = item.get("output_shape")
        if isinstance(shape, list | tuple):
            shape = [names.get(str(size), size) for size in shape]
        count = item.get("target_params")
        leaf = path not in parents
        rows.append(
            ModuleRow(
                path=path,
                name=_tail(path, parents & set(paths)),
                depth=_depth(path, parents & set(paths)),
                source_class=str(item.get("source_class") or "—").rsplit(".", 1)[-1],
                target_class=str(item.get("target_class") or "—").rsplit(".", 1)[-1],
                shape=shape_text(shape),
                source_params=item.get("source_params"),
                target_params=count,
                leaf=leaf,
                share=(int(count or 0) / largest) if leaf and largest else 0.0,
            )
        )
    return rows


def _ancestors(path: str, listed: set[str]) -> list[str]:
    """The listed modules that hold ``path``, outermost first, the root left out."""
    parts = path.split(".")
    heads = [".".join(parts[:k]) for k in range(1, len(parts))]
    return [head for head in heads if head in listed]


def _depth(path: str, listed: set[str]) -> int:
    return len(_ancestors(path, listed))


def _tail(path: str, listed: set[str]) -> str:
    """``path`` below its nearest listed ancestor: what is left to say in an indented list."""
    above = _ancestors(path, listed)
    return path[len(above[-1]) + 1 :] if above else path or "(root)"
