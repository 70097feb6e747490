"""What of a graph is translated: what an output needs, and what an author writes although nobody reads it.

A result that is read after one call of a module class stays in its other calls too: an author writes the class once,
and an unrolled loop ends with states that nobody reads. So does what the last layer of a list gives in such a loop
(``x = x + self.residuals[i](z)``): without that line the layer, and its weights, would be gone.
"""

from __future__ import annotations

import re

from torch import fx

from diglot.ir.hub import ASSIGN, Call, Hub, is_call, is_mark, is_own
from diglot.passes.pass_through import argument_returned

#: The place of a layer in a list of its author's, as the names of its weights have it.
_IN_LIST = re.compile(r"\.\d+\.")


def living(hub: Hub) -> set[fx.Node]:
    """Return the nodes that are translated."""
    return _reached(hub, unread_ends(hub))


def unread_ends(hub: Hub) -> list[fx.Node]:
    """Return what is made, in the end, of layers that nobody reads, where others of their list are read."""
    needed = _reached(hub, [])
    weights = {parameter.name: node for node, parameter in hub.parameters.items()}
    read = {name for name, node in weights.items() if not needed.isdisjoint(node.users)}
    lists = {_IN_LIST.sub(".*.", name) for name in read if _IN_LIST.search(name)}
    stack: list[fx.Node] = []
    for name, node in weights.items():
        if name not in read and _IN_LIST.sub(".*.", name) in lists:
            stack.extend(node.users)
    found: dict[fx.Node, None] = {}
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            stack.extend(node.users)
    return [node for node in found if not node.users]


def unread_weights(hub: Hub) -> set[fx.Node]:
    """Return the weights of which no output is made: no layer of a graph of layers holds them."""
    needed: set[fx.Node] = set()
    stack = _targets(hub)
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    weights = [n for n in hub.parameters if needed.isdisjoint(n.users)]
    return {
        w
        for w in weights
        if not any(u in hub.call_of and is_own(hub, hub.call_of[u]) for u in w.users)
    }


def _targets(hub: Hub) -> list[fx.Node]:
    """What a graph is there for: its output, and what it changes of its own tensors."""
    return [n for n in hub.graph.nodes if n.op == "output" or is_call(n, {ASSIGN})]


def drop_unread_ends(hub: Hub) -> None:
    """Take them out of a model that is a graph of layers, where only what leads to an output is part of it, in place.

    They stay in layers of the user's own, which have code.
    """
    ends = [n for n in unread_ends(hub) if not is_own(hub, hub.call_of[n])]
    needed = _reached(hub, [n for n in unread_ends(hub) if n not in ends])
    dead = (
        [n for n in hub.graph.nodes if n.op == "call_function" and n not in needed] if ends else []
    )
    for node in reversed(dead):
        hub.graph.erase_node(node)
    for region in hub.root.walk():
        left = (item for item in region.items if item not in dead)
        region.items = [i for i in left if not isinstance(i, Call) or any(True for _ in i.nodes())]


def _reached(hub: Hub, ends: list[fx.Node]) -> set[fx.Node]:
    """Return what outputs, stores and ``ends`` need, and the results that other calls of a class are asked for."""
    results = [
        n
        for n in hub.graph.nodes
        if is_mark(n) and n.args[1].split("|")[1] == "out" and argument_returned(n) is None
    ]
    found: set[fx.Node] = set()
    stack = _targets(hub) + ends
    while stack:
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack.extend(node.all_input_nodes)
        calls = {_call_of_mark(n) for n in results if n in found}
        asked = {_place_in_class(n) for n in results if n in found}
        stack = [
            n
            for n in results
            if n not in found and _place_in_class(n) in asked and _call_of_mark(n) in calls
        ]
    return found


def _call_of_mark(mark: fx.Node) -> str:
    return mark.args[1].split("|")[0]


def _place_in_class(mark: fx.Node) -> tuple[str, str]:
    """Return the class whose call a mark belongs to, and which of its results the mark is."""
    stack = list((mark.meta.get("nn_module_stack") or {}).values())
    return (stack[-1][1] if stack else "", mark.args[1].split("|", 2)[2])
