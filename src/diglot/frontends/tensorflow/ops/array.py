"""Shapes and the arrangement of elements. Sizes stay on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from diglot.frontends.mirroring import mirrored
from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import (
    Call,
    Constant,
    Refused,
    Sample,
    host_numpy,
    op,
)


def shape_of(value: Any) -> list[Any]:
    """The sizes of any value."""
    if isinstance(value, torch.Tensor):
        return list(value.shape)
    if isinstance(value, Constant):
        return list(value.array.shape)
    return [len(value)] if isinstance(value, list) else []


@op(
    "Shape",
    samples=(
        Sample(
            lambda r, x: r.Reshape(tensor=x, shape=r.ReverseV2(tensor=r.Shape(input=x), axis=[0])),
            ("2,3",),
        ),
    ),
    host=lambda call, x: shape_of(x),
)
def shape(call: Call, x: Any) -> Any:
    return shape_of(x)


@op(
    "ShapeN",
    samples=(
        Sample(
            lambda r, x, y: r.Reshape(tensor=y, shape=r.ShapeN(input=[x, y])[0]), ("2,3", "3,2")
        ),
    ),
)
def shape_n(call: Call, *xs: Any) -> Any:
    return tuple(shape_of(x) for x in xs)


@op("Rank", samples=(Sample(lambda r, x: r.Fill(dims=[r.Rank(input=x)], value=1.5), ("2,3",)),))
def rank(call: Call, x: Any) -> Any:
    return values.rank(x)


@op("Size", samples=(Sample(lambda r, x: r.Reshape(tensor=x, shape=[r.Size(input=x)]), ("2,3",)),))
def size(call: Call, x: Any) -> Any:
    total: Any = 1
    for one in shape_of(x):
        total = total * one
    return total


def reshaped(x: torch.Tensor, sizes: Sequence[Any]) -> torch.Tensor:
    """``x`` in the given sizes; nothing where it has them already."""
    sizes = list(sizes)
    if -1 not in [s for s in sizes if isinstance(s, int)] and values.same_shape(x.shape, sizes):
        return x
    return x.reshape(sizes)


def _reshape_host(call: Call, x: Any, sizes: Any) -> Any:
    target = values.ints(sizes)
    if isinstance(x, Constant) and all(type(t) is int for t in target):
        return Constant(x.array.reshape(target))
    if len(target) == 0:
        return values.integer(x)
    return values.ints(x) if len(target) == 1 and not isinstance(x, Constant) else NotImplemented


@op(
    "Reshape",
    samples=(
        Sample(lambda r, x: r.Reshape(tensor=x, shape=[-1, 5]), ("2,3,5",)),
        Sample(lambda r, x: r.Reshape(tensor=x, shape=[3, -1]), ("3,2,2",), fixed=True),
    ),
    host=_reshape_host,
)
def reshape(call: Call, x: Any, sizes: Any) -> Any:
    return reshaped(call.tensor(x), values.ints(sizes))


@op(
    "ExpandDims",
    samples=(
        Sample(lambda r, x: r.ExpandDims(input=x, axis=-1), ("2,3",)),
        Sample(lambda r, x: r.ExpandDims(input=x, axis=1), ("2,3",)),
    ),
    host=lambda call, x, axis: (
        [x]
        if values.is_size(x)
        else host_numpy(lambda a, d: np.expand_dims(a, int(np.ravel(d)[0])))(call, x, axis)
    ),
)
def expand_dims(call: Call, x: Any, axis: Any) -> Any:
    return call.tensor(x).unsqueeze(values.integer(axis, "an axis"))


@op(
    "Squeeze",
    samples=(
        Sample(lambda r, x: r.Squeeze(input=x, axis=[-1]), ("2,3,1",), fixed=True),
        Sample(lambda r, x: r.Squeeze(input=x), ("1,3,1",), fixed=True),
    ),
)
def squeeze(call: Call, x: Any) -> Any:
    dims = call.attrs.get("squeeze_dims") or call.attrs.get("axis")
    if isinstance(x, Constant):
        return Constant(np.squeeze(x.array, tuple(dims) if dims else None))
    if isinstance(x, list):
        return x[0]
    x = call.tensor(x)
    if dims:
        return x.squeeze(tuple(dims)) if len(dims) > 1 else x.squeeze(dims[0])
    ones = tuple(i for i, s in enumerate(x.shape) if values.same_size(s, 1))
    return x.squeeze(ones) if ones else x


@op(
    "Transpose",
    samples=(
        Sample(lambda r, x: r.Transpose(x=x, perm=[2, 0, 1]), ("2,3,5",)),
        Sample(lambda r, x: r.Transpose(x=x, perm=[1, 0]), ("2,3",)),
    ),
    host=host_numpy(np.transpose),
)
def transpose(call: Call, x: Any, perm: Any) -> Any:
    x = call.tensor(x)
    order = values.axes(perm, x.dim())
    return x if order == sorted(order) else x.permute(order)


def _concat_host(call: Call, *arguments: Any) -> Any:
    parts, axis = _concat_parts(call, arguments)
    if all(isinstance(p, Constant) and p.array.ndim != 1 for p in parts):
        pairs = all(p.array.ndim == 2 and p.array.dtype.kind in "iu" for p in parts)
        if not pairs or sum(p.array.size for p in parts) > 16:
            return NotImplemented
        return host_numpy(lambda *a: np.concatenate(a, values.integer(axis)))(call, *parts)
    if any(isinstance(p, Constant) and p.array.dtype.kind not in "iu" for p in parts):
        return NotImplemented
    return [v for p in parts for v in values.ints(p)]


def _concat_parts(call: Call, arguments: Sequence[Any]) -> tuple[list[Any], Any]:
    if call.op == "ConcatV2":
        return list(arguments[:-1]), arguments[-1]
    return list(arguments[1:]), arguments[0]


@op(
    "ConcatV2",
    samples=(
        Sample(lambda r, x, y: r.ConcatV2(values=[x, y], axis=-1), ("2,3", "2,5")),
        Sample(lambda r, x, y: r.ConcatV2(values=[x, y, x], axis=1), ("2,3,4", "2,5,4")),
    ),
    host=_concat_host,
)
@op(
    "Concat",
    samples=(Sample(lambda r, x, y: r.Concat(concat_dim=1, values=[x, y]), ("2,3", "2,5")),),
    host=_concat_host,
)
def concat(call: Call, *arguments: Any) -> Any:
    parts, axis = _concat_parts(call, arguments)
    like = next((p for p in parts if isinstance(p, torch.Tensor)), None)
    tensors = [call.tensor(p, like) for p in parts]
    return torch.cat(tensors, values.axes(axis, tensors[0].dim())[0])


def _pack_host(call: Call, *parts: Any) -> Any:
    if all(values.is_size(p) or (values.rank(p) == 0 and _is_int(p)) for p in parts):
        return [values.integer(p) for p in parts]
    return host_numpy(lambda *a: np.stack(a, int(call.attrs.get("axis") or 0)))(call, *parts)


def _is_int(value: Any) -> bool:
    return isinstance(value, Constant) and value.array.dtype.kind in "iu"


@op(
    "Pack",
    samples=(
        Sample(lambda r, x, y: r.Pack(values=[x, y], axis=-1), ("2,3", "2,3")),
        Sample(lambda r, x, y: r.Pack(values=[x, y]), ("2,3", "2,3")),
    ),
    host=_pack_host,
)
def pack(call: Call, *parts: Any) -> Any:
    like = next((p for p in parts if isinstance(p, torch.Tensor)), None)
    return torch.stack([call.tensor(p, like) for p in parts], int(call.attrs.get("axis") or 0))


@op("ParallelConcat")
def parallel_concat(call: Call, *parts: Any) -> Any:
    return torch.cat([call.tensor(p) for p in parts], 0)


def _unpack_host(call: Call, x: Any) -> Any:
    if values.rank(x) == 1 and (not isinstance(x, Constant) or _is_int(x)):
        return tuple(values.ints(x))
    if not isinstance(x, Constant):
        return NotImplemented
    axis = int(call.attrs.get("axis") or 0)
    return tuple(Constant(np.asarray(part)) for part in np.moveaxis(x.array, axis, 0))


@op(
    "Unpack",
    samples=(Sample(lambda r, x: r.Unpack(value=x, num=3, axis=-2)[1], ("2,3,5",), fixed=True),),
    host=_unpack_host,
)
def unpack(call: Call, x: Any) -> Any:
    return tuple(call.tensor(x).unbind(int(call.attrs.get("axis") or 0)))


@op(
    "Split",
    samples=(Sample(lambda r, x: r.Split(axis=-1, value=x, num_split=3)[2], ("2,6",), fixed=True),),
)
def split(call: Call, axis: Any, x: Any) -> Any:
    x = call.tensor(x)
    dim = values.axes(axis, x.dim())[0]
    count = call.attrs["num_split"]
    return tuple(x.split(x.shape[dim] // count, dim)) if count > 1 else (x,)


@op(
    "SplitV",
    samples=(
        Sample(
            lambda r, x: r.SplitV(value=x, size_splits=[2, -1], axis=1, num_split=2)[1], ("2,6",)
        ),
    ),
    host=lambda call, x, sizes, axis: (
        _split_list(x, sizes) if isinstance(x, list) else NotImplemented
    ),
)
def split_v(call: Call, x: Any, sizes: Any, axis: Any) -> Any:
    x = call.tensor(x)
    dim = values.axes(axis, x.dim())[0]
    lengths = values.ints(sizes)
    if -1 in [n for n in lengths if isinstance(n, int)]:
        rest = x.shape[dim] - sum(n for n in lengths if not (isinstance(n, int) and n == -1))
        lengths = [rest if isinstance(n, int) and n == -1 else n for n in lengths]
    return tuple(x.split(lengths, dim))


def _split_list(x: list[Any], sizes: Any) -> tuple[Any, ...]:
    parts, at = [], 0
    for length in values.ints(sizes):
        parts.append(x[at : at + length])
        at += length
    return tuple(parts)


@op(
    "Tile",
    samples=(Sample(lambda r, x: r.Tile(input=x, multiples=[2, 1, 3]), ("2,3,5",)),),
    host=host_numpy(np.tile),
)
def tile(call: Call, x: Any, multiples: Any) -> Any:
    x = call.tensor(x)
    times = values.ints(multiples)
    return x if all(isinstance(t, int) and t == 1 for t in times) else x.repeat(times)


@op(
    "BroadcastTo",
    samples=(
        Sample(lambda r, x: r.BroadcastTo(input=x, shape=[4, 2, 3]), ("2,3",), fixed=True),
        Sample(lambda r, x, y: r.BroadcastTo(input=x, shape=r.Shape(input=y)), ("3", "2,3")),
    ),
)
def broadcast_to(call: Call, x: Any, sizes: Any) -> Any:
    x = call.tensor(x)
    target = values.ints(sizes)
    return x if values.same_shape(x.shape, target) else x.expand(target)


def _broadcast(a: list[Any], b: list[Any]) -> list[Any]:
    size = max(len(a), len(b))
    a, b = [1] * (size - len(a)) + a, [1] * (size - len(b)) + b
    return [y if isinstance(x, int) and x == 1 else x for x, y in zip(a, b, strict=True)]


@op(
    "BroadcastArgs",
    samples=(
        Sample(
            lambda r, x, y: r.BroadcastTo(
                input=x, shape=r.BroadcastArgs(s0=r.Shape(input=x), s1=r.Shape(input=y))
            ),
            ("3", "2,1"),
            fixed=True,
        ),
    ),
)
def broadcast_args(call: Call, a: Any, b: Any) -> Any:
    return _broadcast(values.ints(a), values.ints(b))


@op(
    "ReverseV2",
    samples=(Sample(lambda r, x: r.ReverseV2(tensor=x, axis=[-1, 0]), ("2,3",)),),
    host=lambda call, x, axis: (
        x[::-1]
        if isinstance(x, list)
        else host_numpy(lambda a, d: np.flip(a, tuple(np.ravel(d))))(call, x, axis)
    ),
)
def reverse(call: Call, x: Any, axis: Any) -> Any:
    x = call.tensor(x)
    return x.flip(values.axes(axis, x.dim()))


@op("ReverseSequence")
def reverse_sequence(call: Call, x: Any, lengths: Any) -> Any:
    x, lengths = call.tensor(x), call.tensor(lengths)
    if call.attrs.get("batch_dim", 0) != 0 or call.attrs["seq_dim"] != 1:
        raise Refused("ReverseSequence of other axes than batch 0 and time 1")
    steps = torch.arange(x.shape[1], device=x.device)
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    for _ in range(x.dim() - 2):
        index = index.unsqueeze(-1)
    return x.gather(1, index.expand(x.shape))


def _pairs(paddings: Any) -> list[tuple[Any, Any]]:
    flat = values.ints(paddings, "a padding")
    return list(zip(flat[::2], flat[1::2], strict=True))


def pad_list(pairs: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Paddings per axis in the order of ``F.pad``: the last axis first, leading axes without padding left out."""
    pairs = list(pairs)
    while pairs and all(isinstance(p, int) and p == 0 for p in pairs[0]):
        pairs.pop(0)
    return [p for pair in reversed(pairs) for p in pair]


