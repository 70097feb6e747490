"""A live PyTorch model -> a hub that is ready to be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from diglot.frontends import kept_layers, listed, torch_export
from diglot.frontends.build_hub import build, complete_ports, lay_calls
from diglot.ir.hub import Hub
from diglot.ir.kept_layer import KeptLayer
from diglot.ir.sizes import size_of
from diglot.passes import pipeline


def capture(
    model: nn.Module,
    example_inputs: Any,
    dynamic: Any = None,
    target: str = "keras",
    kept: Sequence[KeptLayer] = (),
) -> tuple[Hub, list[Any]]:
    """Capture a live model for a target. Returns the hub and the example values that were used.

    ``kept``: layers of Keras's that its modules stood for when it was translated from Keras.
    """
    program, marker, structure, names, values = torch_export.export(model, example_inputs, dynamic)
    listed.note(program.graph)
    hub = build(program, model, marker.records, structure, names)
    for (name, axis), multiple in marker.multiples.items():
        size = hub.inputs[hub.input_names.index(name)].meta["val"].shape[axis]
        hub.multiples[str(size_of(size))] = multiple
    if kept:
        kept_layers.place(hub, marker.records, kept)
    pipeline.run(hub, target)
    lay_calls(hub, model, marker.records)
    complete_ports(hub)
    return hub, values
