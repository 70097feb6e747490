"""Recurrent layers over padded sequences, by the sequences' lengths: PyTorch packs, where Keras takes a mask.

Before::

    masked_rnn(x, …, mask=step_mask(lengths, length))

After::

    masked_rnn(x, …, mask=lengths)

Requires: nothing runs the hub any more. Ensures: what is written packs by the lengths themselves.
"""

from __future__ import annotations

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
