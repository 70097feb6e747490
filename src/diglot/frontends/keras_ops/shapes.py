"""Shapes and arrangement: what moves elements and computes none."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_ops.creation import as_tensor
from diglot.frontends.keras_ops.table import op
from diglot.frontends.mirroring import mirrored


@op("numpy.reshape")
def reshape(x: torch.Tensor, newshape: Any) -> torch.Tensor:
    sizes = list(newshape) if isinstance(newshape, (list, tuple, torch.Size)) else [newshape]
    return torch.reshape(x, [-1 if s is None else s for s in sizes])


@op("numpy.transpose")
def transpose(x: torch.Tensor, axes: Any = None) -> torch.Tensor:
    return x.permute(list(axes) if axes is not None else list(reversed(range(x.dim()))))


@op("numpy.swapaxes")
def swapaxes(x: torch.Tensor, axis1: int, axis2: int) -> torch.Tensor:
    return x.transpose(axis1, axis2)


@op("numpy.moveaxis")
def moveaxis(x: torch.Tensor, source: Any, destination: Any) -> torch.Tensor:
    return torch.movedim(x, source, destination)


@op("numpy.expand_dims")
def expand_dims(x: torch.Tensor, axis: Any) -> torch.Tensor:
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    rank = x.dim() + len(axes)
    for a in sorted(a % rank for a in axes):
        x = x.unsqueeze(a)
    return x


@op("numpy.squeeze")
def squeeze(x: torch.Tensor, axis: Any = None) -> torch.Tensor:
    if axis is None:
        return x.squeeze()
    return x.squeeze(tuple(axis) if isinstance(axis, (list, tuple)) else axis)


@op("numpy.concatenate")
def concatenate(xs: Any, axis: int = 0) -> torch.Tensor:
    return torch.cat([as_tensor(x) for x in xs], dim=axis)


@op("numpy.stack")
def stack(x: Any, axis: int = 0) -> torch.Tensor:
    return torch.stack([as_tensor(v) for v in x], dim=axis)


@op("core.unstack")
def unstack(x: torch.Tensor, num: int | None = None, axis: int = 0) -> list:
    return list(x.unbind(axis))


@op("numpy.split", "numpy.array_split")
def split(x: torch.Tensor, indices_or_sections: Any, axis: int = 0) -> list:
    if isinstance(indices_or_sections, int):
        return list(torch.tensor_split(x, indices_or_sections, dim=axis))
    ends = [int(i) for i in indices_or_sections]
    size = x.shape[axis]
    sizes = [b - a for a, b in zip([0, *ends], [*ends, size], strict=True)]
    return list(torch.split(x, sizes, dim=axis))


@op("numpy.repeat")
def repeat(x: torch.Tensor, repeats: Any, axis: int | None = None) -> torch.Tensor:
    return torch.repeat_interleave(x, repeats, dim=axis)


@op("numpy.tile")
def tile(x: torch.Tensor, repeats: Any) -> torch.Tensor:
    return torch.tile(x, tuple(repeats) if isinstance(repeats, (list, tuple)) else (repeats,))


@op("numpy.broadcast_to")
def broadcast_to(x: torch.Tensor, shape: Any) -> torch.Tensor:
    return torch.broadcast_to(x, tuple(shape))


@op("numpy.flip")
def flip(x: torch.Tensor, axis: Any = None) -> torch.Tensor:
    axes = range(x.dim()) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
    return torch.flip(x, list(axes))


@op("numpy.roll")
def roll(x: torch.Tensor, shift: Any, axis: Any = None) -> torch.Tensor:
    return torch.roll(x, shift, dims=axis)


@op("numpy.ravel")
def ravel(x: torch.Tensor) -> torch.Tensor:
    return x.flatten()


@op("numpy.pad")
def pad(
    x: torch.Tensor, pad_width: Any, mode: str = "constant", constant_values: Any = None
) -> torch.Tensor:
    widths = [pad_width] if isinstance(pad_width, int) else list(pad_width)
    pairs = [[w, w] if isinstance(w, int) else list(w) for w in widths]
    if len(pairs) == 1:
        pairs = pairs * x.dim()
    flat = [size for pair in reversed(pairs) for size in pair]
    if mode == "constant":
        value = constant_values or 0
        return torch.nn.functional.pad(x, flat, value=value)
    return mirrored(x, pairs, mode)


@op("numpy.take")
def take(x: torch.Tensor, indices: Any, axis: int | None = None) -> torch.Tensor:
    if axis is None:
        x, axis = x.flatten(), 0
    axis %= x.dim()
    if isinstance(indices, int):
        return x.select(axis, indices)
    indices = as_tensor(indices).to(torch.int64)
    if axis == 0:
        return x[indices]
    return x[(slice(None),) * axis + (indices,)]


@op("numpy.take_along_axis")
def take_along_axis(
    x: torch.Tensor, indices: torch.Tensor, axis: int | None = None
) -> torch.Tensor:
    return torch.take_along_dim(x, indices.to(torch.int64), dim=axis)


@op("numpy.tril")
def tril(x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.tril(x, k)


@op("numpy.triu")
def triu(x: torch.Tensor, k: int = 0) -> torch.Tensor:
    return torch.triu(x, k)


@op("numpy.sort")
def sort(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return torch.sort(x, dim=axis).values


@op("numpy.argsort")
def argsort(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    return torch.argsort(x, dim=axis, stable=True)


@op("core.slice")
def slice_(inputs: torch.Tensor, start_indices: Any, shape: Any) -> torch.Tensor:
    for axis, (start, length) in enumerate(zip(start_indices, shape, strict=True)):
        if start == 0 and length in (-1, inputs.shape[axis]):
            continue
        stop = inputs.shape[axis] if length == -1 else start + length
        inputs = inputs[(slice(None),) * axis + (slice(start, stop),)]
    return inputs


@op("core.shape")
def shape(x: torch.Tensor) -> tuple:
    return tuple(x.shape)


@op("core.stop_gradient")
def stop_gradient(variable: torch.Tensor) -> torch.Tensor:
    return variable.detach()
