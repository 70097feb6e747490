"""Recurrent layers that pass over masked steps: two functions where their indices are written out.

Before::

    order = argsort(~mask, stable)                  # the steps that count come first
    output = lstm(gather(x, 1, order))
    gather(pad(output, (0, 0, 1, 0)), 1, cumsum(mask))

After::

    back_in_place(lstm(counted_first(x, mask)), mask)

Where the mask is that of the sequences' lengths, the steps that count are first as they are::

    torch.where(mask, lstm(x), 0.0)

and a gather that turns each sequence around by its length is ``reverse_sequence(x, lengths)``.

Requires: masks are simplified. Ensures: the ops ``diglot.counted_first``, ``diglot.back_in_place`` and
``diglot.reverse_sequence``, which are functions that the program carries (``carried/skipped_steps.py``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from diglot.carried import skipped_steps
from diglot.ir.hub import Hub, is_call, through_marks
from diglot.passes.clean import is_same

_CHOICES = {"aten.where.self", "aten.where.ScalarOther"}
_LESS = {"aten.sub.Tensor"}
_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
for _name, _second in (
    ("counted_first", "mask"),
    ("back_in_place", "mask"),
    ("reverse_sequence", "lengths"),
):
    _LIBRARY.define(f"{_name}(Tensor x, Tensor {_second}) -> Tensor")
    _LIBRARY.impl(_name, getattr(skipped_steps, _name), "CompositeExplicitAutograd")


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if not is_call(node, ("aten.gather.default",)) or node.args[1] != 1:
            continue
        source, index = node.args[0], _unspread(node.args[2])
        found = _reordered(index)
        made = torch.ops.diglot.counted_first.default
        ends = _turned_around(index)
        if ends is not None:
            lengths = _flat(hub, ends)
            _replace(hub, node, torch.ops.diglot.reverse_sequence.default, source, lengths)
            continue
        if found is None and _is_padded(source):
            source, found = source.args[0], _counted(index)
            made = torch.ops.diglot.back_in_place.default
        if found is None or found.meta["val"].dtype is not torch.bool:
            continue
        _replace(hub, node, made, source, found)
    for node in list(hub.graph.nodes):
        if is_call(node, _CHOICES):
            _leave_in_place(node)
    for node in list(hub.graph.nodes):
        if is_call(node, {"diglot.counted_first.default"}) and _is_of_lengths(node.args[1]):
            node.replace_all_uses_with(node.args[0])


def _replace(hub: Hub, node: fx.Node, made: Any, *arguments: fx.Node) -> None:
    with hub.graph.inserting_before(node):
        call = hub.graph.call_function(made, arguments)
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)


def _leave_in_place(choice: fx.Node) -> None:
    """Read what came back in place as it is, where only the steps that count are read of it."""
    mask, output = through_marks(choice.args[0]), choice.args[1]
    if is_call(mask, {"aten.unsqueeze.default"}) and mask.args[1] in (-1, 2):
        mask = mask.args[0]
    if not is_call(output, {"diglot.back_in_place.default"}):
        return
    if is_same(mask, output.args[1]) and _is_of_lengths(mask):
        choice.args = (choice.args[0], output.args[0], *choice.args[2:])


def _is_of_lengths(mask: Any) -> bool:
    """``torch.arange(steps) < lengths.unsqueeze(-1)``: the steps that count come first."""
    mask = through_marks(mask)
    return is_call(mask, {"aten.lt.Tensor"}) and _counts_up(mask.args[0]) and _column(mask.args[1])


def _counts_up(steps: Any) -> bool:
    return is_call(steps, {"aten.arange.default"}) and len(steps.args) == 1


def _column(ends: Any) -> bool:
    """Whether a value is ``lengths.unsqueeze(-1)``, or such a column from the start."""
    value = ends.meta.get("val") if isinstance(ends, fx.Node) else None
    return isinstance(value, torch.Tensor) and value.dim() == 2 and value.shape[1] == 1


def _flat(hub: Hub, ends: fx.Node) -> fx.Node:
    """``lengths`` of ``lengths.unsqueeze(-1)``."""
    if is_call(ends, {"aten.unsqueeze.default"}):
        return ends.args[0]  # type: ignore[return-value]
    with hub.graph.inserting_after(ends):
        lengths = hub.graph.call_function(torch.ops.aten.squeeze.dim, (ends, -1))
    lengths.meta = {**ends.meta, "val": ends.meta["val"].squeeze(-1)}
    return lengths


def _turned_around(index: Any) -> fx.Node | None:
    """The column ``ends`` of lengths in ``where(steps < ends, ends - 1 - steps, steps)``."""
    if not is_call(index, {"aten.where.self"}):
        return None
    mask, turned, steps = index.args
    if (
        not is_call(mask, {"aten.lt.Tensor"})
        or not _is_of_lengths(mask)
        or mask.args[0] is not steps
    ):
        return None
    last = turned.args[0] if is_call(turned, _LESS) and turned.args[1] is steps else None
    if not is_call(last, _LESS) or last.args[1] != 1 or not is_same(last.args[0], mask.args[1]):  # type: ignore[union-attr]
        return None
    return mask.args[1]


def _unspread(index: Any) -> Any:
    """``steps`` of ``steps.unsqueeze(-1).expand(-1, -1, c)``."""
    if is_call(index, ("aten.expand.default", "aten.expand_as.default")):
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
