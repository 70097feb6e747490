"""Numbers that follow from sizes on a way through floats: ``ceil(cast(shape(x)[1:3], float32) / 8)``.

Tensors of such numbers remember them (``tensor.of_sizes``, an array of objects of the tensor's shape), so that what
they lead to is still known before anything runs: the length of a range, the sizes that boxes are divided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.values import Constant

#: More numbers than that are no sizes.
_FEW = 64


@dataclass(frozen=True)
class Ratio:
    """A size by a whole number; float32 divides sizes below 2**23 so exactly that rounding up or down is right."""

    numerator: Any
    denominator: int


def numbers(value: Any) -> np.ndarray | None:
    """The numbers of a value, as an array of objects of its shape; ``None`` where they depend on the data."""
    if isinstance(value, torch.Tensor):
        known = getattr(value, "of_sizes", None)
        size = getattr(value, "of_size", None)
        return _array([size], ()) if known is None and values.is_size(size) else known
    if isinstance(value, Constant):
        if value.array.size > _FEW or value.array.dtype.kind not in "iuf":
            return None
        return _array([v.item() for v in value.array.ravel()], value.array.shape)
    if isinstance(value, list):
        return _array(value, (len(value),))
    return _array([value], ()) if values.is_size(value) else None


def single(value: Any) -> Any:
    """The one number of a tensor that remembers it: an int or a symbolic one; else ``None``."""
    known = numbers(value) if isinstance(value, torch.Tensor) else None
    return known.item() if known is not None and known.size == 1 else None


def follow(op: str, host: Callable[..., Any], arguments: Sequence[Any], made: Any) -> Any:
    """What an op gave, which remembers its numbers where all that went into it do; whole ones are on the host.

    ``host`` is the op on constants.
    """
    parts = made if isinstance(made, tuple) else (made,)
    tensors = all(isinstance(part, torch.Tensor) for part in parts)
    if not tensors or not any(_remembers(a) for a in arguments):
        return made
    known = [numbers(a) for a in arguments]
    found: list[np.ndarray | None] = []
    each = _EACH.get(op)
    if op == "Cast":  # what is behind the point is cut off, and sizes are not negative
        each = (lambda a: a) if parts[0].is_floating_point() else _rounded_down
    if each is not None and all(k is not None for k in known):
        found = [_elementwise(each, known)]
    elif op in _MOVING:
        found = _moved(op, host, arguments, known)
    if len(found) != len(parts):
        return made
    noted = tuple(_noted(part, numbers) for part, numbers in zip(parts, found, strict=True))
    return noted if isinstance(made, tuple) else noted[0]


def _noted(made: torch.Tensor, found: np.ndarray | None) -> Any:
    if found is None or found.shape != tuple(made.shape):
        return made
    whole = all(values.is_size(v) for v in found.flat)
    if whole and found.ndim < 2 and made.dtype in (torch.int32, torch.int64):
        return list(found) if found.ndim else found.item()
    made.of_sizes = found  # type: ignore[attr-defined]
    return made


def _remembers(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return hasattr(value, "of_sizes") or values.is_size(getattr(value, "of_size", None))
    return values.is_host(value) and not isinstance(value, Constant)


def _array(items: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    made = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        made[place] = item
    return made.reshape(shape)


def _elementwise(function: Callable[..., Any], known: Sequence[Any]) -> np.ndarray | None:
    try:
        operands = np.broadcast_arrays(*known)
    except ValueError:
        return None
    found = [function(*items) for items in zip(*(o.flat for o in operands), strict=True)]
    return None if any(v is None for v in found) else _array(found, operands[0].shape)


def _moved(
    op: str, host: Callable[..., Any], arguments: Sequence[Any], known: Sequence[Any]
) -> list[np.ndarray | None]:
    """Where an op takes the numbers that it only moves: asked of it with their places for numbers."""
    count = _MOVING[op] or len(arguments)
    count += len(arguments) if count < 0 else 0
    if any(k is None for k in known[:count]) or not all(
        values.is_host(a) for a in arguments[count:]
    ):
        return []
    items: list[Any] = []
    places = []
    for array in known[:count]:
        places.append(Constant(np.arange(len(items), len(items) + array.size).reshape(array.shape)))
        items += list(array.flat)
    moved = host(*places, *arguments[count:])
    found = [values.array_of(part) for part in (moved if isinstance(moved, tuple) else (moved,))]
    return [None if f is None else _array([items[i] for i in f.flat], f.shape) for f in found]


# --- arithmetic ------------------------------------------------------------------------------------------


def _parts(value: Any) -> tuple[Any, int]:
    return (value.numerator, value.denominator) if isinstance(value, Ratio) else (value, 1)


def _is_whole(value: Any) -> bool:
    return values.is_size(value) or (isinstance(value, float) and value.is_integer())


def _ratio(numerator: Any, denominator: int) -> Any:
    return numerator if denominator == 1 else Ratio(numerator, denominator)


def _added(a: Any, b: Any, sign: int = 1) -> Any:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a + sign * b
    (n, d), (m, e) = _parts(a), _parts(b)
    if not (_is_whole(n) and _is_whole(m)):
        return None
    if d * e != 1 and (sign < 0 or any(isinstance(v, (int, float)) and v < 0 for v in (n, m))):
        return None  # it may be negative
    return _ratio(_whole(n) * e + sign * _whole(m) * d, d * e)


def _multiplied(a: Any, b: Any) -> Any:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a * b
    if not isinstance(b, (int, float)):
        a, b = b, a
    if not isinstance(b, (int, float)):
        return None if Ratio in (type(a), type(b)) else a * b
    n, d = _parts(a)
    if b < 0 and d != 1:
        return None
    if _is_whole(b):
        return _ratio(n * int(b), d)
    return _divided(a, 1 / b) if b > 0 and _is_whole(1 / b) else None


def _divided(a: Any, b: Any) -> Any:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a / b if b else None
    n, d = _parts(a)
    if not isinstance(b, (int, float)) or not _is_whole(b) or b <= 0 or not _is_whole(n):
        return None
    return _ratio(_whole(n), d * int(b))


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


def _rounded_up(a: Any) -> Any:
    if isinstance(a, Ratio):
        return (a.numerator + a.denominator - 1) // a.denominator
    return math.ceil(a) if isinstance(a, float) else a


def _rounded_down(a: Any) -> Any:
    if isinstance(a, Ratio):
        return a.numerator // a.denominator
    return math.floor(a) if isinstance(a, float) else a


#: What is done to each number.
_EACH: dict[str, Callable[..., Any]] = {
    "Add": _added,
    "AddV2": _added,
    "Sub": lambda a, b: _added(a, b, -1),
    "Mul": _multiplied,
    "RealDiv": _divided,
    "Ceil": _rounded_up,
    "Floor": _rounded_down,
    "FloorDiv": lambda a, b: None if (c := _divided(a, b)) is None else _rounded_down(c),
    "Identity": lambda a: a,
}
#: Ops that move numbers, and how many of their inputs hold these (0: all, -1: all but the last).
_MOVING = {
    "Reshape": 1, "ExpandDims": 1, "Squeeze": 1, "StridedSlice": 1, "Slice": 1, "GatherV2": 1, "Transpose": 1,
    "Unpack": 1, "Pack": 0, "ConcatV2": -1,
}  # fmt: skip
