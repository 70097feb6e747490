"""Images."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_ops.table import operation


@operation("ExtractPatches")
def extract_patches(op: Any, images: torch.Tensor) -> torch.Tensor | None:
    """Patches that neither overlap nor leave gaps are a reshape; Keras convolves with an identity."""
    size = op.size if isinstance(op.size, (tuple, list)) else (op.size, op.size)
    strides = op.strides if op.strides is not None else size
    strides = strides if isinstance(strides, (tuple, list)) else (strides,) * 2
    plain = op.dilation_rate in (1, (1, 1)) and op.padding == "valid" and images.dim() == 4
    if (
        op.data_format != "channels_last"
        or len(size) != 2
        or tuple(strides) != tuple(size)
        or not plain
    ):
        return None
    batch, height, width, channels = images.shape
    down, across = height // size[0], width // size[1]
    cut = images[:, : down * size[0], : across * size[1]]
    apart = cut.reshape(batch, down, size[0], across, size[1], channels)
    rows = apart.permute(0, 1, 3, 2, 4, 5)
    return rows.reshape(batch, down, across, size[0] * size[1] * channels)
