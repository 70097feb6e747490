"""Attention whose scores are read as well: they are what the values are weighed with, once.

Before (``keras.layers.MultiHeadAttention`` with ``return_attention_scores=True``)::

    made = F.scaled_dot_product_attention(q, k, v, mask, p)
    scores = F.softmax((q @ k.transpose(-2, -1) * scale).masked_fill(~mask, -1e9), -1).masked_fill(~mask, 0.0)

After::

    scores = ...
    made = F.dropout(scores, p, self.training) @ v

Requires: nothing dead in the graph. Ensures: the same function; scores that nobody reads are left to PyTorch's own
attention.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call

_ATTENTION = {"aten.scaled_dot_product_attention.default"}
_TURNS = {"aten.transpose.int", "aten.permute.default"}
_PRODUCT = {"aten.matmul.default", "aten.bmm.default"}
_SOFTMAX = {"aten.softmax.int", "aten._softmax.default"}
_MASKED = {"aten.masked_fill.Scalar", "aten.masked_fill.Tensor"}
_BETWEEN = {"aten.mul.Tensor", *_MASKED}


def weigh_once(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        scores = _scores(*node.args[:2]) if is_call(node, _ATTENTION) else None
        if scores is None:
            continue
        rate = node.args[4] if len(node.args) > 4 else node.kwargs.get("dropout_p", 0.0)
        weights = scores
        with hub.graph.inserting_before(node):
            if rate:
                dropout = torch.ops.aten.dropout.default
                weights = hub.graph.call_function(dropout, (scores, rate, True))
                weights.meta = {**node.meta, "val": scores.meta["val"]}
            made = hub.graph.call_function(torch.ops.aten.matmul.default, (weights, node.args[2]))
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)


def _scores(query: fx.Node, key: fx.Node) -> fx.Node | None:
    """The softmax over the products of a query and a key, without what it gives to hidden keys."""
    turned = (user for user in key.users if is_call(user, _TURNS))
    products = (user for turn in turned for user in turn.users if is_call(user, _PRODUCT))
    for product in products:
        if product.args[0] is not query:
            continue
        found = product
        while (following := _following(found)) is not None:
            found = following
            if is_call(found, _SOFTMAX):
                masked = [user for user in found.users if is_call(user, _MASKED)]
                return masked[0] if masked else found
    return None


def _following(node: fx.Node) -> fx.Node | None:
    return next((user for user in node.users if is_call(user, {*_BETWEEN, *_SOFTMAX})), None)
