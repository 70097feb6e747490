"""A padded batch that need not be cut to its longest sequence, as only its sequences' own steps are read.

Before::

    trim_steps(x, lengths)[arange, lengths - 1]        trim_steps(x, lengths).sum(1)

After::

    x[arange, lengths - 1]        x.sum(1)

Requires: the padding is zeros (what a recurrent layer leaves there). Ensures: the same function.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from diglot.ir.hub import Hub, target_name

_TRIM = "diglot.trim_steps.default"
_RNN = "diglot.masked_rnn.default"


def keep_padding(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if (
            node.op != "call_function"
            or target_name(node) != _TRIM
            or not _is_padded_by_zeros(node)
        ):
            continue
        if node.users and all(_reads_steps(user, node) for user in node.users):
            node.replace_all_uses_with(node.args[0])
            hub.graph.erase_node(node)


def _is_padded_by_zeros(node: fx.Node) -> bool:
    source = node.args[0]
    return source.target is operator.getitem and target_name(source.args[0]) == _RNN


def _reads_steps(user: fx.Node, node: fx.Node) -> bool:
    """Tell whether an op takes chosen steps, or adds them all up."""
    name = target_name(user)
    args: tuple[Any, ...] = user.args
    if name == "aten.index.Tensor":
        indices = args[1]
        return args[0] is node and len(indices) > 1 and indices[1] is not None
    if name == "aten.gather.default":
        return args[0] is node and args[1] == 1
    if name == "aten.sum.dim_IntList":
        return any(dim % node.meta["val"].dim() == 1 for dim in args[1])
    return False
