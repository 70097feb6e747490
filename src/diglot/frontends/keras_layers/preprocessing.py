"""Preprocessing layers that compute on tensors: scaling, normalising, resizing, cropping, encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    layer,
    method,
    on_channels_first,
    own_call,
)


def _float(x: torch.Tensor, like: torch.dtype | None = None) -> torch.Tensor:
    from diglot.frontends.keras_ops.creation import dtype_of

    return x if x.dtype.is_floating_point else x.to(like or dtype_of(None))


def _rescaling(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    own = run.layer
    x = _float(x)

    def value(number: Any) -> Any:
        return (
            torch.tensor(number, dtype=x.dtype)
            if isinstance(number, (list, tuple))
            else float(number)
        )

    scale, offset = value(own.scale), value(own.offset)
    made = x if isinstance(scale, float) and scale == 1 else x * scale
    return made if isinstance(offset, float) and offset == 0 else made + offset


layer(
    "Rescaling",
    call=_rescaling,
    samples=(
        Sample(
            lambda keras: keras.layers.Rescaling(1 / 127.5, offset=-1), ("2,3,4,3",), tolerance=1e-7
        ),
        Sample(
            lambda keras: keras.layers.Rescaling([1.0, 2.0, 3.0], offset=[0.5, 0.0, 1.0]),
            ("2,3,4,3",),
        ),
    ),
)


class Normalization(nn.Module):
    """Subtracts a mean and divides by a standard deviation that were measured once."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, shape: tuple[int, ...], invert: bool = False, eps: float = 1e-7) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.invert = invert
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        deviation = torch.clamp(torch.sqrt(self.variance), min=self.eps)
        return x * deviation + self.mean if self.invert else (x - self.mean) / deviation


def _broadcast_shape(own: Any) -> tuple[int, ...]:
    """The shape of the statistics: leading axes of size 1 are left out, unless they are of images, where the
    channels come first in the end."""
    shape = tuple(own._broadcast_shape)
    if len(shape) >= 4:
        return shape
    while shape and shape[0] == 1 and len(shape) > max(1, len(own._keep_axis)):
        shape = shape[1:]
    return shape


def _normalization(own: Any) -> nn.Module:
    if own.input_mean is None:
        return Normalization(_broadcast_shape(own), own.invert)
    shape = _broadcast_shape(own)
    mean, variance = (
        torch.from_numpy(np.array(v)).reshape(shape) for v in (own.mean, own.variance)
    )
    module = Normalization(shape, own.invert)
    module.mean.copy_(mean)
    module.variance.copy_(variance)
    return module


def _normalization_weights(own: Any) -> list[Weight]:
    if own.input_mean is not None:
        return []
    kept = (("reshape", tuple(own.adapt_mean.shape)),)
    return [Weight("adapt_mean", "mean", kept), Weight("adapt_variance", "variance", kept)]


def _adapted(keras: Any) -> Any:
    made = keras.layers.Normalization(axis=-1)
    made.adapt(np.random.default_rng(0).normal(2.0, 3.0, (50, 4, 3)))
    return made


layer(
    "Normalization",
    make=_normalization,
    call=lambda run, x: run.module(_float(x, run.module.mean.dtype)),
    weights=_normalization_weights,
    samples=(
        Sample(_adapted, ("2,4,3",)),
        Sample(
            lambda keras: keras.layers.Normalization(mean=3.0, variance=2.0),
            ("2,4,3",),
            tolerance=1e-6,
        ),
        Sample(
            lambda keras: keras.layers.Normalization(mean=3.0, variance=2.0, invert=True),
            ("2,4",),
            tolerance=1e-6,
        ),
    ),
)


def _resizing_refused(own: Any) -> str | None:
    if own.crop_to_aspect_ratio or own.pad_to_aspect_ratio:
        return "it keeps the aspect ratio by the sizes of each image: resize before the model"
    if own.interpolation not in ("nearest", "bilinear"):
        return f"PyTorch's interpolation has no {own.interpolation} with Keras's coefficients"
    return None


