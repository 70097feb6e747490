"""Convolutions: plain, depthwise and separable, in one to three dimensions."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    bare,
    layer,
    on_channels_first,
)
from diglot.frontends.keras_layers.windows import of_known_sizes, own_padding, spatial_sizes
from diglot.frontends.same_padding import pad_same

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _windows(own: Any) -> list[int]:
    """How far a kernel reaches in each axis."""
    return [d * (k - 1) + 1 for k, d in zip(own.kernel_size, own.dilation_rate, strict=True)]


def _padding(own: Any) -> tuple[int, ...]:
    """The padding of the torch module; where the sides differ, the input is padded first."""
    if own.padding != "same":
        return (0,) * own.rank
    sizes = spatial_sizes(own, own.rank)
    return own_padding(sizes, _windows(own), list(own.strides)) or (0,) * own.rank


def plain(value: Any) -> Any:
    """One number for all axes, where they agree."""
    return value[0] if len(set(value)) == 1 else tuple(value)


def _options(own: Any) -> dict[str, Any]:
    return {
        "stride": plain(own.strides),
        "padding": plain(_padding(own)),
        "dilation": plain(own.dilation_rate),
        "bias": own.use_bias,
    }


def _convolution(own: Any) -> nn.Module:
    *_, inputs, filters = own._kernel.shape
    return bare(
        _CONVOLUTIONS[own.rank - 1],
        inputs * own.groups,
        filters,
        plain(own.kernel_size),
        groups=own.groups,
        **_options(own),
    )


def kernel_steps(rank: int) -> tuple:
    """Torch's (out, in, …) to Keras's (…, in, out)."""
    return (("permute", (*range(2, rank + 2), 1, 0)),)


def _bias(own: Any) -> list[Weight]:
    return [Weight("bias", "bias")] if own.use_bias else []


def _weights(own: Any) -> list[Weight]:
    return [Weight("kernel", "weight", kernel_steps(own.rank)), *_bias(own)]


def _padded(own: Any, x: torch.Tensor) -> torch.Tensor:
    """An NCHW input with the padding that the torch module does not do itself."""
    if own.padding == "causal":
        return F.pad(x, (_windows(own)[0] - 1, 0))
    if own.padding != "same":
        return x
    known = spatial_sizes(own, own.rank), _windows(own), list(own.strides)
    of_known_sizes(x, *known)
    return pad_same(x, *known[1:]) if own_padding(*known) is None else x


def _run(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    made = on_channels_first(run.layer, x, lambda v: run.module(_padded(run.layer, v)))
    return run.activate(made)


def _sample(name: str, shape: str, *args: Any, **options: Any) -> Sample:
    return Sample(lambda keras: getattr(keras.layers, name)(*args, **options), (shape,))


_SHAPES = ("2,9,4", "2,9,8,4", "2,6,5,7,4")


def _samples(name: str, rank: int, *args: Any) -> tuple[Sample, ...]:
    make = functools.partial(_sample, name, _SHAPES[rank - 1], *args)
    return (
        make(),
        make(padding="same", activation="relu"),
        make(strides=2, padding="same"),
        make(strides=2, use_bias=False),
    )


for _rank in (1, 2, 3):
    layer(
        f"Conv{_rank}D",
        make=_convolution,
        call=_run,
        weights=_weights,
        activates=True,
        samples=(
            *_samples(f"Conv{_rank}D", _rank, 6, 3),
            _sample(f"Conv{_rank}D", _SHAPES[_rank - 1], 6, 2, padding="same", groups=2),
            _sample(f"Conv{_rank}D", _SHAPES[_rank - 1], 6, 3, padding="same", dilation_rate=2),
            *(
                [_sample("Conv1D", "2,9,4", 6, 3, padding="causal", dilation_rate=2)]
                if _rank == 1
                else []
            ),
        ),
    )


# --- depthwise and separable -----------------------------------------------------------------------------


def _depthwise_kernel(own: Any) -> Any:
    """The depthwise kernel: a separable layer has two."""
    return own.depthwise_kernel if hasattr(own, "depthwise_kernel") else own.kernel


def _depthwise_only(own: Any, bias: bool) -> nn.Module:
    *_, inputs, multiplier = _depthwise_kernel(own).shape
    options = {**_options(own), "bias": bias}
    return bare(
        _CONVOLUTIONS[own.rank - 1],
        inputs,
        inputs * multiplier,
        plain(own.kernel_size),
        groups=inputs,
        **options,
    )


def _depthwise_steps(own: Any) -> tuple:
    """(in · multiplier, 1, …) to (…, in, multiplier)."""
    *sizes, inputs, multiplier = _depthwise_kernel(own).shape
    rank = own.rank
    return (
        ("reshape", (inputs, multiplier, *sizes)),
        ("permute", (*range(2, rank + 2), 0, 1)),
    )


def _depthwise_weights(own: Any) -> list[Weight]:
    return [Weight("kernel", "weight", _depthwise_steps(own)), *_bias(own)]


class SeparableConv(nn.Module):
    """A depthwise convolution, then a pointwise one."""

    def __init__(self, depthwise: nn.Module, pointwise: nn.Module) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.pointwise = pointwise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


class SeparableConv1d(SeparableConv):
    """A depthwise convolution, then a pointwise one, over sequences (N, C, L)."""


class SeparableConv2d(SeparableConv):
    """A depthwise convolution, then a pointwise one, over images (N, C, H, W)."""


def _separable(own: Any) -> nn.Module:
    *_, inputs, filters = own.pointwise_kernel.shape
    kind = (SeparableConv1d, SeparableConv2d)[own.rank - 1]
    pointwise = bare(_CONVOLUTIONS[own.rank - 1], inputs, filters, 1, bias=own.use_bias)
    return kind(_depthwise_only(own, bias=False), pointwise)


def _separable_weights(own: Any) -> list[Weight]:
    return [
        Weight("depthwise_kernel", "depthwise.weight", _depthwise_steps(own)),
        Weight("pointwise_kernel", "pointwise.weight", kernel_steps(own.rank)),
        *([Weight("bias", "pointwise.bias")] if own.use_bias else []),
    ]


for _rank in (1, 2):
    layer(
        f"DepthwiseConv{_rank}D",
        make=lambda own: _depthwise_only(own, bias=own.use_bias),
        call=_run,
        weights=lambda own: _depthwise_weights(own),
        activates=True,
        samples=(
            *_samples(f"DepthwiseConv{_rank}D", _rank, 3),
            _sample(
                f"DepthwiseConv{_rank}D", _SHAPES[_rank - 1], 3, depth_multiplier=2, padding="same"
            ),
        ),
    )
    layer(
        f"SeparableConv{_rank}D",
        make=_separable,
        call=_run,
        weights=_separable_weights,
        activates=True,
        samples=(
            *_samples(f"SeparableConv{_rank}D", _rank, 6, 3),
            _sample(
                f"SeparableConv{_rank}D",
                _SHAPES[_rank - 1],
                6,
                3,
                depth_multiplier=2,
                padding="same",
            ),
        ),
    )
