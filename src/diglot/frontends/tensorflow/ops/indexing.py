"""Slices, gathers and scatters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import (
    Call,
    Constant,
    Refused,
    Sample,
    host_numpy,
    op,
)

_NEW, _ELLIPSIS = "new", "ellipsis"


def index_of(call: Call, begin: list, end: list, strides: list, dims: int) -> list[Any]:
    """The index that the masks of ``StridedSlice`` amount to: ints, slices and ``None``, one per axis of ``dims``."""
    masks = {
        k: int(call.attrs.get(f"{k}_mask") or 0)
        for k in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }

    def has(kind: str, i: int) -> bool:
        return bool(masks[kind] & (1 << i))

    entries: list[Any] = []
    for i in range(len(begin)):
        if has("ellipsis", i):
            entries.append(_ELLIPSIS)
        elif has("new_axis", i):
            entries.append(_NEW)
        elif has("shrink_axis", i):
            entries.append(begin[i])
        else:
            start = None if has("begin", i) else begin[i]
            stop = None if has("end", i) else end[i]
            entries.append(slice(start, stop, strides[i]))
    used = sum(1 for e in entries if e is not _NEW and e is not _ELLIPSIS)
    if _ELLIPSIS not in entries:
        entries.append(_ELLIPSIS)
    result: list[Any] = []
    for entry in entries:
        if entry is _ELLIPSIS:
            result += [slice(None)] * (dims - used)
        else:
            result.append(None if entry is _NEW else entry)
    return result


def _sliced_host(call: Call, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    bounds = [values.array_of(v) for v in (begin, end, strides)]
    if any(b is None for b in bounds):
        return NotImplemented
    index = index_of(call, *[b.tolist() for b in bounds], dims=values.rank(x))  # type: ignore[union-attr]
    if isinstance(x, Constant):
        return Constant(np.asarray(x.array[tuple(index)]))
    if len(index) == 1:
        return x[index[0]]
    if index == [None]:
        return [x]
    return NotImplemented


def sliced(x: torch.Tensor, index: list[Any]) -> torch.Tensor:
    """``x[index]``, where a negative step is a flip."""
    position, shape_index, flips = 0, [], []
    for entry in index:
        if entry is None:
            continue
        size = x.shape[position]
        if isinstance(entry, slice) and isinstance(entry.step, int) and entry.step < 0:
            flips.append(position)
            entry = _mirrored(entry, size)
        shape_index.append(entry)
        position += 1
    x = x.flip(flips) if flips else x
    it = iter(shape_index)
    full = [None if e is None else next(it) for e in index]
    while full and isinstance(full[-1], slice) and _whole(full[-1]):
        full.pop()
    return x[tuple(full)] if full else x


def _whole(entry: slice) -> bool:
    start = entry.start is None or (isinstance(entry.start, int) and entry.start == 0)
    return start and entry.stop is None and (entry.step is None or entry.step == 1)


def _mirrored(entry: slice, size: Any) -> slice:
    """A slice with a negative step, as one with a positive step of the flipped axis."""

    def mirror(bound: Any) -> Any:
        if bound is None:
            return None
        return -1 - bound if not isinstance(bound, int) or bound < 0 else size - 1 - bound

    return slice(mirror(entry.start), mirror(entry.stop), -entry.step)


@op(
    "StridedSlice",
    samples=(
        Sample(lambda r, x: x[:, 1:, ::2], ("2,3,5",)),
        Sample(lambda r, x: x[..., 0], ("2,3,5",)),
        Sample(lambda r, x: x[:, None, ..., 1:-1], ("2,3,5",)),
        Sample(lambda r, x: x[:, ::-1], ("2,3,5",)),
        Sample(lambda r, x: x[:, -1], ("2,3,5",)),
        Sample(lambda r, x: x[:, 3:0:-2], ("2,5",)),
        Sample(lambda r, x: x[:, -3::-1], ("2,5",)),
        Sample(lambda r, x: x[:, : r.Shape(input=x)[0]], ("2,5",), fixed=True),
        Sample(lambda r, x: x[..., None], ("2,5",)),
    ),
    host=_sliced_host,
)
def strided_slice(call: Call, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    x = call.tensor(x)
    bounds = [values.ints(v, "the bound of a slice") for v in (begin, end, strides)]
    return sliced(x, index_of(call, *bounds, dims=x.dim()))


@op(
    "Slice",
    samples=(
        Sample(lambda r, x: r.Slice(input=x, begin=[0, 1], size=[-1, 2]), ("2,5",)),
        Sample(lambda r, x: r.Slice(input=x, begin=[1, 0], size=[1, -1]), ("2,5",), fixed=True),
    ),
    host=lambda call, x, begin, size: (
        x[values.integer(begin) :][: values.integer(size) if values.integer(size) != -1 else None]
        if isinstance(x, list) and all(type(values.integer(v)) is int for v in (begin, size))
        else host_numpy(_slice_array)(call, x, begin, size)
    ),
)
def slice_(call: Call, x: Any, begin: Any, size: Any) -> Any:
    x = call.tensor(x)
    index = [
        slice(b, None if isinstance(s, int) and s == -1 else b + s)
        for b, s in zip(values.ints(begin), values.ints(size), strict=True)
    ]
    index = [
        slice(i.start, None) if i.stop is not None and values.same_size(i.stop, n) else i
        for i, n in zip(index, x.shape, strict=True)
    ]
    return sliced(x, index)


def _slice_array(x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    return x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size, strict=True))]


def _gather_host(call: Call, x: Any, indices: Any, axis: Any = 0) -> Any:
    where = values.array_of(indices)
    if where is None or where.dtype.kind not in "iu" or call.attrs.get("batch_dims"):
        return NotImplemented
    if isinstance(x, Constant):
        along = 0 if isinstance(axis, int) else values.integer(axis)
        return Constant(np.asarray(np.take(x.array, where, axis=along)))
    items = values.ints(x)
    return items[int(where)] if where.ndim == 0 else [items[i] for i in where.ravel()]


@op(
    "GatherV2",
    samples=(
        Sample(lambda r, x, i: r.GatherV2(params=x, indices=i, axis=1), ("2,5,3", "int64[4]<5")),
        Sample(lambda r, x, i: r.GatherV2(params=x, indices=i, axis=0), ("5,3", "int64[2,4]<5")),
        Sample(lambda r, x: r.GatherV2(params=x, indices=1, axis=-1), ("5,3",)),
        Sample(
            lambda r, x, i: r.GatherV2(params=x, indices=i, axis=1, batch_dims=1),
            ("2,5,3", "int64[2,4]<5"),
        ),
        Sample(
            lambda r, x, i: r.GatherV2(params=x, indices=i, axis=-1, batch_dims=-1),
            ("2,3,5", "int64[2,3,4]<5"),
        ),
        Sample(
            lambda r, x, i: r.GatherV2(params=x, indices=i, axis=3, batch_dims=1),
            ("2,3,4,5,7", "int64[2,6,8]<5"),
        ),
    ),
    host=_gather_host,
)
def gather_v2(call: Call, x: Any, indices: Any, axis: Any) -> Any:
    x = call.tensor(x)
    dim = values.axes(axis, x.dim())[0]
    batch = int(call.attrs.get("batch_dims") or 0)
    single = values.number(indices)
    if single is not None and not batch:
        return x.select(dim, single)
    indices = call.tensor(indices, x)
    if batch:
        return _batch_gather(x, indices, dim, batch % indices.dim() if batch < 0 else batch)
    if indices.dim() == 1:
        return x.index_select(dim, indices)
    if dim == 0:
        return torch.nn.functional.embedding(indices, x) if x.dim() == 2 else x[indices]
    return x[(slice(None),) * dim + (indices,)]


def _batch_gather(x: torch.Tensor, indices: torch.Tensor, dim: int, batch: int) -> torch.Tensor:
    if dim != batch:  # the axes between them stand before those of the indices
        made = _batch_gather(x.movedim(dim, batch), indices, batch, batch)
        first = list(range(batch, indices.dim()))
        return made.movedim(first, [place + dim - batch for place in first])
    tail = x.shape[dim + 1 :]
    flat = indices.reshape(*indices.shape[:batch], -1)
    index = flat.reshape(*flat.shape, *[1] * len(tail)).expand(*flat.shape, *tail)
    return x.gather(dim, index).reshape(*indices.shape, *tail)


@op(
    "Gather",
    samples=(Sample(lambda r, x, i: r.Gather(params=x, indices=i), ("5,3", "int64[2,4]<5")),),
    host=_gather_host,
)
def gather(call: Call, x: Any, indices: Any) -> Any:
    return gather_v2(call, x, indices, 0)


@op("ResourceGather")
def resource_gather(call: Call, x: Any, indices: Any) -> Any:
    return gather_v2(call, x, indices, 0)


@op(
    "GatherNd",
    samples=(Sample(lambda r, x, i: r.GatherNd(params=x, indices=i), ("5,5,3", "int64[4,2]<5")),),
    host=lambda call, x, i: NotImplemented,
)
def gather_nd(call: Call, x: Any, indices: Any) -> Any:
    x, indices = call.tensor(x), call.tensor(indices)
    return x[tuple(indices[..., i] for i in range(int(indices.shape[-1])))]


@op(
    "ScatterNd",
    samples=(
        Sample(
            lambda r, u: r.ScatterNd(indices=np.int32([[1], [4], [1]]), updates=u, shape=[6, 3]),
            ("3,3",),
            fixed=True,
        ),
    ),
)
def scatter_nd(call: Call, indices: Any, updates: Any, sizes: Any) -> Any:
    updates = call.tensor(updates)
    base = torch.zeros(values.ints(sizes), dtype=updates.dtype, device=updates.device)
    return _put(base, call.tensor(indices), updates, accumulate=True)


def _put(base: Any, indices: Any, updates: Any, accumulate: bool) -> torch.Tensor:
    where = tuple(indices[..., i] for i in range(int(indices.shape[-1])))
    return torch.index_put(base, where, updates, accumulate=accumulate)


@op(
    "TensorScatterUpdate",
    samples=(
        Sample(
            lambda r, x, u: r.TensorScatterUpdate(
                tensor=x, indices=np.int32([[1], [3]]), updates=u
            ),
            ("5,3", "2,3"),
        ),
    ),
)
def tensor_scatter_update(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    return _put(call.tensor(x), call.tensor(indices), call.tensor(updates), accumulate=False)


@op(
    "TensorScatterAdd",
    samples=(
        Sample(
            lambda r, x, u: r.TensorScatterAdd(tensor=x, indices=np.int32([[1], [1]]), updates=u),
            ("5,3", "2,3"),
        ),
    ),
)
def tensor_scatter_add(call: Call, x: Any, indices: Any, updates: Any) -> Any:
    return _put(call.tensor(x), call.tensor(indices), call.tensor(updates), accumulate=True)


def _scatter_bound(name: str, way: str) -> None:
    """The largest, or smallest, of a tensor's rows and what is put into each."""

    def run(call: Call, x: Any, indices: Any, updates: Any) -> Any:
        x, rows, updates = call.tensor(x), call.tensor(indices), call.tensor(updates)
        if rows.dim() != 2 or rows.shape[1] != 1:
            raise Refused("indices of more than one axis, or of single elements")
        return x.index_reduce(0, rows[:, 0], updates, way, include_self=True)

    def build(r: Any, x: Any, u: Any) -> Any:
        return getattr(r, name)(tensor=x, indices=np.int32([[1], [3], [1]]), updates=u)

    run.__module__ = __name__
    op(name, samples=(Sample(build, ("5,4", "3,4"), fixed=True),))(run)


