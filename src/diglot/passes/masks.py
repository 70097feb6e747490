"""Bring index arithmetic on aranges back to the broadcasting a person writes.

Hugging Face builds its masks from four aranges, gathers and a conjunction with ``True``. Each rewrite below is
exact:

=====================================================  =========================
``arange(n) + 0``                                      ``arange(n)``
``new_ones(bool) & m``, ``arange(n) >= 0``             ``m``, ``True``
``mask[arange(B)[:, None], arange(T)[None, :]]``       ``mask`` with axes of size 1 put in
``gather(expand(table), 1, arange(T)[None])``          ``expand(table)[:, :T]``
attention with a mask of ``True``                      attention without a mask
=====================================================  =========================
"""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name
from diglot.passes.clean import _equal, drop_dead, same_value

_ARANGES = {"aten.arange.default", "aten.arange.start", "aten.arange.start_step"}
_CASTS = {"aten.to.dtype_layout", "aten.to.dtype", "aten.to.device", "aten._to_copy.default"}

_SPREADS = {
    "aten.expand.default", "aten.unsqueeze.default", "aten.view.default", "aten.reshape.default", *_CASTS
}  # fmt: skip


def simplify(hub: Hub) -> None:
    """Rewrite until nothing changes, in place."""
    rules = (
        _drop_zero, _true, _and_true, _index_by_aranges, _where_scalars, _slice_of_arange, _gather_from_one_value,
        _expand_of_one_value, _unsqueeze_twice, _no_mask,
    )  # fmt: skip
    changed = True
    while changed:
        changed = False
        for node in list(hub.graph.nodes):
            if node.op == "call_function" and node.users and any(rule(hub, node) for rule in rules):
                changed = True
        drop_dead(hub)


def _replace(hub: Hub, node: fx.Node, value: fx.Node) -> bool:
    node.replace_all_uses_with(value)
    hub.graph.erase_node(node)
    return True


def _drop_zero(hub: Hub, node: fx.Node) -> bool:
    if target_name(node) not in ("aten.add.Tensor", "aten.sub.Tensor", "aten.add.Scalar"):
        return False
    first, second = node.args[:2]
    if second != 0 or not isinstance(first, fx.Node):
        return False
    return same_value(node, first) and _replace(hub, node, first)


def constant_bool(hub: Hub, node: object) -> bool | None:
    """Return the value of a constant boolean tensor whose elements are all the same."""
    value = hub.constants.get(node) if isinstance(node, fx.Node) else None
    if value is None or value.dtype != torch.bool or value.numel() == 0:
        return None
    return bool(value.flatten()[0]) if bool((value == value.flatten()[0]).all()) else None


def _true(hub: Hub, node: fx.Node) -> bool:
    """``arange(n) >= 0`` holds everywhere."""
    if node in hub.constants or target_name(node) != "aten.ge.Scalar" or node.args[1] != 0:
        return False
    base = _unexpanded(node.args[0])
    if target_name(base) not in _ARANGES or (len(base.args) > 1 and base.args[0] != 0):
        return False
    hub.constants[node] = torch.ones((), dtype=torch.bool)
    node.args = ()
    node.target = torch.ops.aten.empty.memory_format
    return True


def _and_true(hub: Hub, node: fx.Node) -> bool:
    if target_name(node) not in (
        "aten.__and__.Tensor", "aten.bitwise_and.Tensor", "aten.logical_and.default", "aten.mul.Tensor"
    ):  # fmt: skip
        return False
    for this, other in (node.args[:2], node.args[1::-1]):
        this_value = this
        while (
            isinstance(this_value, fx.Node)
            and this_value not in hub.constants
            and (target_name(this_value) in _CASTS if this_value.op == "call_function" else False)
        ):
            this_value = this_value.args[0]
        if constant_bool(hub, this_value) is True and same_value(node, other):
            return _replace(hub, node, other)
    return False