def _resizing(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    own = run.layer
    nearest = own.interpolation == "nearest"
    options = {} if nearest else {"align_corners": False, "antialias": own.antialias}
    mode = (
        "nearest-exact" if nearest else own.interpolation
    )  # Keras looks from the middle of each pixel
    single = x.dim() == 3
    images = _float(x).unsqueeze(0) if single else _float(x)
    made = on_channels_first(
        own,
        images,
        lambda v: torch.nn.functional.interpolate(v, (own.height, own.width), mode=mode, **options),
    )
    return made.squeeze(0) if single else made


layer(
    "Resizing",
    call=_resizing,
    refuse=_resizing_refused,
    samples=(
        Sample(lambda keras: keras.layers.Resizing(4, 7), ("2,8,5,3",), tolerance=1e-6),
        Sample(lambda keras: keras.layers.Resizing(4, 10, "nearest"), ("2,8,5,3",), tolerance=1e-6),
    ),
)


def _center_crop(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    own = run.layer
    first = 1 if own.data_format == "channels_first" else 0
    axes = [x.dim() - 3 + first, x.dim() - 3 + first + 1]
    if any(x.shape[a] < s for a, s in zip(axes, (own.height, own.width), strict=True)):
        raise run.refused(
            "the images are smaller than the crop: Keras resizes them first; resize before the model"
        )
    for axis, size in zip(axes, (own.height, own.width), strict=True):
        start = int(x.shape[axis] - size) // 2
        x = x[(*[slice(None)] * axis, slice(start, start + size))]
    return x


layer(
    "CenterCrop",
    call=_center_crop,
    samples=(Sample(lambda keras: keras.layers.CenterCrop(4, 3), ("2,8,6,3",)),),
)


def _bins(mode: str) -> Sample:
    return Sample(
        lambda keras: keras.layers.Discretization(
            bin_boundaries=[-0.5, 0.0, 1.0], output_mode=mode
        ),
        ("4,3",),
    )


own_call("Discretization", _bins("int"), _bins("multi_hot"), _bins("count"))
own_call(
    "CategoryEncoding",
    *(
        Sample(
            lambda keras, m=_mode: keras.layers.CategoryEncoding(num_tokens=7, output_mode=m),
            ("int[4,3]<7",),
        )
        for _mode in ("multi_hot", "count")
    ),
)


def _mel_filters(
    own: Any,
    num_mel_bins: int,
    num_spectrogram_bins: int,
    sampling_rate: float,
    lower_edge_hertz: float,
    upper_edge_hertz: float,
) -> torch.Tensor:
    """The triangles of each band, as one table: (spectrogram bins, mel bins)."""
    from diglot.frontends.keras_ops.creation import dtype_of

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    heights = mel(np.linspace(0.0, sampling_rate / 2.0, num_spectrogram_bins)[1:])[:, None]
    edges = np.linspace(mel(lower_edge_hertz), mel(upper_edge_hertz), num_mel_bins + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (heights - low) / (middle - low), (high - heights) / (high - middle)
    filters = np.pad(np.maximum(0.0, np.minimum(rising, falling)), [[1, 0], [0, 0]])
    return torch.from_numpy(filters).to(dtype_of(None))


def _spectrogram(mode: str, **options: object) -> Sample:
    return Sample(
        lambda keras: keras.layers.STFTSpectrogram(
            mode=mode, frame_length=16, frame_step=8, fft_length=32, **options
        ),
        ("2,64,2",),
        tolerance=1e-6,
    )


own_call(
    "STFTSpectrogram",
    _spectrogram("log"),
    _spectrogram("stft", expand_dims=True),
    _spectrogram("psd", padding="same"),
)
own_call(
    "MelSpectrogram",
    Sample(
        lambda keras: keras.layers.MelSpectrogram(
            fft_length=32, sequence_stride=8, sequence_length=32, num_mel_bins=6, sampling_rate=1000
        ),
        ("2,96",),
        tolerance=1e-6,
        single=True,
    ),
)
method("MelSpectrogram", "linear_to_mel_weight_matrix", _mel_filters)
