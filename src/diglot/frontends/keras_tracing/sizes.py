"""Sizes that a model's code computes with while it is read: integers without a value yet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch


class Shape(tuple):
    """A tensor's shape: a tuple, as in Keras, that answers what TensorFlow's ``TensorShape`` does, too."""

    __slots__ = ()

    @property
    def rank(self) -> int:
        return len(self)

    ndims = rank

    def as_list(self) -> list[Any]:
        return list(self)


class Dtype(str):
    """A tensor's dtype: a name, as in Keras, that answers what TensorFlow's ``DType`` does, too."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        tf = sys.modules.get("tensorflow")
        if tf is None or name.startswith("_"):
            raise AttributeError(f"'str' object has no attribute {name!r}")
        return getattr(tf.as_dtype(str(self)), name)


#: What makes a tensor of TensorFlow's of a tracer or a size; set while a model is read.
as_tensorflow: list[Callable[[Any], Any]] = []


class Symbolic:
    """Something that TensorFlow may ask for as a tensor."""

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> Any:
        if not as_tensorflow:
            raise TypeError("a tensor of a model that is being read was kept and used afterwards")
        return as_tensorflow[-1](self)


class Size(Symbolic):
    """A dynamic size, as ``tf.shape(x)[0]`` gives it: an integer to compute with that has no value yet."""

    def __init__(self, number: Any) -> None:
        self.number = number

    shape = ()
    dtype = "int32"

    def __repr__(self) -> str:
        return f"<Size {self.number}>"

    def __index__(self) -> int:
        raise TypeError("a dynamic size has no value while the model is read")


class Sizes(Symbolic):
    """A shape some of whose sizes are dynamic."""

    dtype = "int32"

    def __init__(self, numbers: Sequence[Any]) -> None:
        self.numbers = list(numbers)

    @property
    def shape(self) -> tuple[int]:
        return (len(self.numbers),)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return iter([host(number) for number in self.numbers])

    def __getitem__(self, key: Any) -> Any:
        return host(self.numbers[key])

    def __repr__(self) -> str:
        return f"<Sizes {self.numbers}>"


def host(value: Any) -> Any:
    """A size, or a list of them, as the model's code sees it."""
    if isinstance(value, list):
        return Sizes(value)
    return value if isinstance(value, int) else Size(value)


def _operator(name: str) -> Callable[[Size, Any], Any]:
    def compute(self: Size, other: Any) -> Any:
        other = other.number if isinstance(other, Size) else other
        if isinstance(other, np.integer):
            other = int(other)
        if not isinstance(other, (int, torch.SymInt)):
            return NotImplemented
        made = getattr(self.number, name)(other)
        return made if not isinstance(made, torch.SymInt) else Size(made)

    return compute


for _name in "add sub mul floordiv mod radd rsub rmul rfloordiv rmod".split():
    setattr(Size, f"__{_name}__", _operator(f"__{_name}__"))