def _unexpanded(node: fx.Node) -> fx.Node:
    while node.op == "call_function" and target_name(node) in (
        "aten.unsqueeze.default", "aten.slice.Tensor", "aten.view.default", "aten.reshape.default"
    ) and isinstance(node.args[0], fx.Node):  # fmt: skip
        if target_name(node) == "aten.slice.Tensor" and not _equal(
            node.meta["val"].shape[node.args[1] if len(node.args) > 1 else 0],
            node.args[0].meta["val"].shape[node.args[1] if len(node.args) > 1 else 0],
        ):
            break
        node = node.args[0]
    return node


def _no_mask(hub: Hub, node: fx.Node) -> bool:
    """Attention under a mask that is True everywhere is attention without a mask."""
    if target_name(node) != "aten.scaled_dot_product_attention.default" or len(node.args) < 4:
        return False
    mask = node.args[3]
    while isinstance(mask, fx.Node) and mask not in hub.constants:
        if not (is_mark(mask) or (mask.op == "call_function" and target_name(mask) in _SPREADS)):
            break
        mask = mask.args[0]
    if constant_bool(hub, mask) is not True and not _ones(mask):
        return False
    node.args = (*node.args[:3], None, *node.args[4:])
    return True


def _ones(node: object) -> bool:
    """Tell whether a boolean tensor is made of ones."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return False
    if node.meta["val"].dtype != torch.bool:
        return False
    name = target_name(node)
    filled = name == "aten.full.default" and node.args[1] in (True, 1)
    return filled or name in ("aten.ones.default", "aten.ones_like.default")


def _index_by_aranges(hub: Hub, node: fx.Node) -> bool:
    """``x[arange(n0)[..None..], arange(n1)[..None..]]`` over whole axes only puts axes of size 1 into ``x``."""
    if target_name(node) != "aten.index.Tensor":
        return False
    source, indices = node.args[:2]
    shape = source.meta["val"].shape
    if len(indices) != len(shape) or any(i is None for i in indices):
        return False
    rank = node.meta["val"].dim()
    axes: list[int] = []
    for index, size in zip(indices, shape, strict=True):
        base = _unexpanded(index)
        constant = hub.constants.get(index)
        if target_name(base) not in _ARANGES and constant is None:
            return False
        if constant is not None:
            if not (isinstance(size, int) and torch.equal(constant.flatten(), torch.arange(size))):
                return False
        elif len(base.args) > 1 and base.args[0] != 0:
            return False
        long = [a for a, s in enumerate(index.meta["val"].shape) if not _equal(s, 1)]
        if len(long) > 1 or not _equal(index.meta["val"].numel(), size):
            return False
        axes.append(rank - index.meta["val"].dim() + long[0] if long else -1)
    if axes != sorted(axes) or -1 in axes or len(set(axes)) != len(axes):
        return False
    with hub.graph.inserting_before(node):
        value = source
        for axis in range(rank):
            if axis not in axes:
                made = hub.graph.call_function(torch.ops.aten.unsqueeze.default, (value, axis))
                made.meta = {
                    **node.meta,
                    "val": torch.ops.aten.unsqueeze.default(value.meta["val"], axis),
                }
                value = made
    return _replace(hub, node, value)


def _where_scalars(hub: Hub, node: fx.Node) -> bool:
    """Give ``where`` its 0-d constants as plain numbers."""
    if target_name(node) not in (
        "aten.where.self",
        "aten.where.ScalarOther",
        "aten.where.ScalarSelf",
    ):
        return False
    args = list(node.args)
    changed = False
    for i in (1, 2):
        value = hub.constants.get(args[i]) if isinstance(args[i], fx.Node) else None
        if value is not None and value.dim() == 0:
            args[i] = value.item()
            changed = True
    if changed:
        node.args = tuple(args)
        both = [isinstance(a, fx.Node) for a in args[1:3]]
        ops = torch.ops.aten.where
        node.target = {
            (True, True): ops.self,
            (True, False): ops.ScalarOther,
            (False, True): ops.ScalarSelf,
            (False, False): ops.Scalar,
        }[tuple(both)]
    return changed


def _slice_of_arange(hub: Hub, node: fx.Node) -> bool:
    """``position_ids[:, :n]`` of a stored ``arange`` is ``arange(n)``."""
    if target_name(node) != "aten.slice.Tensor" or node.args[0] not in hub.constants:
        return False
    value = hub.constants[node.args[0]]
    dim = (node.args[1] if len(node.args) > 1 else 0) % max(value.dim(), 1)
    start = node.args[2] if len(node.args) > 2 else 0
    end = node.args[3] if len(node.args) > 3 else None
    step = node.args[4] if len(node.args) > 4 else 1
    if (
        value.dtype != torch.int64
        or start not in (None, 0)
        or step != 1
        or not isinstance(end, fx.Node)
    ):
        return False
    if value.numel() != value.shape[dim] or not torch.equal(
        value.flatten(), torch.arange(value.numel())
    ):
        return False
    with hub.graph.inserting_before(node):
        made = hub.graph.call_function(torch.ops.aten.arange.default, (end,))
        made.meta = {**node.meta, "val": node.meta["val"].flatten()}
        current = made
        for axis in range(value.dim()):
            if axis != dim:
                current = _unsqueezed(hub, node, current, axis)
    return _replace(hub, node, current)


def _unsqueezed(hub: Hub, node: fx.Node, value: fx.Node, axis: int) -> fx.Node:
    made = hub.graph.call_function(torch.ops.aten.unsqueeze.default, (value, axis))
    made.meta = {**node.meta, "val": torch.ops.aten.unsqueeze.default(value.meta["val"], axis)}
    return made


def _one_value(hub: Hub, node: object) -> float | int | bool | None:
    """Return the value that every element of a constant has."""
    value = hub.constants.get(node) if isinstance(node, fx.Node) else None
    if value is None or value.numel() == 0 or not bool((value == value.flatten()[0]).all()):
        return None
    return value.flatten()[0].item()


def _gather_from_one_value(hub: Hub, node: fx.Node) -> bool:
    """Gathering from a table that holds one value gives that value."""
    if target_name(node) not in ("aten.gather.default", "aten.index_select.default"):
        return False
    value = _one_value(hub, node.args[0])
    if value is None:
        return False
    return _become_full(hub, node, value)


def _expand_of_one_value(hub: Hub, node: fx.Node) -> bool:
    """``zeros(1, n).expand(b, n)`` is ``zeros(b, n)``."""
    if target_name(node) != "aten.expand.default" or not isinstance(node.args[0], fx.Node):
        return False
    source = node.args[0]
    if source.op == "call_function" and target_name(source) == "aten.full.default":
        return _become_full(hub, node, source.args[1])
    value = _one_value(hub, source)
    return value is not None and source.meta["val"].numel() == 1 and _become_full(hub, node, value)


def _become_full(hub: Hub, node: fx.Node, value: float | int | bool) -> bool:
    sizes = [_size_node(hub, node, s) for s in node.meta["val"].shape]
    if any(s is None for s in sizes):
        return False
    node.target = torch.ops.aten.full.default
    node.args = (sizes, value)
    node.kwargs = {"dtype": node.meta["val"].dtype}
    return True


def _size_node(hub: Hub, before: fx.Node, size: int | torch.SymInt) -> int | fx.Node | None:
    """Return a size as an argument: a number, or the ``sym_size`` node that reads it."""
    if isinstance(size, int):
        return size
    for node in hub.graph.nodes:
        if node is before:
            return None
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) and _equal(value, size):
            return node
    return None


def _unsqueeze_twice(hub: Hub, node: fx.Node) -> bool:
    """``x[:, None][:, :, None]`` is ``x[:, None, None]``: one view."""
    if target_name(node) != "aten.unsqueeze.default":
        return False
    source = node.args[0]
    if source.op != "call_function" or len(source.users) != 1:
        return False
    if target_name(source) not in ("aten.unsqueeze.default", "aten.view.default"):
        return False
    if target_name(source) == "aten.view.default" and not source.meta.get("unsqueezed"):
        return False
    sizes = list(node.meta["val"].shape)
    node.target = torch.ops.aten.view.default
    node.args = (source.args[0], sizes)
    node.meta["unsqueezed"] = True
    return True