_scatter_bound("TensorScatterMax", "amax")
_scatter_bound("TensorScatterMin", "amin")


def _segments(call: Call, x: Any, ids: Any, count: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    x, ids = call.tensor(x), call.tensor(ids)
    if ids.dim() != 1:
        raise Refused("segment ids of more than one axis")
    return x, ids, values.integer(count, "the number of segments")


@op(
    "UnsortedSegmentSum",
    samples=(
        Sample(
            lambda r, x, i: r.UnsortedSegmentSum(data=x, segment_ids=i, num_segments=5),
            ("7,3", "int64[7]<5"),
        ),
    ),
)
def unsorted_segment_sum(call: Call, x: Any, ids: Any, count: Any) -> Any:
    x, ids, size = _segments(call, x, ids, count)
    base = torch.zeros((size, *x.shape[1:]), dtype=x.dtype, device=x.device)
    return base.index_add(0, ids, x)


def _segment_reduce(names: tuple[str, ...], way: str) -> None:
    """A reduction of the rows of each segment, which may not be empty."""

    def run(call: Call, x: Any, ids: Any, count: Any = None) -> Any:
        if count is None:  # sorted: as many as the last says
            known = values.array_of(ids)
            if known is None:
                raise Refused("how many segments there are depends on the data")
            count = int(known.max()) + 1
        x, ids, size = _segments(call, x, ids, count)
        base = torch.zeros((size, *x.shape[1:]), dtype=x.dtype, device=x.device)
        if way == "sum":
            return base.index_add(0, ids, x)
        return base.index_reduce(0, ids, x, way, include_self=False)

    run.__module__ = __name__
    for name in names:
        unsorted = name.startswith("Unsorted")
        ids = [0, 0, 1, 2, 2, 2, 3] if not unsorted else [1, 0, 1, 3, 0, 0, 2]
        extra = {"num_segments": 4} if unsorted else {}

        def build(r: Any, x: Any, name: str = name, ids: Any = ids, extra: Any = extra) -> Any:
            return getattr(r, name)(data=x, segment_ids=ids, **extra)

        op(name, samples=(Sample(build, ("7,3",), fixed=True),))(run)


_segment_reduce(("SegmentSum",), "sum")
_segment_reduce(("SegmentMean",), "mean")
_segment_reduce(("SegmentMax", "UnsortedSegmentMax"), "amax")
_segment_reduce(("SegmentMin", "UnsortedSegmentMin"), "amin")
