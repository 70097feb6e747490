"""The final states of a recurrent layer's last layer, as Keras returns them: one tensor, no axis of layers.

Before (one direction, or two)::

    h[-1]        h.squeeze(0)        torch.cat([h[-2], h[-1]], dim=1)

After::

    last_states(h, directions)

The last step of one direction's outputs is that state, too: ``outputs[:, -1]``.

Requires: nothing else of what the recurrent layer returns is read. Ensures: the same function.
"""

from __future__ import annotations

import operator

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name

_RECURRENT = {f"aten.{kind}.input" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
_MASKED = "diglot.masked_rnn.default"
_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("last_states(Tensor h, int directions) -> Tensor")
_LIBRARY.impl(
    "last_states",
    lambda h, directions: torch.cat(list(h[-directions:]), -1),
    "CompositeExplicitAutograd",
)


def take_last_states(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function":
            continue
        if target_name(node) in _RECURRENT:
            _take_last_step(hub, node)
        # Several layers under a mask are a class of their own, which returns what PyTorch returns.
        if target_name(node) in _RECURRENT or (target_name(node) == _MASKED and node.args[4] == 1):
            read = [u for u in node.users if u.users]
            if len(read) == 1 and read[0].target is operator.getitem and read[0].args[1] == 1:
                _rewrite(hub, read[0], bidirectional=bool(node.args[7]))


def _take_last_step(hub: Hub, node: fx.Node) -> None:
    """Read the last step of the outputs off the states, where nothing else of either is read."""
    read = [u for u in node.users if u.users]
    if node.args[7] or len(read) != 1 or read[0].target is not operator.getitem or read[0].args[1]:
        return
    outputs = read[0]
    steps = 1 if node.args[8] else 0
    (reader,) = outputs.users if len(outputs.users) == 1 else (None,)
    if reader is None or target_name(reader) != "aten.select.int" or outputs.meta["val"].dim() != 3:
        return
    if reader.args[1] != steps or reader.args[2] != -1:
        return
    with hub.graph.inserting_before(outputs):
        states = hub.graph.call_function(operator.getitem, (node, 1))
        states.meta = {**outputs.meta, "val": node.meta["val"][1]}
        last = hub.graph.call_function(torch.ops.aten.select.int, (states, 0, -1))
        last.meta = dict(reader.meta)
    reader.replace_all_uses_with(last)
    hub.graph.erase_node(reader)
    hub.graph.erase_node(outputs)


def _rewrite(hub: Hub, states: fx.Node, *, bidirectional: bool) -> None:
    count = int(states.meta["val"].shape[0])
    wanted = [count - 2, count - 1] if bidirectional else [count - 1]
    users = list(states.users)
    found: fx.Node | None = None
    if all(_is_squeeze(u) for u in users):
        found = users[0] if count == 1 and len(users) == 1 else None
    elif all(target_name(u) == "aten.select.int" and u.args[1] == 0 for u in users):
        if sorted(int(u.args[2]) % count for u in users) == wanted:
            found = _joined(users, count) if bidirectional else users[0]
    if found is None:
        return
    with hub.graph.inserting_before(found):
        made = hub.graph.call_function(
            torch.ops.diglot.last_states.default, (states, 2 if bidirectional else 1)
        )
        made.meta = dict(found.meta)
    found.replace_all_uses_with(made)
    hub.graph.erase_node(found)
    for user in list(states.users):
        if not user.users:
            hub.graph.erase_node(user)


def _is_squeeze(node: fx.Node) -> bool:
    """Tell whether a node drops the axis of layers, when that has one place."""
    named = target_name(node) in ("aten.squeeze.dim", "aten.squeeze.dims")
    return named and node.args[1] in (0, [0], -3, [-3])


def _joined(selected: list[fx.Node], count: int) -> fx.Node | None:
    """Return the concatenation of both directions' states, forward first, that alone reads them."""
    readers = {u for s in selected for u in s.users}
    if len(readers) != 1:
        return None
    (join,) = readers
    order = sorted(selected, key=lambda s: int(s.args[2]) % count)
    if target_name(join) != "aten.cat.default" or list(join.args[0]) != order:
        return None
    dim = join.args[1] if len(join.args) > 1 else 0
    return join if dim in (1, -1) else None
