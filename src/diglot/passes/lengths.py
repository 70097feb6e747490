"""Recurrent layers over padded sequences, by the sequences' lengths: PyTorch packs, where Keras takes a mask.

Before::

    masked_rnn(x, …, mask=step_mask(lengths, length))
    mask = arange(length) < lengths[:, None];  masked_rnn(x, …, mask=step_mask(mask.sum(1), length))
    y[:, : amax(lengths).item()]

After::

    masked_rnn(x, …, mask=lengths)
    masked_rnn(x, …, mask=lengths)
    trim_steps(y, lengths)

Requires: nothing runs the hub any more. Ensures: what is written packs by the lengths themselves.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name


def hand_over(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node) != "diglot.step_mask.default":
            continue
        lengths = node.args[0]
        assert isinstance(lengths, fx.Node)
        for user in list(node.users):
            if target_name(user) == "diglot.masked_rnn.default":
                user.replace_input_with(node, lengths)
        if not node.users:
            hub.graph.erase_node(node)
    for node in list(hub.graph.nodes):
        if node.op != "call_function":
            continue
        if target_name(node) == "diglot.masked_rnn.default":
            _pack_by_lengths(node)
        elif target_name(node) == "aten.slice.Tensor":
            _trim(node)


def _pack_by_lengths(layer: fx.Node) -> None:
    """Let a layer read the lengths of which the mask was made whose steps it counts."""
    counted = layer.args[9]
    if not _calls(counted, "aten.sum.dim_IntList") or list(counted.args[1]) != [1]:
        return
    below = counted.args[0]
    if not _calls(below, "aten.lt.Tensor"):
        return
    steps, limits = below.args
    spread = _calls(limits, "aten.unsqueeze.default") and limits.args[1] in (1, -1)
    if spread and _calls(steps, "aten.arange.start_step") and steps.args[0] == 0:
        layer.replace_input_with(counted, limits.args[0])


def _trim(node: fx.Node) -> None:
    """Say of a slice up to the greatest length that this is what it is."""
    x, axis, start, end = (*node.args, None, None)[:4]
    if (
        axis != 1
        or start not in (None, 0)
        or len(node.args) > 4
        or not _calls(end, "aten.item.default")
    ):
        return
    greatest = end.args[0]
    if not _calls(greatest, "aten.amax.default", "aten.max.default"):
        return
    lengths = greatest.args[0]
    if isinstance(lengths, fx.Node) and lengths.meta["val"].dim() == 1:
        node.target = torch.ops.diglot.trim_steps.default
        node.args = (x, lengths)


def _calls(value: Any, *names: str) -> TypeGuard[fx.Node]:
    return (
        isinstance(value, fx.Node) and value.op == "call_function" and target_name(value) in names
    )
