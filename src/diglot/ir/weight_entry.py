"""One entry of the weight map: which target weight holds which source weights, and how, both ways.

Only numpy is needed here: entries are made by frontends and by the writer, and applied in processes that hold one
framework or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diglot.errors import BadInput

Shape = tuple[int, ...]
Step = tuple[Any, ...]


class WeightMapError(BadInput):
    """A weight map that does not fit the arrays, the file or the model it is used with."""


# --- steps: ["slice", axis, start, stop], ["permute", [...]], ["reshape", [...]],
#     ["blocks", axis, [order]] ---------------------------------------------------------------


def forward_step(step: Step, array: np.ndarray) -> np.ndarray:
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


def backward_step(step: Step, array: np.ndarray, before: np.ndarray) -> np.ndarray:
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
        return forward_step(("blocks", axis, [int(i) for i in np.argsort(order)]), array)
    return forward_step(step, array)  # raises: unknown


def freeze(value: Any) -> Any:
    """Lists to tuples, all the way down, so that entries read from JSON equal the written ones."""
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


@dataclass(frozen=True)
class WeightEntry:
    """One target weight and the source weights that it is made of.

    Every source first passes through `steps`; then `combine` makes one array of them: None (there
    is one source), "sum", "stack" (a new axis 0) or "concat:AXIS". A buffer that is not `persistent`
    is no part of PyTorch's state dict. ``written`` is a weight that the model itself writes to when it is called.
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
    persistent: bool = True
    written: bool = False

    def __post_init__(self) -> None:
        """Freeze the sequences and check the fields against each other; raises WeightMapError."""
        for name in ("sources", "shape", "source_shapes", "steps"):
            object.__setattr__(self, name, freeze(tuple(getattr(self, name))))
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

    @property
    def changes(self) -> bool:
        """Whether a call of the model may give it other values."""
        return self.kind == "buffer" or self.written

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
                befores.append(forward_step(step, befores[-1]))
            value = part
            for step, before in zip(reversed(self.steps), reversed(befores[:-1]), strict=True):
                value = backward_step(step, value, before)
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
                value = forward_step(step, value)
            parts.append(value)
        return parts

    @property
    def _concat_axis(self) -> int:
        return int(str(self.combine).partition(":")[2])


def settle(model: Any) -> None:
    """Let the layers of a live Keras model take up weights that were assigned, as Keras does where it loads them.

    Normalization computes with what it has made of its weights, not with these.
    """
    for layer in model._flatten_layers():
        if type(layer).__name__ == "Normalization" and hasattr(layer, "adapt_mean"):
            layer.finalize_state()
