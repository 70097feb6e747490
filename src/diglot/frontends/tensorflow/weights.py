"""The weights of a graph's modules: those that no layer holds, where each is read, and the weight map's entries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from diglot.frontends.tensorflow import shared, tree, values
from diglot.frontends.tensorflow.graph import Node
from diglot.frontends.tensorflow.layer import Home
from diglot.frontends.tensorflow.names import free_name, weight_name
from diglot.frontends.tensorflow.tree import Path
from diglot.frontends.tensorflow.values import Precision
from diglot.ir.weight_entry import WeightEntry

if TYPE_CHECKING:
    from diglot.frontends.tensorflow.build import Builder
    from diglot.frontends.tensorflow.scope import Root


def array_of(node: Node) -> np.ndarray:
    """The value of a weight."""
    return node.value if node.op == "Const" else node.attrs["variable"].value


def origin(node: Node) -> str:
    """The node of the source's file that holds a weight; "" for what was computed of constants."""
    return node.attrs.get("node", "") if node.op == "Const" else node.attrs["variable"].node


def _weight_name(node: Node) -> str:
    return node.name if node.op == "Const" else node.attrs["variable"].name


def _trainable(node: Node) -> bool:
    return node.op != "Const" and bool(node.attrs["variable"].trainable)


def place_loose(builder: Builder, root: Root, nodes: list[Node], wishes: dict[Node, Path]) -> None:
    """Register the variables that no layer holds, in the module that reads them."""
    loose = [n for n in nodes if n.op == "Variable" and n not in builder.homes]
    owners = Counter(weight_name(n).rpartition("/")[0] for n in loose)
    for node in loose:
        path = shared.plain(wishes[node])
        while path and path not in builder.modules:  # its place was dissolved
            path = path[:-1]
        module = builder.modules.get(path, root)
        alone = owners[weight_name(node).rpartition("/")[0]] == 1
        wished = builder.loose.get(node) or _loose_name(node, path, module, alone)
        name = free_name(module, tree.identifier(wished))
        array = array_of(node)
        dtype = values.torch_dtype(array.dtype.name, Precision())
        tensor = torch.zeros(array.shape, dtype=dtype)
        if _trainable(node) and tensor.is_floating_point():
            module.register_parameter(name, nn.Parameter(tensor))
        else:
            module.register_buffer(name, tensor)
        builder.homes[node] = Home((*path, ""), (name,))


def _loose_name(node: Node, path: Path, module: nn.Module, alone: bool) -> str:
    """A name for a variable in a module: its own, or that of its layer where the layer has no module.

    ``alone``: no other loose variable is of that layer.
    """
    *owner, last = weight_name(node).split("/")
    if not owner or (path and tree.identifier(owner[-1]) == path[-1]):
        return tree.identifier(last)
    named = tree.identifier(owner[-1])
    return named if alone and not hasattr(module, named) else tree.identifier(f"{named}_{last}")


def point_reads(builder: Builder, root: Root) -> None:
    """Point every read of a variable to the parameter that holds it."""
    for node, step in builder.reads.items():
        home = builder.homes[node]
        path = home.path[:-1] if home.path[-1] == "" else home.path
        step.module = builder.modules.get(path, root)
        step.name, step.steps = home.parameters[0], home.steps


def entries_of(builder: Builder, root: nn.Module) -> list[WeightEntry]:
    """The weight map's entries, one for each weight that has a place in the tree."""
    state = {**dict(root.named_parameters(remove_duplicate=False)), **dict(root.named_buffers())}
    names: dict[str, int] = {}
    entries = []
    for node, home in builder.homes.items():
        prefix = ".".join(p for p in home.path if p)
        sources = [f"{prefix}.{p}" if prefix else p for p in home.parameters]
        array = array_of(node)
        target = _weight_name(node)
        names[target] = names.get(target, 0) + 1
        if names[target] > 1:
            target = f"{target}__{names[target]}"
        trainable = _trainable(node)
        for source in sources:
            if isinstance(state[source], nn.Parameter):
                state[source].requires_grad_(trainable)
        kind = "parameter" if isinstance(state[sources[0]], nn.Parameter) else "buffer"
        entries.append(
            WeightEntry(
                target=target,
                sources=sources,
                shape=array.shape,
                source_shapes=[tuple(state[s].shape) for s in sources],
                combine=home.combine,
                steps=home.steps,
                dtype=array.dtype.name,
                trainable=trainable and kind == "parameter",
                kind=kind,
            )
        )
    return entries


def fill(root: nn.Module, entries: list[WeightEntry], arrays: dict[str, np.ndarray]) -> None:
    """Give the module's weights the values of the source, by inverting the entries.

    A parameter that no weight of the source is made of (the second bias of a recurrent layer) stays fixed.
    """
    held = {n for e in entries for n in e.sources}
    for name, parameter in root.named_parameters(remove_duplicate=False):
        if name not in held:
            parameter.requires_grad_(False)
    state = {**dict(root.named_parameters(remove_duplicate=False)), **dict(root.named_buffers())}
    with torch.no_grad():
        for entry in entries:
            current = [state[n].detach().numpy() for n in entry.sources]
            for name, array in zip(
                entry.sources, entry.to_source(arrays[entry.target], current), strict=True
            ):
                state[name].copy_(torch.from_numpy(np.array(array, order="C")))
