"""Layers that move elements: reshape, permute, pad, crop, upsample."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    channels_first,
    layer,
    on_channels_first,
    to_last,
)


def _flatten(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    if channels_first(run.layer) and x.dim() > 2:
        x = to_last(x)
    return run.module(x) if x.dim() > 1 else x.unsqueeze(-1)


layer(
    "Flatten",
    make=lambda _: nn.Flatten(),
    call=_flatten,
    samples=(
        Sample(lambda keras: keras.layers.Flatten(), ("2,3,4,5",)),
        Sample(lambda keras: keras.layers.Flatten(data_format="channels_first"), ("2,3,4,5",)),
    ),
)


def _reshape(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(x.shape[0], *run.layer.target_shape)


layer(
    "Reshape",
    call=_reshape,
    samples=(
        Sample(lambda keras: keras.layers.Reshape((4, 3)), ("2,6,2",)),
        Sample(lambda keras: keras.layers.Reshape((-1, 4)), ("2,6,2",)),
    ),
)
layer(
    "Permute",
    call=lambda run, x: x.permute(0, *run.layer.dims),
    samples=(Sample(lambda keras: keras.layers.Permute((3, 1, 2)), ("2,3,4,5",)),),
)
layer(
    "RepeatVector",
    call=lambda run, x: x.unsqueeze(1).repeat(1, run.layer.n, 1),
    samples=(Sample(lambda keras: keras.layers.RepeatVector(3), ("2,4",)),),
)


def _pairs(value: Any) -> list[tuple[int, int]]:
    """Padding or cropping for each spatial axis."""
    if isinstance(value[0], int):
        return [tuple(value)]
    return [tuple(pair) for pair in value]


def _zero_padding(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    sizes = [size for pair in reversed(_pairs(run.layer.padding)) for size in pair]
    if channels_first(run.layer):
        return F.pad(x, sizes)
    return F.pad(x, [0, 0, *sizes])


def _cropping(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    pairs = _pairs(run.layer.cropping)
    items = [slice(None)] * x.dim()
    first = 2 if channels_first(run.layer) else 1
    for axis, (before, after) in enumerate(pairs, start=first):
        items[axis] = slice(before or None, -after if after else None)
    return x[tuple(items)]


for _rank, _shape, _size in ((1, "2,6,3", "(1, 2)"), (2, "2,6,7,3", ""), (3, "2,5,6,7,3", "")):
    layer(
        f"ZeroPadding{_rank}D",
        call=_zero_padding,
        samples=(
            Sample(lambda keras, r=_rank: getattr(keras.layers, f"ZeroPadding{r}D")(2), (_shape,)),
            Sample(
                lambda keras, r=_rank: getattr(keras.layers, f"ZeroPadding{r}D")(
                    (1, 0) if r == 1 else tuple((i, i + 1) for i in range(r))
                ),
                (_shape,),
            ),
        ),
    )
    layer(
        f"Cropping{_rank}D",
        call=_cropping,
        samples=(
            Sample(lambda keras, r=_rank: getattr(keras.layers, f"Cropping{r}D")(1), (_shape,)),
            Sample(
                lambda keras, r=_rank: getattr(keras.layers, f"Cropping{r}D")(
                    (1, 0) if r == 1 else tuple((i, i + 1) for i in range(r))
                ),
                (_shape,),
            ),
        ),
    )


def _sizes(own: Any) -> tuple[int, ...]:
    return (own.size,) if isinstance(own.size, int) else tuple(own.size)


def _upsample_module(own: Any) -> nn.Module | None:
    mode = getattr(own, "interpolation", "nearest")
    factors = tuple(float(s) for s in _sizes(own))
    if mode == "nearest":
        return nn.Upsample(scale_factor=factors, mode="nearest")
    if mode in ("bilinear", "bicubic") and all(f >= 1 for f in factors):
        return nn.Upsample(scale_factor=factors, mode=mode)
    return None


def _upsampling(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return on_channels_first(run.layer, x, run.module)


def _upsampling_refused(own: Any) -> str | None:
    mode = getattr(own, "interpolation", "nearest")
    if mode in ("nearest", "bilinear"):
        return None
    return (
        f"PyTorch's {mode} interpolation has other coefficients than Keras's (a = -0.75, not -0.5)"
    )


for _rank, _shape in ((1, "2,4,3"), (2, "2,4,5,3"), (3, "2,3,4,2,5")):
    layer(
        f"UpSampling{_rank}D",
        make=_upsample_module,
        call=_upsampling,
        refuse=_upsampling_refused,
        samples=(
            Sample(lambda keras, r=_rank: getattr(keras.layers, f"UpSampling{r}D")(2), (_shape,)),
        )
        + (
            (
                Sample(
                    lambda keras: keras.layers.UpSampling2D((2, 3), interpolation="bilinear"),
                    (_shape,),
                    tolerance=1e-6,
                ),
            )
            if _rank == 2
            else ()
        ),
    )
