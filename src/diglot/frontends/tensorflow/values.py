"""What flows along a graph's edges when it runs in torch.

A value is a ``torch.Tensor``; or, on the host, a :class:`Constant` (a constant node's array), an ``int`` or ``SymInt``
(a scalar that is a size) or a list of them (a shape). Shape arithmetic stays on the host, so ``torch.export`` sees
sizes, not tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from diglot.literals import intended


class Refused(Exception):
    """The op cannot be translated as it is used here; the text says why and what to do."""


@dataclass
class Constant:
    """A constant of the graph: its array, and the buffer that holds it where it is used as a tensor."""

    array: np.ndarray
    tensor: torch.Tensor | None = None


@dataclass
class Lacking:
    """The value of an output that torch has no form for; the text says why. Only its use is a problem."""

    reason: str


class Precision:
    """The float dtype that a module tree computes in: ``float32`` of the graph means this one."""

    def __init__(self) -> None:
        self.dtype = torch.float32

    def __deepcopy__(self, memo: dict) -> Precision:
        copy = Precision()
        memo[id(self)] = copy
        return copy


#: TensorFlow's dtypes in torch. Integers of 32 bits become torch's index dtype.
DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "bool": torch.bool,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int64,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.int64,
    "uint32": torch.int64,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}


def torch_dtype(name: str, precision: Precision) -> torch.dtype:
    """The torch dtype of a TensorFlow dtype's name. Raises :class:`Refused` for one that torch lacks."""
    if name == "float32":
        return precision.dtype
    if name == "complex64" and precision.dtype == torch.float64:
        return torch.complex128
    if name not in DTYPES:
        raise Refused(f"torch has no dtype {name}")
    return DTYPES[name]


def is_size(value: Any) -> bool:
    """Tell whether a value is a number on the host: an int or a symbolic one."""
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def is_host(value: Any) -> bool:
    return isinstance(value, (Constant, list)) or is_size(value)


def array_of(value: Any) -> np.ndarray | None:
    """The array of a host value that holds plain numbers only, else ``None``."""
    if isinstance(value, Constant):
        return value.array
    if isinstance(value, list) and all(type(v) is int for v in value):
        return np.asarray(value, dtype=np.int64)
    if type(value) is int:
        return np.asarray(value, dtype=np.int64)
    return None


def ints(value: Any, what: str = "a size") -> list[Any]:
    """A host value as a list of ints (a scalar gives one). Raises :class:`Refused` for a tensor's values."""
    if isinstance(value, list):
        return list(value)
    if is_size(value):
        return [value]
    if isinstance(value, Constant):
        return [int(v) for v in np.ravel(value.array)]
    raise Refused(
        f"{what} comes from the values of a tensor; the model must compute it from shapes or constants"
    )


def integer(value: Any, what: str = "a size") -> Any:
    """A host value that is one integer."""
    return ints(value, what)[0]


def number(value: Any) -> Any:
    """A host scalar as the Python number that the author wrote (0.1, not 0.10000000149011612), else ``None``."""
    if is_size(value):
        return value
    if not isinstance(value, Constant) or value.array.ndim:
        return None
    array = value.array
    if array.dtype.kind == "b":
        return bool(array)
    if array.dtype.kind in "iu":
        return int(array)
    if array.dtype.kind == "f":
        return intended(array[()])
    return None


def of_size(size: Any, dtype: torch.dtype) -> torch.Tensor:
    """A size as a tensor, of which :func:`bound` knows the size."""
    made = torch.full((), size, dtype=dtype)
    made.of_size = size  # type: ignore[attr-defined]
    return made


def bound(value: Any) -> Any:
    """A number, or a size that was cast or compared, on the host; ``None`` for what depends on the data."""
    if not isinstance(value, torch.Tensor):
        return number(value)
    known = getattr(value, "of_sizes", None)
    if (
        known is not None
        and known.size == 1
        and isinstance(known.item(), (int, float, torch.SymInt))
    ):
        return known.item()
    return getattr(value, "of_size", None)


def tensor(value: Any, precision: Precision, like: torch.Tensor | None = None) -> torch.Tensor:
    """Any value as a tensor, on the device of ``like``."""
    if isinstance(value, torch.Tensor):
        return value
    device = None if like is None else like.device
    if isinstance(value, Constant):
        if value.tensor is not None:
            return value.tensor
        single = number(value)
        if single is not None:
            dtype = torch_dtype(value.array.dtype.name, precision)
            return torch.full((), single, dtype=dtype, device=device)
        if value.array.dtype.kind not in "biufc":
            raise Refused("torch has no tensors of strings")
        dtype = torch_dtype(value.array.dtype.name, precision)
        return torch.tensor(value.array.tolist(), dtype=dtype, device=device).reshape(
            value.array.shape
        )
    if isinstance(value, list):
        if not value:
            return torch.zeros(0, dtype=torch.int64, device=device)
        return torch.stack([tensor(v, precision, like) for v in value])
    if isinstance(value, (int, torch.SymInt)):
        return torch.full((), value, dtype=torch.int64, device=device)
    raise Refused(f"expected a tensor, received {type(value).__name__}")


def rank(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.dim()
    if isinstance(value, Constant):
        return value.array.ndim
    return 1 if isinstance(value, list) else 0


def axes(value: Any, dims: int) -> list[int]:
    """Axes from a host value, none negative."""
    return [a + dims if a < 0 else a for a in ints(value, "an axis")]


def same_size(a: Any, b: Any) -> bool:
    """Tell whether two sizes are equal for certain, whatever the dynamic sizes are."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool(statically_known_true(a == b))


def same_shape(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(same_size(x, y) for x, y in zip(a, b, strict=True))
