"""Tensors made of sizes and numbers, and dtypes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from diglot.frontends.keras_ops.table import op
from diglot.frontends.unconditional import always_dropout

_FLOATS = [torch.float32]


@contextlib.contextmanager
def working_float(dtype: torch.dtype) -> Iterator[None]:
    """Mean ``dtype`` by Keras's float32 within the block: a mirror that was made double computes in double."""
    _FLOATS.append(dtype)
    try:
        yield
    finally:
        _FLOATS.pop()


def dtype_of(name: Any) -> torch.dtype:
    """The torch dtype for a Keras one; ``None`` is the default float."""
    from diglot.frontends.keras_tracing.tensor import torch_dtype

    dtype = torch.float32 if name is None else torch_dtype(name)
    return _FLOATS[-1] if dtype == torch.float32 else dtype


def _sizes(shape: Any) -> list:
    return list(shape) if hasattr(shape, "__iter__") else [shape]


def as_tensor(x: Any) -> torch.Tensor:
    """Return a tensor of a number, a list of numbers or a tensor.

    Python's floats keep all their digits until the program is written: they are narrowed by an op, which is folded
    in float64. A size that may vary stays one.
    """
    if isinstance(x, torch.SymInt):
        return torch.full((), x, dtype=torch.int64)
    made = torch.as_tensor(x)
    if isinstance(x, torch.Tensor) or not made.dtype.is_floating_point:
        return made
    return torch.as_tensor(x, dtype=torch.float64).to(_FLOATS[-1])


@op("core.cast")
def cast(x: Any, dtype: Any) -> torch.Tensor:
    x = as_tensor(x)
    wanted = dtype_of(dtype)
    return x if x.dtype == wanted else x.to(wanted)


@op("core.convert_to_tensor")
def convert_to_tensor(
    x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None
) -> torch.Tensor:
    if isinstance(x, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in x):
        made = torch.stack([as_tensor(v) for v in x])
    else:
        made = as_tensor(x)
    return made if dtype is None else cast(made, dtype)


@op("numpy.array")
def array(x: Any, dtype: Any = None) -> torch.Tensor:
    return convert_to_tensor(x, dtype)


@op("numpy.zeros")
def zeros(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.zeros(_sizes(shape), dtype=dtype_of(dtype))


@op("numpy.ones")
def ones(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.ones(_sizes(shape), dtype=dtype_of(dtype))


@op("numpy.empty")
def empty(shape: Any, dtype: Any = None) -> torch.Tensor:
    return torch.zeros(_sizes(shape), dtype=dtype_of(dtype))


@op("numpy.full")
def full(shape: Any, fill_value: Any, dtype: Any = None) -> torch.Tensor:
    if isinstance(fill_value, torch.Tensor):
        return fill_value.expand(_sizes(shape))
    kind = None if dtype is None else dtype_of(dtype)
    return torch.full(_sizes(shape), fill_value, dtype=kind)


@op("numpy.zeros_like")
def zeros_like(x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    return torch.zeros_like(x, dtype=None if dtype is None else dtype_of(dtype))


@op("numpy.ones_like")
def ones_like(x: torch.Tensor, dtype: Any = None) -> torch.Tensor:
    return torch.ones_like(x, dtype=None if dtype is None else dtype_of(dtype))


@op("numpy.full_like")
def full_like(x: torch.Tensor, fill_value: Any, dtype: Any = None) -> torch.Tensor:
    return torch.full_like(x, fill_value, dtype=None if dtype is None else dtype_of(dtype))


@op("numpy.arange")
def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None) -> torch.Tensor:
    first, last = (0, start) if stop is None else (start, stop)
    kind = None if dtype is None else dtype_of(dtype)
    if any(isinstance(v, torch.Tensor) for v in (first, last, step)):
        first, last, step = (
            v.item() if isinstance(v, torch.Tensor) else v for v in (first, last, step)
        )
    return torch.arange(first, last, 1 if step is None else step, dtype=kind)


@op("numpy.eye")
def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> torch.Tensor:
    if k == 0:
        return torch.eye(N, N if M is None else M, dtype=dtype_of(dtype))
    columns = torch.arange(N if M is None else M)
    return (columns[None, :] - torch.arange(N)[:, None] == k).to(dtype_of(dtype))


@op("numpy.identity")
def identity(n: int, dtype: Any = None) -> torch.Tensor:
    return torch.eye(n, dtype=dtype_of(dtype))


@op("numpy.tri")
def tri(N: int, M: int | None = None, k: int = 0, dtype: Any = None) -> torch.Tensor:
    return torch.tril(torch.ones(N, N if M is None else M, dtype=dtype_of(dtype)), k)


@op("numpy.linspace")
def linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
             dtype: Any = None, axis: int = 0) -> torch.Tensor:  # fmt: skip
    last = stop if endpoint else start + (stop - start) * (num - 1) / num
    return torch.linspace(start, last, num, dtype=dtype_of(dtype))


@op("random.normal")
def normal(
    shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None
) -> torch.Tensor:
    made = torch.randn(_sizes(shape), dtype=dtype_of(dtype))
    made = made if stddev == 1 else made * stddev
    return made if mean == 0 else made + mean


@op("random.uniform")
def uniform(
    shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None
) -> torch.Tensor:
    drawn = torch.rand(_sizes(shape), dtype=dtype_of(dtype))
    return drawn if (minval, maxval) == (0.0, 1.0) else drawn * (maxval - minval) + minval


@op("random.dropout")
def dropout(
    inputs: torch.Tensor, rate: float, noise_shape: Any = None, seed: Any = None
) -> torch.Tensor:
    if noise_shape is None or tuple(noise_shape) == tuple(inputs.shape):
        return always_dropout(inputs, rate) if rate else inputs
    sizes = [s if n is None else n for s, n in zip(inputs.shape, noise_shape, strict=True)]
    return inputs * always_dropout(torch.ones(sizes, dtype=inputs.dtype), rate)


@op("core.cond")
def cond(pred: Any, true_fn: Callable, false_fn: Callable) -> Any:
    """Compute both ways and choose; raises DataDependent where they are no tensors of one shape."""
    from diglot.frontends.keras_tracing.tensor import no_one_program, unwrap

    if isinstance(pred, (bool, int)):
        return unwrap(true_fn() if pred else false_fn())
    return _choose(pred, unwrap(true_fn()), unwrap(false_fn()), no_one_program)


def _choose(pred: torch.Tensor, yes: Any, no: Any, error: Callable) -> Any:
    if isinstance(yes, (list, tuple)) and isinstance(no, (list, tuple)) and len(yes) == len(no):
        return type(yes)(_choose(pred, a, b, error) for a, b in zip(yes, no, strict=True))
    if isinstance(yes, torch.Tensor) and isinstance(no, torch.Tensor) and yes.shape == no.shape:
        return torch.where(pred, yes, no)
    if yes is None and no is None:
        return None
    raise error("bool")


@op("numpy.digitize")
def digitize(x: torch.Tensor, bins: Any) -> torch.Tensor:
    return torch.bucketize(x, as_tensor(bins).to(x.dtype), right=True)
