"""What a model writes to a weight of its own, in the weight's axes.

Before (``self.conv.kernel.assign(self.conv.kernel * mask)`` of a Keras layer)::

    assign(weight, (weight.permute(2, 3, 1, 0) * mask).permute(3, 2, 0, 1))

After::

    assign(weight, weight * turned_mask)

The mask's ``meta["turned"]`` says how. A mask of 64-bit numbers that are as well 32-bit ones (0 and 1) becomes one of
the weight's own.
Requires: all that lies between the two permutes is elementwise. Ensures: the same function.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import ASSIGN, Hub, is_call, target_name
from diglot.passes.layout.perms import permuted_dims
from diglot.rules.registry import registry

_PERMUTES = {"aten.permute.default", "aten.transpose.int", "aten.t.default"}
_CASTS = {"aten.to.device", "aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout"}


def turn(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if is_call(node, {ASSIGN}) and node.args[0] in hub.parameters:
            _Turned(hub, node).run()


class _Turned:
    """One assignment: what is made of its weight is made again, in the weight's axes."""

    def __init__(self, hub: Hub, node: fx.Node) -> None:
        self.hub, self.node = hub, node
        self.weight: fx.Node = node.args[0]  # type: ignore[assignment]
        self.made: dict[fx.Node, fx.Node] = {}
        self.dims: list[int] = []

    def run(self) -> None:
        value = self.node.args[1]
        rank = self.weight.meta["val"].dim()
        if is_call(value, _PERMUTES):
            self.dims = list(permuted_dims(value, rank))  # type: ignore[arg-type]
            inner = value.args[0]  # type: ignore[union-attr]
            if self._turns(inner):
                self.node.args = (self.weight, self._again(inner))
                self._drop(value)  # type: ignore[arg-type]
        self._narrow()

    def _is_weight(self, node: fx.Node) -> bool:
        if not is_call(node, _PERMUTES) or node.args[0] is not self.weight:
            return False
        there = permuted_dims(node, len(self.dims))
        return [there[d] for d in self.dims] == list(range(len(self.dims)))

    def _is_mask(self, node: fx.Node) -> bool:
        same = node.meta["val"].dim() == len(self.dims)
        return node in self.hub.constants and same and len(node.users) == 1

    def _turns(self, node: fx.Node) -> bool:
        """Tell whether a value is elementwise of the weight, of masks that nothing else reads, and of numbers."""
        value = node.meta.get("val")
        if self._is_weight(node) or (isinstance(value, torch.Tensor) and value.dim() == 0):
            return True
        if node.op != "call_function" or node in self.hub.constants:
            return self._is_mask(node)
        rule = registry().get(target_name(node))
        known = rule is not None and rule.layout == "elementwise" and len(node.users) == 1
        return known and all(self._turns(n) for n in node.all_input_nodes)

    def _again(self, node: fx.Node) -> fx.Node:
        if self._is_weight(node):
            return self.weight
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dim() == 0:
            return node
        if node in self.hub.constants:
            self.hub.constants[node] = self.hub.constants[node].permute(self.dims).contiguous()
            node.meta["val"] = node.meta["val"].permute(self.dims)
            node.meta["turned"] = tuple(self.dims)
            return node
        given = {n: self._again(n) for n in node.all_input_nodes}
        with self.hub.graph.inserting_before(self.node):
            made = self.hub.graph.node_copy(node, given.__getitem__)
        made.meta = {**node.meta, "val": node.meta["val"].permute(self.dims)}
        return made

    def _drop(self, node: fx.Node) -> None:
        if node.op == "call_function" and not node.users:
            given = node.all_input_nodes
            self.hub.graph.erase_node(node)
            for other in given:
                self._drop(other)

    def _narrow(self) -> None:
        """``(w * mask64).to(float32)`` -> ``w * mask32``: a product is rounded once in either."""
        cast = self.node.args[1]
        product = cast.args[0] if is_call(cast, _CASTS) else None  # type: ignore[union-attr]
        if not is_call(product, {"aten.mul.Tensor"}) or product.args[0] is not self.weight:  # type: ignore[union-attr]
            return
        mask = product.args[1]  # type: ignore[union-attr]
        dtype = self.weight.meta["val"].dtype
        if mask not in self.hub.constants or len(mask.users) > 1:
            return
        value = self.hub.constants[mask]
        if torch.equal(value.to(dtype).to(value.dtype), value):
            self.hub.constants[mask] = value.to(dtype)
            mask.meta["val"] = mask.meta["val"].to(dtype)
            product.meta["val"] = cast.meta["val"]  # type: ignore[union-attr]
            self.node.args = (self.weight, product)
