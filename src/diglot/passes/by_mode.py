"""Choices by mode within what one mode alone computes.

Before::

    a = by_mode(f(x), x);  b = by_mode(g(a), h(a))

After (where nothing else reads ``a``)::

    b = by_mode(g(f(x)), h(x))

Requires: functional ops. Ensures: the same function in either mode.
"""

from __future__ import annotations

from torch import fx

from diglot.ir.hub import ASSIGN, Hub, is_call

BY_MODE = "diglot.by_mode.default"


def specialise(hub: Hub) -> None:
    """Rewrite in place."""
    modes: dict[fx.Node, set[int]] = {}
    for node in reversed(list(hub.graph.nodes)):
        found: set[int] = set()
        for user in node.users:
            if is_call(user, {BY_MODE}):
                found |= {i for i in (0, 1) if user.args[i] is node}
            else:
                found |= modes[user]
        ends = node.op == "output" or is_call(node, {ASSIGN})
        modes[node] = {0, 1} if ends else found
    for node in list(hub.graph.nodes):
        if is_call(node, {BY_MODE}):
            node.args = tuple(_taken(node.args[i], i) for i in (0, 1))
        elif len(modes[node]) == 1:
            mode = next(iter(modes[node]))
            for given in list(node.all_input_nodes):
                taken = _taken(given, mode)
                if taken is not given:
                    node.replace_input_with(given, taken)


def _taken(value: fx.Node, mode: int) -> fx.Node:
    """What a value is in training (0) or in evaluation (1)."""
    while is_call(value, {BY_MODE}):
        value = value.args[mode]  # type: ignore[assignment]
    return value
