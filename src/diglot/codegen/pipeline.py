"""A captured hub -> a written program."""

from __future__ import annotations

import torch
from torch import nn

from diglot.codegen import torch_source
from diglot.codegen.keras_source import write
from diglot.codegen.source import Written
from diglot.ir.hub import Hub
from diglot.passes.layout import Boundary, assign_layouts
from diglot.rules.registry import registry


def to_keras(
    hub: Hub,
    model: nn.Module | None,
    io_layout: str = "native",
    style: str = "layers",
    boundary: Boundary | None = None,
) -> Written:
    """Lay out and write a captured hub."""
    assign_layouts(hub, registry(), io_layout, "keras", boundary)
    return write(hub, model, float_dtype(hub), style)


def to_torch(
    hub: Hub,
    model: nn.Module | None,
    io_layout: str = "native",
    boundary: Boundary | None = None,
) -> Written:
    """Lay out and write a hub whose images are channels-last, as a Keras frontend captures it."""
    assign_layouts(hub, registry(), io_layout, "torch", boundary)
    return torch_source.write(hub, model, float_dtype(hub))


def float_dtype(hub: Hub) -> torch.dtype:
    """Return the model's own float type: that of most of its weights."""
    counts: dict[torch.dtype, int] = {}
    for parameter in hub.parameters.values():
        if parameter.value.dtype.is_floating_point:
            counts[parameter.value.dtype] = (
                counts.get(parameter.value.dtype, 0) + parameter.value.numel()
            )
    return max(counts, key=lambda d: counts[d]) if counts else torch.get_default_dtype()
