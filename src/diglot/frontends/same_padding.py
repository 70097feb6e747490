"""``padding="same"`` of TensorFlow: one op for where what it adds depends on the sizes of a call.

A program for PyTorch has a function for it (``diglot.carried.same_padding``); captured again, that function is this op.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F

from diglot.carried import same_padding
from diglot.ir.windows import is_fixed, total

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("pad_same(Tensor x, int[] window, int[] stride, float value) -> Tensor")


def _shape(
    x: torch.Tensor, window: Sequence[int], stride: Sequence[int], value: float
) -> torch.Tensor:
    sizes = [_padded(*each) for each in zip(x.shape[2:], window, stride, strict=True)]
    return x.new_empty(*x.shape[:2], *sizes)


def _padded(size: Any, window: int, stride: int) -> Any:
    padded = ((size + stride - 1) // stride - 1) * stride + window
    if window >= stride:
        return padded
    return max(padded, size) if isinstance(size, int) else torch.sym_max(padded, size)


_LIBRARY.impl("pad_same", same_padding.pad_same, "CompositeExplicitAutograd")
torch.library.register_fake("diglot::pad_same", _shape, lib=_LIBRARY)
# What passes/same_padding.py makes of a padding and the pooling behind it, for Keras.
_LIBRARY.define("pool_same(Tensor x, int[] window, int[] stride, str kind) -> Tensor")


def pad_same(
    x: torch.Tensor, windows: Sequence[int], strides: Sequence[int], value: float = 0.0
) -> torch.Tensor:
    """Pad the spatial axes of an NCHW tensor; the odd one goes to the end."""
    axes = list(zip(x.shape[2:], windows, strides, strict=True))
    if not all(is_fixed(*axis) for axis in axes):
        return torch.ops.diglot.pad_same(x, list(windows), list(strides), value)
    pads: list[int] = []
    for size, window, stride in reversed(axes):
        added = total(1 if stride == 1 or window == 1 else size, window, stride)
        pads += [added // 2, added - added // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


@contextlib.contextmanager
def as_one_op(model: torch.nn.Module) -> Iterator[None]:
    """Capture calls of a program's own ``pad_same`` as the op, whose sizes are short to say."""
    carried = same_padding.pad_same
    forwards = [getattr(type(module).forward, "__globals__", {}) for module in model.modules()]
    found = [
        (names, name, value)
        for names in {id(names): names for names in forwards}.values()
        for name, value in names.items()
        if isinstance(value, FunctionType) and value is not carried and _alike(value, carried)
    ]
    for names, name, _ in found:
        names[name] = _called
    try:
        yield
    finally:
        for names, name, value in found:
            names[name] = value


def _alike(function: FunctionType, other: FunctionType) -> bool:
    """Whether two functions are one text, compiled."""
    a, b = function.__code__, other.__code__
    texts = [(c.co_code, c.co_names, c.co_varnames, c.co_consts[1:]) for c in (a, b)]
    return texts[0] == texts[1] and function.__defaults__ == other.__defaults__


def _called(
    x: torch.Tensor, window: Sequence[int], stride: Sequence[int], value: float = 0.0
) -> torch.Tensor:
    return torch.ops.diglot.pad_same(x, list(window), list(stride), value)
