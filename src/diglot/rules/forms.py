"""Forms that several families share: operands of one dtype, subscripts, values that are read twice."""

from __future__ import annotations

import ast
import copy
import operator
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.hub import target_name

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def keras_dtype(dtype: Any) -> str:
    """Return the name of a torch dtype in Keras, where 64-bit integers are 32-bit ones."""
    name = str(dtype).removeprefix("torch.")
    return "int32" if name == "int64" else name


def operand(op: OpCall, name: str, dtype: Any) -> ast.expr:
    """Return an argument as an expression of ``dtype``; PyTorch promotes by itself, TensorFlow refuses to."""
    value = op[name]
    if op.is_tensor(name):
        if keras_dtype(op.fake(name).dtype) == keras_dtype(dtype):
            return op.expr(name)
        return call("ops.cast", op.expr(name), op.dtype_ast(dtype))
    made = op.expr(name)
    if not isinstance(value, (bool, int, float)) and dtype.is_floating_point:
        return call("ops.cast", made, op.dtype_ast(dtype))  # a dynamic size
    return made


#: Ops that fill a tensor with one number: the number, or the argument that holds it.
_FILLS: dict[str, int] = {
    "zeros": 0,
    "ones": 1,
    "zeros_like": 0,
    "ones_like": 1,
    "new_zeros": 0,
    "new_ones": 1,
}
_FULL = {"full": 1, "full_like": 1, "new_full": 2}


def same_number(op: OpCall, name: str) -> bool | int | float | None:
    """Return the one number that fills an argument, where another argument alone gives the result's shape.

    ``torch.minimum(x, torch.zeros_like(x))`` is ``ops.minimum(x, 0)``.
    """
    node = op[name]
    if not op.is_tensor(name):
        return None
    shape = op.logical_shape()
    others = [other for other in op.args if other != name and op.is_tensor(other)]
    if not any(op.logical_shape(other) == shape for other in others):
        return None
    constants = getattr(getattr(op.writer.program, "hub", None), "constants", {})
    if node in constants:
        value = constants[node].flatten()
        exact = (
            value.numel() and bool((value == value[0]).all()) and value[0].item() == int(value[0])
        )
        return value[0].item() if exact else None
    space, _, rest = target_name(node).partition(".")
    kind = rest.partition(".")[0]
    if space != "aten" or kind not in (*_FILLS, *_FULL):
        return None
    value = _FILLS[kind] if kind in _FILLS else node.args[_FULL[kind]]
    return value if isinstance(value, (bool, int, float)) else None


def promoted(op: OpCall, first: str, second: str) -> Any:
    """Return the dtype in which PyTorch compares or divides two arguments."""
    import torch

    values = [op.fake(n) if op.is_tensor(n) else op[n] for n in (first, second)]
    plain = [v if isinstance(v, (bool, int, float, torch.Tensor)) else 1 for v in values]
    return torch.result_type(*plain)


def twice(op: OpCall, *names: str) -> list[ast.expr]:
    """Return arguments as expressions short enough to be written more than once: names or numbers.

    All of them get their variables before one is read: a variable that has been read may be used again.
    """
    for name in names:
        if op.is_tensor(name):
            op.writer.settle_inline(op[name])
    return [op.expr(name) for name in names]


def used_parts(op: OpCall) -> set[int]:
    """Return which parts of an op's tuple of results are read."""
    return {u.args[1] for u in op.node.users if u.target is operator.getitem and u.users}


def parts(op: OpCall, *made: ast.expr) -> ast.Tuple:
    """Return an op's results as a tuple, ``None`` for those that nobody reads."""
    read = used_parts(op)
    return ast.Tuple(
        [e if i in read else ast.Constant(None) for i, e in enumerate(made)], ast.Load()
    )


def keepdims(op: OpCall, name: str = "keepdim") -> Any:
    """Return ``True`` or, where it is the default, ``...`` (left out)."""
    return True if op.get(name, False) else ...


def axis_or_all(op: OpCall, name: str = "dim") -> Any:
    """Return the reduced axis or axes; ``...`` (left out) for all of them."""
    axes = op.axes(op.get(name))
    return ... if axes is None else axes


# --- subscripts ----------------------------------------------------------------------------------------


def subscript(base: ast.expr, axis: int, rank: int, item: ast.expr) -> ast.expr:
    """Return ``base[:, item]`` with ``item`` at ``axis``, joined with a subscript that ``base`` ends in.

    ``x[:, :, 1:][:, :, :, 1:]`` becomes ``x[:, :, 1:, 1:]``.
    """
    axis %= rank
    if isinstance(base, ast.Subscript):
        joined = _join(base, axis, item)
        if joined is not None:
            return joined
    if axis == rank - 1 and rank > 3:
        return _index(base, [to_ast(...), item])
    return _index(base, [_all() for _ in range(axis)] + [item])


def _all() -> ast.Slice:
    return ast.Slice(None, None, None)


def _is_all(item: ast.expr) -> bool:
    return (
        isinstance(item, ast.Slice)
        and item.lower is None
        and item.upper is None
        and item.step is None
    )


def _index(base: ast.expr, items: list[Any]) -> ast.expr:
    index = items[0] if len(items) == 1 else ast.Tuple(items, ast.Load())
    return ast.Subscript(base, index, ast.Load())


def _join(base: ast.Subscript, axis: int, item: ast.expr) -> ast.expr | None:
    """Put ``item`` into the subscript that is there already, or return ``None``."""
    items = list(base.slice.elts) if isinstance(base.slice, ast.Tuple) else [base.slice]
    if not all(_keeps_axis(i) or _drops_axis(i) for i in items):
        return None
    plain = isinstance(base.value, (ast.Name, ast.Call))
    if not plain or not any(isinstance(i, ast.Slice) for i in items):
        return None  # ``self.layers[0]``, ``ops.shape(x)[0]``, a part of a tuple
    place = -1
    for position, old in enumerate(items):
        place += _keeps_axis(old)
        if place == axis:
            if not _is_all(old):
                return None
            joined = [*items[:position], item, *items[position + 1 :]]
            return _index(copy.deepcopy(base.value), joined)
    items += [_all() for _ in range(axis - place - 1)] + [item]
    return _index(copy.deepcopy(base.value), items)


def _keeps_axis(item: ast.expr) -> bool:
    return isinstance(item, ast.Slice) or (isinstance(item, ast.Constant) and item.value is None)


def _drops_axis(item: ast.expr) -> bool:
    if isinstance(item, ast.UnaryOp):
        item = item.operand
    return isinstance(item, ast.Constant) and isinstance(item.value, int)


def choose(condition: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
    """``ops.where(condition, yes, no)``."""
    return E("ops.where(c, y, n)", c=condition, y=yes, n=no)
