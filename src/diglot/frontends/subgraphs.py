"""A part of a captured graph, cut out so that it runs by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import fx

from diglot.default_dtype import default_dtype
from diglot.ir.hub import Hub, is_call, target_name
from diglot.ir.runnable import Interpreter

#: What no part may hold that is looked at by its results alone: it changes a tensor of others.
_STORES = {"aten.copy_.default"}


@dataclasses.dataclass(frozen=True)
class Part:
    """The nodes between some values of a graph and others: it takes ``inputs`` and gives ``outputs``; what else it
    reads are ``weights`` (and constants) of the hub and sizes."""

    inputs: list[fx.Node]
    outputs: list[fx.Node]
    nodes: list[fx.Node]
    weights: list[fx.Node]
    sizes: list[fx.Node]

    def evaluate(self, hub: Hub, inputs: Sequence[Any], state: dict[str, Any]) -> list:
        """What the part gives in evaluation."""
        with torch.no_grad(), default_dtype(torch.float64):
            return self.run(hub, inputs, state, training=False)

    def run(self, hub: Hub, inputs: Sequence[Any], state: dict[str, Any], training: bool) -> list:
        """What the part gives for other inputs and other weights, by their names, in float64."""
        graph, held = fx.Graph(), {}
        given: list[Any] = []
        for node, value in dict(zip(self.inputs, inputs, strict=True)).items():
            held[node] = graph.placeholder(node.name)
            given.append(value)
        for node in self.weights:
            held[node] = graph.placeholder(node.name)
            parameter = hub.parameters.get(node)
            value = state.get(parameter.name) if parameter else hub.constants[node]
            if value is None:  # one that is not the layer's
                value = parameter.value.detach().clone()
            given.append(_wide(value))
        for node in self.sizes:
            held[node] = graph.placeholder(node.name)
            given.append(int(node.meta["val"].node.hint))
        for node in self.nodes:
            held[node] = graph.node_copy(node, held.__getitem__)
            held[node].args = _widened(held[node].args)
            held[node].kwargs = _widened(held[node].kwargs)
        graph.output(tuple(held[node] for node in self.outputs))
        return list(Interpreter(fx.GraphModule({}, graph), training).run(*given))


def part_of(
    hub: Hub, inputs: list[fx.Node], outputs: list[fx.Node], stores: Sequence[fx.Node] = ()
) -> Part | None:
    """The part between some nodes; None where it reads another value of the program, or changes one.

    ``stores``: what changes the part's own tensors, of which it is a part.
    """
    known = set(inputs)
    pending, found = [*outputs, *stores], set()
    weights, sizes = set(), set()
    while pending:
        node = pending.pop()
        if node in known or node in found or node in weights or node in sizes:
            continue
        if node in hub.parameters or node in hub.constants:
            weights.add(node)
        elif isinstance(node.meta.get("val"), torch.SymInt):
            sizes.add(node)
        elif node.op != "call_function" or (is_store(node) and node not in stores):
            return None
        else:
            found.add(node)
            pending += node.all_input_nodes
    order = {node: place for place, node in enumerate(hub.graph.nodes)}

    def ordered(nodes: set[fx.Node]) -> list[fx.Node]:
        return sorted(nodes, key=order.__getitem__)

    return Part(inputs, outputs, ordered(found), ordered(weights), ordered(sizes))


def is_store(node: fx.Node) -> bool:
    """Whether a node changes a tensor in place."""
    return node.op == "call_function" and target_name(node) in _STORES


def stores_of(hub: Hub, weights: Collection[fx.Node]) -> list[fx.Node]:
    """What changes one of some weights of the hub."""
    found = []
    for node in hub.graph.nodes:
        held = node.args[0] if is_store(node) else None
        while is_call(held, {"aten.detach.default"}):
            held = held.args[0]  # type: ignore[union-attr]
        if held in weights:
            found.append(node)
    return found


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.double() if value.is_floating_point() else value


def _widened(value: Any) -> Any:
    """Arguments with float64 in the place of float32."""
    if isinstance(value, (list, tuple)):
        return type(value)(_widened(v) for v in value)
    if isinstance(value, dict):
        return {k: _widened(v) for k, v in value.items()}
    return torch.float64 if value is torch.float32 else value
