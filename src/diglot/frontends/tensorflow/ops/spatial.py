"""Blocks of space moved to other axes."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import sympy
import torch
from torch.utils._sympy.functions import FloorDiv

from diglot.frontends.tensorflow import geometry, values
from diglot.frontends.tensorflow.ops.array import pad_list, reshaped
from diglot.frontends.tensorflow.ops.registry import Call, Sample, op


@op(
    "SpaceToDepth",
    samples=(Sample(lambda r, x: r.SpaceToDepth(input=x, block_size=2), ("2,4,6,3",)),),
)
def space_to_depth(call: Call, x: Any) -> Any:
    block = int(call.attrs["block_size"])
    x = geometry.inward(call.tensor(x), call.attrs)
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // block, block, w // block, block)
    done = parts.permute(0, 3, 5, 1, 2, 4).reshape(n, block * block * c, h // block, w // block)
    return geometry.outward(done, call.attrs)


@op(
    "DepthToSpace",
    samples=(Sample(lambda r, x: r.DepthToSpace(input=x, block_size=2), ("2,4,3,12",)),),
)
def depth_to_space(call: Call, x: Any) -> Any:
    block = int(call.attrs["block_size"])
    x = geometry.inward(call.tensor(x), call.attrs)
    n, c, h, w = x.shape
    inner = c // (block * block)
    parts = x.reshape(n, block, block, inner, h, w).permute(0, 3, 4, 1, 5, 2)
    return geometry.outward(parts.reshape(n, inner, h * block, w * block), call.attrs)


#: Of each run on fake tensors: quotients of sizes that leave no remainder, as a size was padded for it.
_WHOLE: WeakKeyDictionary[Any, set[Any]] = WeakKeyDictionary()


def _parted(size: Any, block: Any) -> Any:
    """``size // block``, known to leave no remainder."""
    parts = size // block
    if isinstance(parts, torch.SymInt):
        found = _WHOLE.setdefault(parts.node.shape_env, set())
        terms = sympy.Add.make_args(parts.node.expr)  # (n + 12) // 3 is n // 3 + 4
        found.update(t for t in terms if isinstance(t, FloorDiv) and t.args[1] == block)
    return parts


def _length(parts: Any, block: Any, cropped: Any) -> Any:
    """``parts * block - cropped``, as the size that was padded and parted for it where that is all there is.

    Left alone, ``(n + -n % 3) // 3 * 3 - -n % 3`` would grow with each of a stack of dilated convolutions.
    """
    size = parts * block - cropped
    if not isinstance(size, torch.SymInt):
        return size
    env, expression = size.node.shape_env, size.node.expr
    whole = expression.atoms(FloorDiv) & _WHOLE.get(env, set())
    plain = sympy.expand(expression.xreplace({q: q.args[0] / q.args[1] for q in whole}))
    is_whole = all(c.is_Integer for c in plain.as_coefficients_dict().values())
    return env.create_symintnode(plain, hint=size.node.hint) if is_whole else size


def _into_batch(
    x: torch.Tensor, block: list[Any], pads: list[Any], sizes_only: bool
) -> torch.Tensor:
    dims = len(block)
    pairs = [(0, 0), *zip(pads[::2], pads[1::2], strict=True)]
    if sizes_only:
        padded = [n + before + after for n, (before, after) in zip(x.shape, pairs, strict=False)]
        parts = [_parted(n, b) for n, b in zip(padded[1:], block, strict=True)]
        return x.new_empty([padded[0] * math.prod(block), *parts, *x.shape[1 + dims :]])
    amounts = pad_list(pairs + [(0, 0)] * (x.dim() - len(pairs)))
    x = torch.nn.functional.pad(x, amounts) if any(a != 0 for a in amounts) else x
    sizes = [x.shape[0]]
    for n, b in zip(x.shape[1:], block, strict=False):
        sizes += [n // b, b]
    rest = list(x.shape[1 + dims :])
    x = x.reshape(sizes + rest)
    inner = [2 * i + 2 for i in range(dims)]
    outer = [2 * i + 1 for i in range(dims)]
    tail = list(range(1 + 2 * dims, x.dim()))
    x = x.permute(*inner, 0, *outer, *tail)
    return x.reshape([sizes[0] * math.prod(block), *sizes[1::2], *rest])


def _out_of_batch(
    x: torch.Tensor, block: list[Any], crops: list[Any], sizes_only: bool
) -> torch.Tensor:
    dims, times = len(block), math.prod(block)
    batch, rest = x.shape[0] // times, list(x.shape[1:])
    pairs = list(zip(crops[::2], crops[1::2], strict=True))
    if sizes_only:
        cropped = [sum(pair) for pair in pairs]
        lengths = [_length(*found) for found in zip(rest, block, cropped, strict=False)]
        return x.new_empty([batch, *lengths, *rest[dims:]])
    x = x.reshape([*block, batch, *rest])
    order = [dims]
    for i in range(dims):
        order += [dims + 1 + i, i]
    x = x.permute(*order, *range(2 * dims + 1, x.dim()))
    sizes = [n * b for n, b in zip(rest, block, strict=False)]
    x = reshaped(x, [x.shape[0], *sizes, *rest[dims:]])
    for axis, (before, after) in enumerate(pairs, start=1):
        if before or after:
            x = geometry.cut(x, axis, before, x.shape[axis] - after)
    return x


@op(
    "SpaceToBatchND",
    samples=(
        Sample(
            lambda r, x: r.SpaceToBatchND(input=x, block_shape=[2, 3], paddings=[[0, 0], [1, 2]]),
            ("2,4,6,3",),
        ),
    ),
)
def space_to_batch(call: Call, x: Any, block: Any, pads: Any) -> Any:
    return _into_batch(call.tensor(x), values.ints(block), values.ints(pads), call.sizes_only)


@op(
    "BatchToSpaceND",
    samples=(
        Sample(
            lambda r, x: r.BatchToSpaceND(input=x, block_shape=[2, 3], crops=[[1, 0], [0, 2]]),
            ("12,4,6,3",),
            fixed=True,
        ),
    ),
)
def batch_to_space(call: Call, x: Any, block: Any, crops: Any) -> Any:
    return _out_of_batch(call.tensor(x), values.ints(block), values.ints(crops), call.sizes_only)


@op(
    "ExtractImagePatches",
    samples=(
        Sample(
            lambda r, x: r.ExtractImagePatches(
                images=x,
                ksizes=[1, 2, 3, 1],
                strides=[1, 2, 2, 1],
                rates=[1, 1, 1, 1],
                padding="VALID",
            ),
            ("2,6,7,3",),
        ),
    ),
)
def extract_image_patches(call: Call, x: Any) -> Any:
    x = call.tensor(x).permute(0, 3, 1, 2)
    high, wide = call.attrs["ksizes"][1:3]
    strides, rates = list(call.attrs["strides"][1:3]), list(call.attrs["rates"][1:3])
    windows = [(high - 1) * rates[0] + 1, (wide - 1) * rates[1] + 1]
    x = geometry.padded(x, call.attrs, windows, strides)
    n, c, h, w = x.shape
    rows = (h - windows[0]) // strides[0] + 1
    columns = (w - windows[1]) // strides[1] + 1
    parts = torch.nn.functional.unfold(x, (high, wide), dilation=rates, stride=strides)
    parts = parts.reshape(n, c, high * wide, rows, columns)
    return parts.permute(0, 3, 4, 2, 1).reshape(n, rows, columns, high * wide * c)
