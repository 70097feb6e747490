"""Tables of numbers that a model holds: short ones are written into the program, long ones go into its weight file.

A mask or an encoding of positions that an author made with NumPy is a constant of the captured graph, and a tensor of a
frozen graph that feeds no weight is a buffer out of the state dict. Either may have a dozen numbers or a million.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from diglot.codegen.names import common_start, unique
from diglot.codegen.torch_dialect import is_pattern
from diglot.frontends.keras_tracing.tensor import constant, is_backend_tensor
from diglot.ir.hub import Hub, Parameter
from diglot.literals import SHORT_TABLE


@dataclasses.dataclass
class Settled:
    """What became of the tables: the names of those that the program holds itself, and the new buffers' numbers."""

    written: set[str]
    arrays: dict[str, np.ndarray]


def settle(hub: Hub, module: nn.Module) -> Settled:
    """Make short tables constants of the program and long ones buffers of the state dict, in place.

    ``module`` is what was captured; a new buffer has the name of the attribute of the author's that holds it.
    """
    settled = Settled(set(), {})
    constants, modules = list(hub.constants.items()), dict(module.named_modules())
    for node, parameter in list(hub.parameters.items()):
        if parameter.persistent:
            continue
        if parameter.value.numel() > SHORT_TABLE:
            hub.parameters[node] = dataclasses.replace(parameter, persistent=True)
        else:
            hub.write_out(node)
            settled.written.add(parameter.name)
    for node, value in constants:
        wanted = node.meta["val"].dtype
        if value.numel() <= SHORT_TABLE or value.is_complex() or is_pattern(value, wanted):
            if "turned" in node.meta:  # a buffer of the program's own
                node.meta["named"] = _name(hub, node, modules, value).rpartition(".")[2]
            continue
        name = unique(_name(hub, node, modules, value), {p.name for p in hub.parameters.values()})
        narrow = value.to(wanted)
        del hub.constants[node]
        hub.parameters[_placeholder(hub, node, name)] = Parameter(
            name, narrow, trainable=False, buffer=True
        )
        # All digits where they are known: the program in float64 is proven with them.
        exact = torch.equal(narrow.to(value.dtype), value)
        settled.arrays[name] = (narrow if exact else value).numpy()
    return settled


def _placeholder(hub: Hub, node: fx.Node, name: str) -> fx.Node:
    """What stands for a buffer in the graph, for a constant that is one now."""
    if node.op == "placeholder":
        return node
    with hub.graph.inserting_before(next(iter(hub.graph.nodes))):
        made = hub.graph.placeholder(name.replace(".", "_"))
    made.meta = {"val": node.meta["val"]}
    node.replace_all_uses_with(made)
    hub.graph.erase_node(node)
    return made


def _name(hub: Hub, node: fx.Node, modules: Mapping[str, nn.Module], value: torch.Tensor) -> str:
    """A name below the innermost module that holds every reader."""
    paths = [hub.call_of[user].path.split(".") for user in node.users if user in hub.call_of]
    path = ".".join(common_start(paths)) if paths else ""
    layer = getattr(modules.get(path), "source_layer", None)
    own = vars(layer).items() if layer is not None else ()
    if "turned" in node.meta:
        axes = node.meta["turned"]
        value = value.permute([axes.index(axis) for axis in range(len(axes))])
    named = next((name for name, held in own if _holds(held, value)), "table")
    return ".".join(filter(None, [path, named.strip("_")]))


def _holds(held: Any, value: torch.Tensor) -> bool:
    """Whether an attribute is an array of these numbers, but for axes of size 1."""
    if not isinstance(held, np.ndarray) and not is_backend_tensor(held):
        return False
    if math.prod(held.shape) != value.numel():
        return False
    array = constant(held)
    return torch.equal(array.flatten().to(value.dtype), value.flatten())
