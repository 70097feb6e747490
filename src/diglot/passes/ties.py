"""A product with a table that two modules share -> the Linear which it was in PyTorch.

Before (as Keras reads an embedding's table a second time)::

    y = matmul(x, permute(embedding.weight, [1, 0]))

After::

    y = linear(x, lm_head.weight)

Requires: the module is one of those that the model had in PyTorch, without a bias. The two weights are tied again
where the program is built.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, Parameter, target_name

_LINEAR = "torch.nn.modules.linear.Linear"
_TURNED = {"aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.numpy_T.default"}


def give_to_linear(hub: Hub, table: fx.Node, name: str) -> bool:
    """Let a Linear whose weight is called ``name`` multiply by a table, in place; False where nothing does."""
    owner = name.rpartition(".")[0]
    for turned in list(table.users):
        if target_name(turned) not in _TURNED or turned.meta["val"].dim() != 2:
            continue
        for product in list(turned.users):
            inside = hub.call_of[product].path
            if target_name(product) != "aten.matmul.default" or product.args[1] is not turned:
                continue
            if inside and not owner.startswith(f"{inside}."):
                continue
            _give(hub, product, table, name)
            if not turned.users:
                hub.call_of.pop(turned).items.remove(turned)
                hub.graph.erase_node(turned)
            return True
    return False


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
