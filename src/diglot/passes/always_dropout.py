"""Dropout that drops in evaluation as well: Monte Carlo dropout, on purpose or not.

Before (``F.dropout(x, 0.3)``, or ``Dropout(0.3)(x, training=True)`` in Keras, as the frontends write them)::

    native_dropout(x, 0.3, True)[0]

After::

    always_dropout(x, 0.3)

``aten.dropout`` follows the model's mode; this one does not. Requires: the mask is not read.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call

NATIVE = "aten.native_dropout.default"

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("always_dropout(Tensor input, float p) -> Tensor")
_LIBRARY.impl("always_dropout", torch.nn.functional.dropout, "CompositeImplicitAutograd")


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if not is_call(node, {NATIVE}) or any(part.args[1] and part.users for part in node.users):
            continue
        with hub.graph.inserting_before(node):
            made = hub.graph.call_function(torch.ops.diglot.always_dropout.default, node.args[:2])
        made.meta = {**node.meta, "val": node.meta["val"][0]}
        for part in list(node.users):
            part.replace_all_uses_with(made)
            hub.graph.erase_node(part)
        hub.graph.erase_node(node)


def dropped(value: fx.Node) -> fx.Node | None:
    """Return the call that a value is the first result of, if it is such a dropout."""
    source = value.args[0] if value.op == "call_function" and len(value.args) == 2 else None
    return source if is_call(source, {NATIVE}) and value.args[1] == 0 else None  # type: ignore[return-value]
