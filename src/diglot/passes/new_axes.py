"""Axes that are turned around a new one -> the new axis where it belongs.

Before (a 1-D convolution of TensorFlow's, which is a 2-D one)::

    x.transpose(1, 2).unsqueeze(1).permute(0, 3, 1, 2)      # (b, c, n) -> (b, c, 1, n)

After::

    x.unsqueeze(2)

and where the other axes are turned, they are so first: ``x.transpose(1, 2).unsqueeze(2)``.

A reshape that only adds axes of size 1 (Keras's ``Reshape((h, w, 1))``) is such an ``unsqueeze``, too.
Requires: nothing else reads the values between. Ensures: the same function.
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_call, target_name
from diglot.ir.sizes import shape_of
from diglot.passes.layout.perms import permuted_dims

_TURNS = {"aten.permute.default", "aten.transpose.int"}
_NEW = "aten.unsqueeze.default"
_VIEWS = {"aten.view.default", "aten.reshape.default"}


def put_in_place(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        inside = len(node.users) == 1 and _moves(next(iter(node.users)))
        if inside or not _moves(node):
            continue  # the last of its chain does it
        base, order, turned = _followed(node)
        new = [axis for axis, source in enumerate(order) if source is None]
        kept = [source for source in order if source is not None]
        if not turned or not new or (kept != sorted(kept) and not is_call(node, _TURNS)):
            continue
        value = base
        with hub.graph.inserting_before(node):
            if kept != sorted(kept):
                value = hub.graph.call_function(torch.ops.aten.permute.default, (base, kept))
                value.meta = {**node.meta, "val": base.meta["val"].permute(kept)}
            for axis in new:
                meta = value.meta
                value = hub.graph.call_function(torch.ops.aten.unsqueeze.default, (value, axis))
                value.meta = {**node.meta, "val": meta["val"].unsqueeze(axis)}
        node.replace_all_uses_with(value)


def _moves(node: fx.Node) -> bool:
    """Whether a value has the axes of another in some order, and perhaps new ones of size 1."""
    return is_call(node, {*_TURNS, _NEW}) or (is_call(node, _VIEWS) and bool(_added(node)))


def _added(view: fx.Node) -> list[int] | None:
    """The places of the axes of size 1 that a reshape adds, where it does nothing else."""
    before, after = (list(shape_of(n.meta["val"])) for n in (view.args[0], view))  # type: ignore[union-attr]
    added = []
    for axis, size in enumerate(after):
        if before and before[0] == size:
            before.pop(0)
        elif size == 1:
            added.append(axis)
        else:
            return None
    return None if before else added


def _followed(node: fx.Node) -> tuple[fx.Node, list[int | None], bool]:
    """Where a chain begins, which of its axes each axis is (None: a new one), and whether any is turned."""
    chain = [node]
    while _moves(chain[-1].args[0]) and len(chain[-1].args[0].users) == 1:
        chain.append(chain[-1].args[0])
    base = chain[-1].args[0]
    order: list[int | None] = list(range(base.meta["val"].dim()))
    for move in reversed(chain):
        if target_name(move) == _NEW:
            axis = move.args[1] % (len(order) + 1)
            order.insert(axis, None)
        elif is_call(move, _VIEWS):
            for axis in _added(move) or ():
                order.insert(axis, None)
        else:
            order = [order[axis] for axis in permuted_dims(move, len(order))]
    return base, order, any(is_call(move, _TURNS) for move in chain)
