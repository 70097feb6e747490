"""A product with a table that two modules share -> the Linear which it was in PyTorch.

Before (as Keras reads an embedding's table a second time)::

    y = matmul(x, permute(embedding.weight, [1, 0]))

or ``linear(x, embedding.weight)``. After::

    y = linear(x, lm_head.weight)

Requires: the module is one of those that the model had in PyTorch, without a bias. The two weights are tied again
where the program is built.
"""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import fx

from diglot.ir.hub import Hub, Parameter, target_name

_FUNCTION = "aten.linear.default"
_LINEAR = "torch.nn.modules.linear.Linear"
_TURNED = {"aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.numpy_T.default"}


def shared_module(name: str, first: str, modules: Container[str]) -> tuple[str, str] | None:
    """The paths of the modules that are one where two names are of one weight: the innermost such that there is a
    module to hold the first of them; None where there is none."""
    ours, theirs = name.split("."), first.split(".")
    while ours and theirs and ours.pop() == theirs.pop():
        if ours and ".".join(ours[:-1]) in modules:
            return ".".join(ours), ".".join(theirs)
    return None


def give_to_linear(hub: Hub, table: fx.Node, name: str) -> bool:
    """Let a Linear whose weight is called ``name`` multiply by a table, in place; False where nothing does."""
    owner = name.rpartition(".")[0]
    for product in list(table.users):
        if target_name(product) == _FUNCTION and product.args[1:] == (table,):
            if _is_within(hub, product, owner):
                _give(hub, product, table, name)
                return True
    for turned in list(table.users):
        if target_name(turned) not in _TURNED or turned.meta["val"].dim() != 2:
            continue
        for product in list(turned.users):
            if target_name(product) != "aten.matmul.default" or product.args[1] is not turned:
                continue
            if not _is_within(hub, product, owner):
                continue
            _give(hub, product, table, name)
            if not turned.users:
                hub.call_of.pop(turned).items.remove(turned)
                hub.graph.erase_node(turned)
            return True
    return False


def _is_within(hub: Hub, product: fx.Node, owner: str) -> bool:
    """Whether a module is one of those that a product's module may call."""
    inside = hub.call_of[product].path
    return not inside or owner.startswith(f"{inside}.")


def _give(hub: Hub, product: fx.Node, table: fx.Node, name: str) -> None:
    with hub.graph.inserting_before(table):
        weight = hub.graph.placeholder(f"{table.name}_tied")
    weight.meta = dict(table.meta)
    known = hub.parameters[table]
    hub.parameters[weight] = Parameter(name, known.value, known.trainable, buffer=False)
    product.target = torch.ops.aten.linear.default
    product.args = (product.args[0], weight)
    owner = name.rpartition(".")[0]
    stack = product.meta.get("nn_module_stack") or {}
    product.meta["nn_module_stack"] = {**stack, owner: (owner, _LINEAR)}
