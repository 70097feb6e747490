"""Recurrent layers that pass over masked steps: two functions where their indices are written out.

Before::

    order = argsort(~mask, stable)                  # the steps that count come first
    output = lstm(gather(x, 1, order))
    gather(pad(output, (0, 0, 1, 0)), 1, cumsum(mask))

After::

    back_in_place(lstm(counted_first(x, mask)), mask)

Requires: masks are simplified. Ensures: the ops ``diglot.counted_first`` and ``diglot.back_in_place``, which are
functions that the program carries (``carried/skipped_steps.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.carried import skipped_steps
from diglot.ir.hub import Hub, is_call

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
for _name in ("counted_first", "back_in_place"):
    _LIBRARY.define(f"{_name}(Tensor x, Tensor mask) -> Tensor")
    _LIBRARY.impl(_name, getattr(skipped_steps, _name), "CompositeExplicitAutograd")


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if not is_call(node, ("aten.gather.default",)) or node.args[1] != 1:
            continue
        source, index = node.args[0], _unspread(node.args[2])
        found = _reordered(index)
        made = torch.ops.diglot.counted_first.default
        if found is None and _is_padded(source):
            source, found = source.args[0], _counted(index)
            made = torch.ops.diglot.back_in_place.default
        if found is None or found.meta["val"].dtype is not torch.bool:
            continue
        with hub.graph.inserting_before(node):
            call = hub.graph.call_function(made, (source, found))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)


def _unspread(index: Any) -> Any:
    """``steps`` of ``steps.unsqueeze(-1).expand(-1, -1, c)``."""
    if is_call(index, ("aten.expand.default",)):
        index = index.args[0]
    last = is_call(index, ("aten.unsqueeze.default",)) and index.args[1] in (-1, 2)
    return index.args[0] if last else None


def _as_number(node: Any) -> Any:
    """``x`` of ``x.to(torch.int64)``."""
    whole = is_call(node, ("aten._to_copy.default", "aten.to.dtype"))
    return node.args[0] if whole and node.meta["val"].dtype is torch.int64 else None


def _reordered(index: Any) -> fx.Node | None:
    """The mask of ``argsort((~mask).to(torch.int64), dim=1, stable=True)``."""
    if not is_call(index, ("aten.argsort.stable",)) or index.kwargs.get("stable") is not True:
        return None
    if index.kwargs.get("dim", -1) not in (-1, 1) or index.kwargs.get("descending"):
        return None
    skipped = _as_number(index.args[0])
    return skipped.args[0] if is_call(skipped, ("aten.bitwise_not.default",)) else None


def _counted(index: Any) -> fx.Node | None:
    """The mask of ``cumsum(mask.to(torch.int64), dim=1)``."""
    along = is_call(index, ("aten.cumsum.default",)) and index.args[1] in (-1, 1)
    return _as_number(index.args[0]) if along else None


def _is_padded(source: Any) -> bool:
    """Tell whether a value has a step of zeros in front."""
    names = ("aten.constant_pad_nd.default", "aten.pad.default")
    padded = is_call(source, names)
    return (
        padded and list(source.args[1]) == [0, 0, 1, 0] and not any(map(_number, source.args[2:]))
    )


def _number(value: Any) -> bool:
    return value not in (0, 0.0, None, "constant")
