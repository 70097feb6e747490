"""The final states of a recurrent layer's last layer, as Keras returns them: one tensor, no axis of layers.

Before (one direction, or two)::

    h[-1]        h.squeeze(0)        torch.cat([h[-2], h[-1]], dim=1)

After::

    last_states(h, directions)

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
        # Several layers under a mask are a class of their own, which returns what PyTorch returns.
        if target_name(node) in _RECURRENT or (target_name(node) == _MASKED and node.args[4] == 1):
            read = [u for u in node.users if u.users]
            if len(read) == 1 and read[0].target is operator.getitem and read[0].args[1] == 1:
                _rewrite(hub, read[0], bidirectional=bool(node.args[7]))


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
