"""A result that is one of the module's own arguments, unchanged: its reader takes the argument itself.

Before: ``hidden, bias = block(hidden, bias)`` where ``block`` returns ``bias`` as it was given, so that each block
waits for the one before only to get the same tensor.
After: ``hidden = block(hidden, bias)``, for every block of the loop.
"""

from __future__ import annotations

from torch import fx

from diglot.ir.hub import Hub, is_mark


def read_arguments_directly(hub: Hub) -> None:
    """Rewrite in place; what is returned by the whole model stays as it is."""
    for node in hub.graph.nodes:
        if not is_mark(node) or node.args[1].split("|")[1] != "out":
            continue
        given = argument_returned(node)
        if given is not None and not any(u.op == "output" for u in node.users):
            node.replace_all_uses_with(given)


def argument_returned(result: fx.Node) -> fx.Node | None:
    """Return what a call was given, where a result of it (its mark) is nothing else."""
    record = result.args[1].split("|")[0]
    source = result.args[0]
    while isinstance(source, fx.Node) and is_mark(source):
        call, kind = source.args[1].split("|")[:2]
        if call == record and kind == "in":
            return source.args[0]  # type: ignore[return-value]
        source = source.args[0]
    return None
