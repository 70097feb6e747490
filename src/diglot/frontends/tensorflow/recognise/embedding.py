"""Rows of a table picked by ids: ``nn.Embedding``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.frontends.tensorflow.graph import Out
from diglot.frontends.tensorflow.layer import Weight
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.recognise.finder import Finder


def find(finder: Finder) -> None:
    """Make layers of the gathers from variables of two axes."""
    for node in finder.order:
        if node.op not in ("GatherV2", "Gather", "ResourceGather") or node.attrs.get("batch_dims"):
            continue
        table, ids = node.inputs[0].node, node.inputs[1]
        held = table.op == "Variable" or (table.op == "Const" and not finder.variables)
        if not held or finder.weight(node.inputs[0]) is None or finder.rank(node.inputs[0]) != 2:
            continue
        if len(node.inputs) == 3 and finder.ints(node.inputs[2]) not in ([0], [-2]):
            continue
        ids = _unwrapped(finder, ids)
        value = finder.lowered.values[ids]
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            continue
        rows, width = finder.array_shape(table)
        options = {"num_embeddings": rows, "embedding_dim": width}
        finder.layer(
            Out(node), [ids], nn.Embedding, options, [Weight(table, ("weight",))], _look_up
        )
    finder.commit()


def _unwrapped(finder: Finder, ids: Out) -> Out:
    """Ids without Keras's step that lets negative ones count from the end, where none can be meant.

    Ids that the model is given, or a range from 0, have none; those that it computes may.
    """
    node = ids.node
    if node.op not in ("SelectV2", "Select"):
        return ids
    condition, shifted, plain = node.inputs
    negative = (
        condition.node.op == "Less"
        and condition.node.inputs[0] == plain
        and finder.ints(condition.node.inputs[1]) == [0]
    )
    added = shifted.node.op in ("AddV2", "Add") and plain in shifted.node.inputs
    return plain if negative and added and _from_zero(finder, plain) else ids


def _from_zero(finder: Finder, ids: Out) -> bool:
    node = ids.node
    while node.op in ("Cast", "ExpandDims", "Reshape", "Squeeze", "StridedSlice") and node.inputs:
        node = node.inputs[0].node
    if node.op == "Const":
        return bool((node.value >= 0).all())
    if node.op == "Range":
        return all(finder.ints(o) == [n] for o, n in zip(node.inputs[::2], (0, 1), strict=True))
    return node.op == "Input"


def _look_up(call: Call, module: nn.Module, ids: Any) -> Any:
    return module(call.tensor(ids))
