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

_LINES = 16
"""A table that would take more lines of the program than this is no part of it."""
_WIDTH = 72


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
        if _is_long(parameter.value):
            hub.parameters[node] = dataclasses.replace(parameter, persistent=True)
        else:
            hub.write_out(node)
            settled.written.add(parameter.name)
    for node, value in constants:
        if not node.users:  # what it was folded into is a table of its own
            continue
        wanted = node.meta["val"].dtype
        if not _is_long(value) or is_pattern(value, wanted):
            named = _name(hub, node, modules, value).rpartition(".")[2]
            if named != "table" or "turned" in node.meta:  # a buffer of the program's own
                node.meta["named"] = named
            continue
        name = unique(_name(hub, node, modules, value), {p.name for p in hub.parameters.values()})
        narrow = value.to(wanted)
        del hub.constants[node]
        hub.parameters[_placeholder(hub, node, name)] = Parameter(
            name, narrow, trainable=False, buffer=True
        )
        # All digits where they are known: the program in float64 is proven with them.
        exact = torch.equal(narrow.to(value.dtype), value)
        settled.arrays[name] = _meant((narrow if exact else value).numpy())
    return settled


def _is_long(value: torch.Tensor) -> bool:
    """Tell whether a table is too long for the program's text."""
    if value.is_complex():
        return False
    return value.numel() > SHORT_TABLE or _lines(value) > _LINES


def _lines(value: torch.Tensor) -> int:
    """The lines that the numbers of a table take in a formatted program: a row that is too wide takes one for each."""
    rows = value.numpy() if value.dim() else value.reshape(1).numpy()
    widths = np.char.str_len(rows.astype(str)) + 2
    if widths.sum() <= _WIDTH:
        return 1
    lines = np.where(widths.sum(-1) <= _WIDTH, 1, rows.shape[-1] + 2)
    for _ in range(rows.ndim - 1):
        lines = lines.sum(-1) + 2
    return int(lines)


def _meant(numbers: np.ndarray) -> np.ndarray:
    """The numbers of a table that an author may have written, each the shortest decimal that is its float32."""
    if numbers.dtype != np.float32 or numbers.size > SHORT_TABLE:
        return numbers
    return numbers.astype(str).astype(np.float64)


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
    """Whether an attribute is an array of these numbers, but for axes of size 1, or for being transposed."""
    if not isinstance(held, np.ndarray) and not is_backend_tensor(held):
        return False
    if math.prod(held.shape) != value.numel():
        return False
    array = constant(held).to(value.dtype)
    ways = (array, array.mT) if array.dim() == 2 else (array,)
    return any(torch.equal(way.flatten(), value.flatten()) for way in ways)