@op(
    "Pad",
    samples=(Sample(lambda r, x: r.Pad(input=x, paddings=[[0, 0], [1, 2], [0, 3]]), ("2,3,5",)),),
)
def pad(call: Call, x: Any, paddings: Any) -> Any:
    amounts = pad_list(_pairs(paddings))
    return F.pad(call.tensor(x), amounts) if amounts else call.tensor(x)


@op(
    "PadV2",
    samples=(
        Sample(
            lambda r, x: r.PadV2(
                input=x, paddings=[[0, 0], [1, 2]], constant_values=r.Cast(x=0.5, DstT=x.dtype)
            ),
            ("2,3",),
        ),
    ),
)
def pad_v2(call: Call, x: Any, paddings: Any, value: Any) -> Any:
    fill = values.number(value)
    if fill is None:
        raise Refused("padding with a value that is computed")
    return F.pad(call.tensor(x), pad_list(_pairs(paddings)), value=fill)


@op(
    "MirrorPad",
    samples=(
        Sample(
            lambda r, x: r.MirrorPad(
                input=x, paddings=[[0, 0], [1, 2], [2, 1], [0, 0]], mode="REFLECT"
            ),
            ("2,5,4,3",),
        ),
        Sample(
            lambda r, x: r.MirrorPad(
                input=x, paddings=[[0, 0], [0, 0], [2, 1], [0, 0]], mode="REFLECT"
            ),
            ("2,5,4,3",),
        ),
        Sample(
            lambda r, x: r.MirrorPad(input=x, paddings=[[0, 0], [1, 2]], mode="SYMMETRIC"),
            ("2,5",),
        ),
    ),
)
def mirror_pad(call: Call, x: Any, paddings: Any) -> Any:
    return mirrored(call.tensor(x), _pairs(paddings), call.attrs["mode"].lower())


@op(
    "InvertPermutation",
    samples=(
        Sample(
            lambda r, x: r.Transpose(x=x, perm=r.InvertPermutation(x=np.int32([2, 0, 1]))),
            ("2,3,5",),
        ),
    ),
)
def invert_permutation(call: Call, x: Any) -> Any:
    return Constant(np.argsort(values.ints(x)).astype(np.int32))


@op(
    "Roll",
    samples=(Sample(lambda r, x: r.Roll(input=x, shift=[1, -2], axis=[0, 1]), ("3,5",)),),
)
def roll(call: Call, x: Any, shift: Any, axis: Any) -> Any:
    return call.tensor(x).roll(values.ints(shift), values.ints(axis))


@op("VariableShape")
def variable_shape(call: Call, x: Any) -> Any:
    return shape_of(x)


@op("Where")
def where(call: Call, x: Any) -> Any:
    raise Refused("the number of results depends on the data (tf.where with one argument)")
