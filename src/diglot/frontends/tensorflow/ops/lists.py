"""Tensor lists (``tf.TensorArray``) outside of loops, as Python lists of tensors."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Refused, op


class TensorList:
    """The value of a list: its elements (``None``: not written yet), or the tensor whose rows they are.

    A list of a length that is not fixed has no elements; only loops that are recognised as a layer may use it.
    """

    def __init__(self, items: list[Any] | None, rows: torch.Tensor | None = None) -> None:
        self._items = items
        self.rows = rows

    @property
    def items(self) -> list[Any]:
        """The elements. Raises :class:`Refused` where their number is not fixed."""
        if self._items is None and self.rows is not None and isinstance(self.rows.shape[0], int):
            self._items = list(self.rows.unbind(0))
        if self._items is None:
            raise Refused("a tensor list (tf.TensorArray) whose length is not fixed")
        return self._items


def _list(value: Any) -> TensorList:
    if not isinstance(value, TensorList):
        raise Refused("a tensor list that comes from a loop")
    return value


@op("TensorListReserve", "EmptyTensorList")
def reserve(call: Call, shape: Any, count: Any) -> Any:
    size = values.integer(count) if call.op == "TensorListReserve" else 0
    return TensorList([None] * size if isinstance(size, int) else None)


@op("TensorListFromTensor")
def from_tensor(call: Call, x: Any, shape: Any) -> Any:
    return TensorList(None, call.tensor(x))


@op("TensorListGetItem")
def get_item(call: Call, items: Any, index: Any, shape: Any) -> Any:
    found = _list(items).items[values.integer(index, "the index into a tensor list")]
    if found is None:
        raise Refused("reads an element of a tensor list that was not written")
    return found


@op("TensorListSetItem")
def set_item(call: Call, items: Any, index: Any, item: Any) -> Any:
    changed = list(_list(items).items)
    at = values.integer(index, "the index into a tensor list")
    if at >= len(changed):
        changed += [None] * (at + 1 - len(changed))
    changed[at] = item
    return TensorList(changed)


@op("TensorListPushBack")
def push_back(call: Call, items: Any, item: Any) -> Any:
    return TensorList([*_list(items).items, item])


@op("TensorListLength")
def length(call: Call, items: Any) -> Any:
    return len(_list(items).items)


@op("TensorListStack")
def stack(call: Call, items: Any, shape: Any) -> Any:
    rows = _list(items).rows
    if rows is not None:
        return rows
    found = _list(items).items
    if any(i is None for i in found):
        raise Refused("stacks a tensor list with elements that were not written")
    return torch.stack([call.tensor(i) for i in found])


@op("TensorListConcatV2")
def concat(call: Call, items: Any, shape: Any, leading: Any) -> Any:
    return torch.cat([call.tensor(i) for i in _list(items).items]), []
