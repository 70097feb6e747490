"""The whole way from a model to a written program."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.codegen.keras_source import Written, write
from diglot.frontends import torch_export
from diglot.frontends.build_hub import build, complete_ports, lay_calls
from diglot.ir.hub import Hub
from diglot.passes import pipeline
from diglot.passes.layout import assign_layouts
from diglot.rules.registry import registry


def capture(model: nn.Module, example_inputs: Any, dynamic: Any = None) -> tuple[Hub, list[Any]]:
    """Capture a live model. Returns the hub and the example values that were used."""
    program, marker, structure, names, values = torch_export.export(model, example_inputs, dynamic)
    hub = build(program, model, marker.records, structure, names)
    pipeline.run(hub)
    lay_calls(hub, model, marker.records)
    complete_ports(hub)
    return hub, values


def to_keras(hub: Hub, model: nn.Module | None, io_layout: str = "native", style: str = "layers") -> Written:
    """Lay out and write a captured hub."""
    assign_layouts(hub, registry(), io_layout)
    return write(hub, model, float_dtype(hub), style)


def float_dtype(hub: Hub) -> torch.dtype:
    """Return the model's own float type: that of most of its weights."""
    counts: dict[torch.dtype, int] = {}
    for parameter in hub.parameters.values():
        if parameter.value.dtype.is_floating_point:
            counts[parameter.value.dtype] = counts.get(parameter.value.dtype, 0) + parameter.value.numel()
    return max(counts, key=lambda d: counts[d]) if counts else torch.get_default_dtype()
