"""Dropout and noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, channels_first, layer
from diglot.frontends.unconditional import always_dropout


class SharedDropout(nn.Module):
    """Dropout whose noise is shared along the axes that ``noise_shape`` holds a 1 for (None: one number each)."""

    def __init__(self, p: float, noise_shape: Sequence[int | None]) -> None:
        super().__init__()
        self.p, self.noise_shape = p, tuple(noise_shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = [s if n is None else n for s, n in zip(x.shape, self.noise_shape, strict=True)]
        return x * F.dropout(torch.ones(shape, dtype=x.dtype), self.p, self.training)


def _dropout_module(own: Any) -> nn.Module:
    rate = float(own.rate)
    return nn.Dropout(rate) if own.noise_shape is None else SharedDropout(rate, own.noise_shape)


def _dropout(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    rate = float(run.layer.rate)
    if rate == 0 or run.forced is False:
        return x
    if run.forced is None:
        return run.module(x)
    if isinstance(run.module, nn.Dropout):
        return always_dropout(x, rate)
    shape = [s if n is None else n for s, n in zip(x.shape, run.layer.noise_shape, strict=True)]
    return x * always_dropout(torch.ones(shape, dtype=x.dtype), rate)


layer(
    "Dropout",
    make=_dropout_module,
    call=_dropout,
    samples=(
        Sample(lambda keras: keras.layers.Dropout(0.3), random=True),
        Sample(
            lambda keras: keras.layers.Dropout(0.3, noise_shape=(None, 1, None)),
            ("2,3,4",),
            random=True,
        ),
    ),
)


def _spatial(rank: int) -> Any:
    """Whole feature maps are dropped: torch's channel dropouts, on channels first."""
    module = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[rank - 1]

    def call(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
        if run.forced is False or not run.layer.rate:
            return x
        if run.forced:
            first = channels_first(run.layer)
            ends = (x.shape[:2], ()) if first else (x.shape[:1], x.shape[-1:])
            maps = torch.ones([*ends[0], *[1] * rank, *ends[1]], dtype=x.dtype)
            return x * always_dropout(maps, float(run.layer.rate))
        if channels_first(run.layer):
            return run.module(x)
        return run.module(x.movedim(-1, 1)).movedim(1, -1)

    return module, call


for _rank, _shape in ((1, "2,5,3"), (2, "2,4,5,3"), (3, "2,3,4,5,3")):
    _module, _call = _spatial(_rank)
    layer(
        f"SpatialDropout{_rank}D",
        make=lambda own, m=_module: m(float(own.rate)),
        call=_call,
        samples=(
            Sample(
                lambda keras, r=_rank: getattr(keras.layers, f"SpatialDropout{r}D")(0.4),
                (_shape,),
                random=True,
            ),
        ),
    )


def _gaussian_noise(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return x + torch.randn_like(x) * float(run.layer.stddev) if run.training() else x


def _gaussian_dropout(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    rate = float(run.layer.rate)
    if not rate or not run.training():
        return x
    return x * (1 + torch.randn_like(x) * (rate / (1 - rate)) ** 0.5)


def _alpha_dropout(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    rate = float(run.layer.rate)
    if not rate or run.forced is False:
        return x
    if run.forced:
        raise run.refused(
            "training=True: PyTorch's layer, and its function, drop in training alone"
        )
    if run.layer.noise_shape is None:
        return run.module(x)
    raise run.refused("noise_shape: torch.nn.AlphaDropout draws for each element")


layer(
    "GaussianNoise",
    call=_gaussian_noise,
    samples=(Sample(lambda keras: keras.layers.GaussianNoise(0.2), random=True),),
)
layer(
    "GaussianDropout",
    call=_gaussian_dropout,
    samples=(Sample(lambda keras: keras.layers.GaussianDropout(0.2), random=True),),
)
layer(
    "AlphaDropout",
    make=lambda own: nn.AlphaDropout(float(own.rate)),
    call=_alpha_dropout,
    samples=(Sample(lambda keras: keras.layers.AlphaDropout(0.2), random=True),),
)
