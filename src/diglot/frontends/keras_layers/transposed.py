"""Transposed convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.convolution import kernel_steps, plain
from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    bare,
    layer,
    on_channels_first,
)

_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _crops(own: Any) -> list[tuple[int, int]]:
    """What Keras leaves out of the whole result before and after, in each axis; negative where it adds zeros."""
    made = []
    given = own.output_padding
    for axis in range(own.rank):
        stride, size = own.strides[axis], own.dilation_rate[axis] * (own.kernel_size[axis] - 1) + 1
        extra = given if given is None or isinstance(given, int) else given[axis]
        if own.padding == "valid":
            made.append((0, -(max(stride - size, 0) if extra is None else extra)))
        else:
            total = size - stride if extra is None else 2 * (size // 2) - extra
            before = max(total, 0) // 2
            made.append((before, total - before))
    return made


def _module_padding(own: Any) -> tuple[list[int], list[int]] | None:
    """``padding`` and ``output_padding`` of the torch module, None where it has none that fit."""
    paddings, extras = [], []
    for axis, (before, after) in enumerate(_crops(own)):
        extra = before - after
        if before < 0 or not 0 <= extra < max(own.strides[axis], own.dilation_rate[axis]):
            return None
        paddings.append(before)
        extras.append(extra)
    return paddings, extras


def _make(own: Any) -> nn.Module:
    *_, filters, inputs = own.kernel.shape
    padding, extra = _module_padding(own) or ([0] * own.rank, [0] * own.rank)
    return bare(
        _CONVOLUTIONS[own.rank - 1],
        inputs,
        filters,
        plain(own.kernel_size),
        stride=plain(own.strides),
        padding=plain(padding),
        output_padding=plain(extra),
        dilation=plain(own.dilation_rate),
        bias=own.use_bias,
    )


def _cropped(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    own = run.layer
    if _module_padding(own) is not None:
        return run.module(x)
    # Zeros that are added come before the bias; what is left out may go after it.
    crops = _crops(own)
    made = run.module(x)
    if any(c < 0 for pair in crops for c in pair):
        bias = run.module.bias
        shape = (1, -1, *[1] * own.rank)
        made = made if bias is None else made - bias.reshape(shape)
        made = F.pad(made, [-c for pair in reversed(crops) for c in pair])
        return made if bias is None else made + bias.reshape(shape)
    items = [slice(before, -after if after else None) for before, after in crops]
    return made[(slice(None), slice(None), *items)]


def _run(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return run.activate(on_channels_first(run.layer, x, lambda v: _cropped(run, v)))


def _weights(own: Any) -> list[Weight]:
    bias = [Weight("bias", "bias")] if own.use_bias else []
    return [Weight("kernel", "weight", kernel_steps(own.rank)), *bias]


for _rank, _shape in ((1, "2,5,4"), (2, "2,5,4,3"), (3, "2,3,4,2,3")):
    layer(
        f"Conv{_rank}DTranspose",
        make=_make,
        call=_run,
        weights=_weights,
        activates=True,
        samples=tuple(
            Sample(
                lambda keras, r=_rank, a=_size, o=_options: getattr(
                    keras.layers, f"Conv{r}DTranspose"
                )(6, a, **o),
                (_shape,),
            )
            for _size, _options in (
                (3, {}),
                (3, {"strides": 2, "padding": "same", "activation": "relu"}),
                (4, {"strides": 2, "padding": "same"}),
                (2, {"strides": 2}),
                (3, {"padding": "same", "use_bias": False}),
                (3, {"strides": 2, "padding": "same", "output_padding": 1}),
                (2, {"strides": 3}),
                (2, {"strides": 3, "padding": "same"}),
            )
        ),
    )
