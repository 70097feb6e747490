"""What a translation back to Keras takes over from the Keras model that its source was translated from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diglot.ir.hub import Hub
    from diglot.origins import Layers


def prepare(hub: Hub, origin: Layers, style: str) -> None:
    """Tell a captured hub what its layers were called, and make tables that were no weights constants, in place."""
    if not origin.known:
        return
    hub.layer_names, hub.automatic_names = origin.names, origin.automatic
    hub.model_name, hub.root_layer = origin.name, origin.root
    hub.stored_shapes, hub.built = dict(origin.shapes), frozenset(origin.built)
    hub.weight_names = dict(origin.weights)
    hub.reverses = dict(origin.reverses)
    hub.is_sequence = origin.is_sequence and style == "functional"
    if style == "functional":
        hub.own_layers = frozenset(origin.own)
        inside = tuple(f"{path}." for path in origin.own)
        hub.inner_models = {p: m for p, m in origin.models.items() if not p.startswith(inside)}
    for node, parameter in list(hub.parameters.items()):
        if not parameter.persistent:
            hub.write_out(node)


def boundary(hub: Hub, origin: Layers) -> Any:
    """In which order the model had the axes of inputs and outputs; None where these are others now."""
    specs = list(origin.inputs)
    by_name = {spec.name: spec for spec in specs}
    if hub.input_structure == "dict" and set(by_name) == set(hub.input_names):
        specs = [by_name[name] for name in hub.input_names]
    outputs = list(origin.outputs)
    if len(specs) != len(hub.inputs) or len(outputs) != len(hub.outputs):
        return None
    for node, spec in zip([*hub.inputs, *hub.outputs], [*specs, *outputs], strict=True):
        if len(spec.shape) != node.meta["val"].dim():
            return None
    return [spec.perm for spec in specs], [spec.perm for spec in outputs]


def dynamic_sizes(origin: Layers, example_inputs: Any) -> dict[str, dict[int, str]] | None:
    """The sizes that the model left open, by input and axis; None where the inputs are others now."""
    from diglot.frontends.torch_export import normalise_inputs

    _, names, values = normalise_inputs(example_inputs)
    specs = list(origin.inputs)
    if names and isinstance(example_inputs, Mapping):
        by_name = {spec.name: spec for spec in specs}
        if set(by_name) != set(names):
            return None
        specs = [by_name[name] for name in names]
    if not specs or [len(spec.shape) for spec in specs] != [value.dim() for value in values]:
        return None
    keys = names or [str(place) for place in range(len(values))]
    return {
        key: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for key, spec in zip(keys, specs, strict=True)
    }
