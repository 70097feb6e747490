"""Tensors made of sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Constant, Refused, Sample, op


def _fill_host(call: Call, dims: Any, value: Any) -> Any:
    sizes = values.array_of(dims)
    single = values.array_of(value)
    if sizes is None or single is None or int(np.prod(sizes)) > 16:
        return NotImplemented
    if sizes.size > 2 or (sizes.size == 2 and single.dtype.kind not in "iu"):
        return NotImplemented  # a tensor; a table of integers is likely an op's paddings
    return Constant(np.full(sizes, single))


@op(
    "Fill",
    samples=(
        Sample(
            lambda r, x: r.Mul(
                x=x, y=r.Fill(dims=r.Shape(input=x), value=r.Cast(x=2, DstT=x.dtype))
            ),
            ("2,3",),
        ),
    ),
    host=_fill_host,
)
def fill(call: Call, dims: Any, value: Any) -> Any:
    sizes = values.ints(dims)
    if isinstance(value, torch.Tensor):
        return value.expand(sizes)
    number = values.number(value)
    if number in (0, 1) and not isinstance(number, bool):
        return (torch.ones if number else torch.zeros)(sizes, dtype=call.dtype())
    return torch.full(sizes, number, dtype=call.dtype())


@op("Empty")
def empty(call: Call, dims: Any) -> Any:
    return torch.zeros(values.ints(dims), dtype=call.dtype("dtype"))


def _range_host(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    arrays = [values.array_of(v) for v in (start, limit, delta)]
    if all(a is not None for a in arrays):
        made = np.arange(*[a.reshape(())[()] for a in arrays])  # type: ignore[union-attr]
        if made.size <= 64:
            return Constant(made.astype(call.attrs.get("Tidx", made.dtype)))
    return NotImplemented


@op(
    "Range",
    samples=(
        Sample(
            lambda r, x: r.Add(
                x=x, y=r.Cast(x=r.Range(start=0, limit=r.Shape(input=x)[1], delta=1), DstT=x.dtype)
            ),
            ("2,3",),
        ),
        Sample(
            lambda r, x: r.Add(
                x=x, y=r.Cast(x=r.Range(start=r.Shape(input=x)[1], limit=0, delta=-1), DstT=x.dtype)
            ),
            ("2,3",),
        ),
        Sample(
            lambda r, x: r.Add(
                x=x,
                y=r.Range(
                    start=r.Cast(x=0, DstT=x.dtype),
                    limit=r.Cast(x=r.Shape(input=x)[1], DstT=x.dtype),
                    delta=r.Cast(x=1, DstT=x.dtype),
                ),
            ),
            ("2,3",),
        ),
    ),
    host=_range_host,
)
def range_(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    kind = call.attrs.get("Tidx", "int32")
    bounds = [values.bound(v) for v in (start, limit, delta)]
    if any(b is None for b in bounds):
        raise Refused("the length of a range depends on the data (tf.range)")
    first, last, step = bounds
    if (first, step) == (0, 1) and values.is_size(last):
        return torch.arange(last, dtype=values.torch_dtype(kind, call.precision))
    return torch.arange(first, last, step, dtype=values.torch_dtype(kind, call.precision))


@op(
    "LinSpace",
    samples=(
        Sample(
            lambda r, x: r.Mul(
                x=x, y=r.Cast(x=r.LinSpace(start=0.0, stop=1.0, num=5), DstT=x.dtype)
            ),
            ("2,5",),
            fixed=True,
        ),
    ),
)
def lin_space(call: Call, start: Any, stop: Any, num: Any) -> Any:
    first, last = values.number(start), values.number(stop)
    if first is None or last is None:
        raise Refused("tf.linspace between values that are computed")
    return torch.linspace(first, last, values.integer(num), dtype=call.dtype())


@op(
    "OneHot",
    samples=(
        Sample(
            lambda r, i: r.OneHot(indices=i, depth=7, on_value=1.0, off_value=0.0),
            ("int64[2,3]<7",),
        ),
        Sample(
            lambda r, i: r.OneHot(indices=i, depth=5, on_value=2.0, off_value=-1.0),
            ("int64[2,3]<9",),
        ),
        Sample(
            lambda r, i: r.OneHot(indices=i, depth=5, on_value=2.0, off_value=-1.0, axis=1),
            ("int64[2,3]<9",),
        ),
    ),
)
def one_hot(call: Call, indices: Any, depth: Any, on: Any, off: Any) -> Any:
    indices = call.tensor(indices)
    classes = torch.arange(values.integer(depth), device=indices.device)
    dtype = call.dtype()
    hits = indices.unsqueeze(-1) == classes  # an index out of range is no hit, as in TensorFlow
    first, second = values.number(on), values.number(off)
    if first == 1 and second == 0:
        result = hits.to(dtype)
    else:
        result = torch.where(hits, call.tensor(on), call.tensor(off)).to(dtype)
    axis = call.attrs.get("axis", -1)
    return result if axis == -1 else result.movedim(-1, axis)


@op(
    "Diag",
    samples=(Sample(lambda r, x: r.Diag(diagonal=x), ("3",)),),
)
def diag(call: Call, x: Any) -> Any:
    return torch.diag(call.tensor(x))


@op("MatrixDiag", samples=(Sample(lambda r, x: r.MatrixDiag(diagonal=x), ("2,3",)),))
def matrix_diag(call: Call, x: Any) -> Any:
    return torch.diag_embed(call.tensor(x))


@op(
    "MatrixDiagV3",
    "MatrixDiagV2",
    samples=(
        Sample(
            lambda r, x: r.MatrixDiagV3(
                diagonal=x, k=0, num_rows=-1, num_cols=-1, padding_value=r.Cast(x=0, DstT=x.dtype)
            ),
            ("2,3",),
        ),
    ),
)
def matrix_diag_v3(call: Call, x: Any, k: Any, rows: Any, columns: Any, padding: Any) -> Any:
    offsets = values.ints(k)
    plain = len(offsets) == 1 and values.number(padding) == 0
    if not plain or values.integer(rows) != -1 or values.integer(columns) != -1:
        raise Refused("tf.linalg.diag of several diagonals or another shape")
    return torch.diag_embed(call.tensor(x), offsets[0])


@op(
    "MatrixDiagPartV3",
    "MatrixDiagPartV2",
    samples=(
        Sample(
            lambda r, x: r.MatrixDiagPartV3(input=x, k=0, padding_value=r.Cast(x=0, DstT=x.dtype)),
            ("2,3,3",),
            fixed=True,
        ),
    ),
)
def matrix_diag_part(call: Call, x: Any, k: Any, padding: Any) -> Any:
    offsets = values.ints(k)
    if len(offsets) != 1:
        raise Refused("tf.linalg.diag_part of several diagonals")
    return call.tensor(x).diagonal(offsets[0], -2, -1)


@op(
    "MatrixBandPart",
    samples=(
        Sample(lambda r, x: r.MatrixBandPart(input=x, num_lower=-1, num_upper=0), ("2,3,5",)),
        Sample(lambda r, x: r.MatrixBandPart(input=x, num_lower=0, num_upper=-1), ("2,5,3",)),
        Sample(lambda r, x: r.MatrixBandPart(input=x, num_lower=1, num_upper=2), ("2,5,5",)),
    ),
)
def matrix_band_part(call: Call, x: Any, lower: Any, upper: Any) -> Any:
    x = call.tensor(x)
    if isinstance(lower, torch.Tensor) or isinstance(upper, torch.Tensor):
        return _band(x, call.tensor(lower), call.tensor(upper))
    down, up = values.integer(lower), values.integer(upper)
    if x.dtype == torch.bool and not (isinstance(down, int) and isinstance(up, int)):
        return _band(x, down, up)
    x = torch.tril(x, up) if up != -1 else x
    return torch.triu(x, -down) if down != -1 else x


def _band(x: torch.Tensor, lower: Any, upper: Any) -> torch.Tensor:
    """A band of a width that the program computes; a negative one keeps all on that side."""
    rows = torch.arange(x.shape[-2], device=x.device)[:, None]
    columns = torch.arange(x.shape[-1], device=x.device)
    kept = ((rows - columns <= lower) | (lower < 0)) & ((columns - rows <= upper) | (upper < 0))
    return torch.where(kept, x, torch.zeros_like(x))
