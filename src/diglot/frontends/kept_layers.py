"""Modules that were one layer of Keras's: where they still compute what it does, they are that layer again.

A translation from Keras writes out what PyTorch has no layer for, and notes what it was. On the way back the noted
layer is made and run beside the captured code, on the same random weights and inputs, in evaluation and in training:
the code counts, whatever was noted.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from diglot.errors import DiglotError
from diglot.frontends.marks import CallRecord
from diglot.frontends.subgraphs import Part, part_of, stores_of
from diglot.ir.hub import Hub, is_mark
from diglot.ir.kept_layer import KeptLayer, Placed

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("keras_layer(Tensor[] inputs, Tensor[] weights, str path) -> Tensor[]")


def place(hub: Hub, records: Mapping[int, CallRecord], layers: Sequence[KeptLayer]) -> None:
    """Make one node of each call of a module that still is the layer it stood for, in place."""
    for layer in sorted(layers, key=lambda k: (bool(k.ranks), k.target.count("."))):
        taken = {placed.layer.target for placed in hub.kept.values()}
        if any(f"{layer.target}.".startswith(f"{path}.") for path in taken):
            continue
        if not _has_weights(hub, layer):
            continue
        with _names_kept():
            found = _found(hub, records, layer)
        if found is not None:
            placed, parts = found
            hub.kept[layer.path] = placed
            for part in parts:
                _replace(hub, placed.layer, part)


def _found(
    hub: Hub, records: Mapping[int, CallRecord], layer: KeptLayer
) -> tuple[Placed, list[Part]] | None:
    """The layer's parts of the graph; None where a part is that layer no more, or the layer cannot be made."""
    from diglot.frontends.kept_parts import Search
    from diglot.frontends.keras_layers.constructors import NotWritableError, constructor
    from diglot.frontends.keras_tracing.original_layer import OriginalLayer, errors

    try:
        original = OriginalLayer(layer)
        if layer.ranks:
            found = Search(hub, records, layer, original).run()
            if found is None:
                return None
            layer, part = found
            parts = [part]
        else:
            indices = [index for index in records if records[index].path == layer.source]
            calls = [_call(hub, layer, index) for index in indices]
            parts = [call for call in calls if call is not None]
            if not parts or len(parts) < len(calls) or (not layer.source and len(parts) > 1):
                return None  # a program that is one layer, and is another in training
            if not all(original.computes(hub, part) for part in parts):
                return None
        return Placed(layer, constructor(layer.layer), original.positional), parts
    except (DiglotError, NotWritableError, *errors()):
        return None


def _call(hub: Hub, layer: KeptLayer, index: int) -> Part | None:
    """The part of the graph that is one call; None where it takes or gives other tensors than were noted."""
    taken: dict[str, fx.Node] = {}
    given: dict[str, fx.Node] = {}
    for node in hub.graph.nodes:
        if is_mark(node):
            tag = node.args[1].split("|")
            if tag[0] == str(index) and tag[1] in ("in", "out"):
                (taken if tag[1] == "in" else given)[tag[2]] = node
    if set(taken) != {parameter for parameter, _, _ in layer.inputs}:
        return None
    if len(given) != len(layer.outputs):
        return None
    inputs = [taken[parameter] for parameter, _, _ in layer.inputs]
    own = {n for n, parameter in hub.parameters.items() if parameter.name in layer.sources}
    return part_of(hub, inputs, list(given.values()), stores_of(hub, own))


def _has_weights(hub: Hub, layer: KeptLayer) -> bool:
    """Whether the layer's weights are a model's, and nobody else's."""
    known = {parameter.name for parameter in hub.parameters.values()}
    own, below = {*layer.sources, *layer.constants}, f"{layer.source}." if layer.source else ""
    others = [n for n, first in hub.aliases.items() if first in own and n not in own]
    return own <= known and all(name.startswith(below) for name in others)


@contextlib.contextmanager
def _names_kept() -> Iterator[None]:
    """Layers that are made within the block leave the names that Keras gives as they were."""
    from keras.src.backend.common import global_state

    before = dict(global_state.get_global_attribute("object_name_uids") or {})
    try:
        yield
    finally:
        found = global_state.get_global_attribute("object_name_uids")
        if found is not None:
            found.clear()
            found.update(before)


def _replace(hub: Hub, layer: KeptLayer, part: Part) -> None:
    """Put one node in the place of a part of the graph."""
    graph, first = hub.graph, part.outputs[0]
    said = (part.outputs[0] if layer.ranks else part.inputs[0]).meta.get("nn_module_stack") or {}
    around = {
        key: held
        for key, held in said.items()
        if not held[0] or not layer.source or layer.source.startswith(f"{held[0]}.")
    }
    stack = {**around, layer.path: (layer.path, layer.layer["class_name"])}
    names = {parameter.name: node for node, parameter in hub.parameters.items()}
    perms = [perm for _, _, perm in layer.inputs]
    with graph.inserting_before(min(part.outputs, key=list(graph.nodes).index)):
        inputs = [
            _permuted(graph, _taken(layer, mark), perm, around)
            for mark, perm in zip(part.inputs, perms, strict=True)
        ]
        weights = [names[name] for name in layer.sources]
        node = graph.call_function(
            torch.ops.diglot.keras_layer.default, (inputs, weights, layer.path)
        )
        trace = first.meta.get("stack_trace")
        node.meta = {"nn_module_stack": stack, "stack_trace": trace}
        values = []
        for place, (mark, (_, perm)) in enumerate(zip(part.outputs, layer.outputs, strict=True)):
            value = mark.meta["val"]
            values.append(value.permute(perm) if perm else value)
            item = graph.call_function(operator.getitem, (node, place))
            item.meta = {"nn_module_stack": stack, "val": values[-1], "stack_trace": trace}
            back = sorted(range(len(perm)), key=perm.__getitem__) if perm else None
            made = _permuted(graph, item, back, around)
            if layer.source:
                mark.replace_all_uses_with(made)
            else:  # a program's own results stay marked
                mark.args = (made, *mark.args[1:])
            if mark in hub.outputs and layer.source:
                hub.outputs[hub.outputs.index(mark)] = made
        node.meta["val"] = values
    path = layer.source
    for old in reversed(list(graph.nodes)):
        inside = not path or any(
            p == path for p, _ in (old.meta.get("nn_module_stack") or {}).values()
        )
        if inside and not old.users and old.op == "call_function":
            graph.erase_node(old)


def _taken(layer: KeptLayer, node: fx.Node) -> Any:
    """The value that a layer takes: what a module's mark passes on."""
    return node.args[0] if layer.source and not layer.ranks else node


def _permuted(
    graph: fx.Graph, node: fx.Node, perm: Sequence[int] | None, stack: dict[str, Any]
) -> fx.Node:
    if perm is None:
        return node
    made = graph.call_function(torch.ops.aten.permute.default, (node, list(perm)))
    made.meta = {"nn_module_stack": stack, "val": node.meta["val"].permute(list(perm))}
    return made
