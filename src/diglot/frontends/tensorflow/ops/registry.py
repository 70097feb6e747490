"""The table of TensorFlow ops: one record for each, with the torch function that it is and samples of its use.

A record's function takes a :class:`Call` (attributes, dtypes) and the op's inputs as values (see ``values.py``) and
returns a value, or a tuple where the op has several outputs. The samples drive one generic test: TensorFlow against
torch in float64 and float32, with dynamic sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import sizes, values
from diglot.frontends.tensorflow.values import Constant, Precision, Refused


@dataclass(frozen=True)
class Sample:
    """A use of the op: ``build(raw, x, …)`` calls ``tf.raw_ops`` (``raw``) on tensors made as ``inputs`` say.

    Inputs: ``"2,3,5"`` floats, ``"+2,3"`` positive ones, ``"<2,3"`` within (-1, 1), ``">2,3"`` above 1,
    ``"int64[2,3]<7"``, ``"bool[2,3]"``. What ``build`` writes itself is a constant of the graph. ``fixed`` says that
    the sizes are part of the graph.
    """

    build: Callable[..., Any]
    inputs: tuple[str, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Record:
    """One op: the function, its samples, and in what torch differs (``note``)."""

    op: str
    run: Callable[..., Any]
    samples: tuple[Sample, ...] = ()
    family: str = ""
    host: Callable[..., Any] | None = None  # for host values only
    note: str = ""


@dataclass
class Call:
    """What a record's function may ask for: the node's attributes and the precision that is computed in.

    ``sizes_only`` while the graph is lowered: of a tensor only shape and dtype are read.
    """

    name: str
    op: str
    attrs: dict[str, Any]
    precision: Precision = field(default_factory=Precision)
    sizes_only: bool = False

    def dtype(self, key: str = "T") -> torch.dtype:
        """The torch dtype of a type attribute."""
        return values.torch_dtype(self.attrs[key], self.precision)

    def tensor(self, value: Any, like: torch.Tensor | None = None) -> torch.Tensor:
        return values.tensor(value, self.precision, like)

    def operand(self, value: Any, like: torch.Tensor | None = None) -> Any:
        """A tensor, or the Python number of a scalar constant, for functions that take either."""
        single = values.number(value)
        return single if single is not None else self.tensor(value, like)


TABLE: dict[str, Record] = {}
REFUSED: dict[str, str] = {}


def op(
    *names: str, samples: tuple[Sample, ...] = (), host: Callable | None = None, note: str = ""
) -> Callable[[Callable], Callable]:
    """Register a function as the meaning of the ops ``names``. Registering an op twice is an error."""

    def register(function: Callable) -> Callable:
        for name in names:
            if name in TABLE or name in REFUSED:
                raise ValueError(f"the TensorFlow op {name} is registered twice")
            family = function.__module__.rpartition(".")[2]
            TABLE[name] = Record(name, function, samples, family, host, note)
        return function

    return register


def refuse(reason: str, *names: str) -> None:
    """Register ops that cannot be translated, with the reason."""
    for name in names:
        if name in TABLE or name in REFUSED:
            raise ValueError(f"the TensorFlow op {name} is registered twice")
        REFUSED[name] = reason


def load() -> None:
    """Import every family."""
    from diglot.frontends.tensorflow.ops import (  # noqa: F401
        arithmetic,
        array,
        comparison,
        creation,
        image,
        indexing,
        linalg,
        lists,
        math,
        nn,
        pooling,
        quantisation,
        random,
        reduction,
        refused,
        signal,
        spatial,
    )


def evaluate(call: Call, arguments: list[Any]) -> Any:
    """Run one op: on the host when all of its inputs are there and it can, else on tensors."""
    record = TABLE[call.op]
    if record.host is not None and arguments and all(values.is_host(a) for a in arguments):
        result = record.host(call, *arguments)
        if result is not NotImplemented:
            return result
    made = record.run(call, *arguments)
    host = record.run if record.host is None else record.host
    return sizes.follow(call.op, functools.partial(host, call), arguments, made)


def host_numpy(function: Callable[..., Any]) -> Callable[..., Any]:
    """A host function for constants, from a numpy function: only where every argument holds plain numbers."""

    def run(call: Call, *arguments: Any) -> Any:
        arrays = [values.array_of(a) for a in arguments]
        if any(a is None for a in arrays):
            return NotImplemented
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays))
        kinds = {a.dtype for a, v in zip(arrays, arguments, strict=True) if isinstance(v, Constant)}  # type: ignore[union-attr]
        if len(kinds) == 1 and result.dtype.kind == next(iter(kinds)).kind:
            result = result.astype(next(iter(kinds)))
        return Constant(result)

    return run


__all__ = ["REFUSED", "TABLE", "Call", "Constant", "Record", "Refused", "Sample", "op", "refuse"]
