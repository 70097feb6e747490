"""Picking from tensors: subscripts, gathers, masks, and writing to a part of a tensor."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static, size_of
from diglot.rules.as_layers import cropping
from diglot.rules.forms import choose, operand, same_number, subscript
from diglot.rules.registry import Rule, Sample, register
from diglot.rules.scatter import scatter_several

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}
_IMAGE = {"x": "2,3,4,5"}
_END = 2**62  # what a slice without an end has in PyTorch is larger than this


def _known(value: Any) -> Any:
    """Return an index, start or end as an int or a sympy expression."""
    return size_of(value.meta["val"] if hasattr(value, "meta") else value)


# --- subscripts ----------------------------------------------------------------------------------------


def _select(op: OpCall) -> ast.expr:
    rank = op.fake("self").dim()
    index = op.value(op["index"])
    return subscript(op.expr("self"), op.axis(op["dim"]), rank, index)


def _slice(op: OpCall) -> ast.expr:
    dim, rank = op.get("dim", 0), op.fake("self").dim()
    axis = op.axis(dim)
    piece = _bounds(op, op.shape("self")[axis])
    if piece is None:
        return op.expr("self")
    return subscript(op.expr("self"), axis, rank, piece)


def _bounds(op: OpCall, size: Any) -> ast.Slice | None:
    """``start:end:step`` without what is implied, or ``None`` for all of the axis."""
    start, end, step = op.get("start"), op.get("end"), op.get("step", 1)
    low, high = _known(0 if start is None else start), _known(_END if end is None else end)
    whole = (
        is_static(high) and (high >= _END or (is_static(size) and high >= size))
    ) or high == size
    lower = (
        None
        if low == 0 or (is_static(low) and is_static(size) and low <= -size)
        else op.value(start)
    )
    upper = None if whole else op.value(end)
    if lower is None and upper is None and step == 1:
        return None
    return ast.Slice(lower, upper, None if step == 1 else op.value(step))


def _index(op: OpCall) -> ast.expr:
    """``x[i]``, ``x[:, i]``, ``x[i, j]`` with index tensors."""
    indices = list(op["indices"])
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    for axis in axes:
        if str(indices[axis].meta["val"].dtype) in ("torch.bool", "torch.uint8"):
            raise op.refuse(
                "a boolean mask as an index: the size of the result depends on the data; "
                "use torch.where or masked_fill"
            )
    if len(axes) == 1:
        return op.ops("take", op.expr("self"), op.value(indices[axes[0]]), axis=axes[0])
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise op.refuse("index tensors with a slice between them; bring their axes together first")
    picked = ast.Tuple([op.value(indices[a]) for a in axes], ast.Load())
    return call(op.helper("take_together"), op.expr("self"), picked, axis=axes[0] or ...)


def _index_select(op: OpCall) -> ast.expr:
    return op.ops("take", op.expr("self"), op.expr("index"), axis=op.axis(op["dim"]))


def _gather(op: OpCall) -> ast.expr:
    """``take_along_axis``; PyTorch's index may be smaller than the tensor, Keras's may not."""
    dim = op["dim"] % max(op.fake("self").dim(), 1)
    x = op.expr("self")
    sizes, wanted = op.logical_shape("self"), op.logical_shape("index")
    for axis, (have, want) in enumerate(zip(sizes, wanted, strict=True)):
        if axis != dim and have != want:
            x = subscript(x, axis, len(sizes), ast.Slice(None, op.size(want), None))
    return op.ops("take_along_axis", x, op.expr("index"), axis=op.axis(op["dim"]))


def _take_along_dim(op: OpCall) -> ast.expr:
    axis = op.get("dim")
    return op.ops(
        "take_along_axis", op.expr("self"), op.expr("indices"), axis=... if axis is None else axis
    )


# --- masks ---------------------------------------------------------------------------------------------


def _mask(op: OpCall, name: str) -> ast.expr:
    made = op.expr(name)
    return made if str(op.fake(name).dtype) == "torch.bool" else call("ops.cast", made, "bool")


def _fill_value(op: OpCall, value: Any) -> Any:
    """A number in the dtype of the result: an int stays one, so that an integer tensor does too."""
    if str(op.fake().dtype) == "torch.bool":
        return bool(value)
    return float(value) if op.is_float() else int(value)


def _masked_fill(op: OpCall) -> ast.expr:
    value = op["value"]
    filled = (
        to_ast(_fill_value(op, value))
        if isinstance(value, (bool, int, float))
        else _part(op, "value")
    )
    return choose(_mask(op, "mask"), filled, op.expr("self"))


def _part(op: OpCall, name: str) -> ast.expr:
    return operand(op, name, op.fake().dtype)


def _where(op: OpCall) -> ast.expr:
    parts = []
    for name in ("self", "other"):
        filled = same_number(op, name)
        value = op[name] if filled is None else filled
        number = isinstance(value, (bool, int, float))
        parts.append(to_ast(_fill_value(op, value)) if number else _part(op, name))
    return choose(_mask(op, "condition"), *parts)


def _where_numbers(op: OpCall) -> ast.expr:
    yes, no = op["self"], op["other"]
    if (yes, no) == (1, 0):
        return call("ops.cast", _mask(op, "condition"), op.dtype_ast(op.fake().dtype))
    chosen = choose(
        _mask(op, "condition"), to_ast(_fill_value(op, yes)), to_ast(_fill_value(op, no))
    )
    return chosen if op.is_float() else call("ops.cast", chosen, op.dtype_ast(op.fake().dtype))


def _index_put(op: OpCall) -> ast.expr:
    """``x[mask] = value``."""
    indices = list(op["indices"])
    mask = indices[0] if len(indices) == 1 else None
    is_mask = mask is not None and str(mask.meta["val"].dtype) == "torch.bool"
    if not is_mask or op.fake("values").numel() != 1 or op.get("accumulate", False):
        raise op.refuse(
            "x[index] = values has no Keras form that every backend has; x[mask] = number has"
        )
    condition = op.value(mask)
    for _ in range(op.fake("self").dim() - mask.meta["val"].dim()):
        condition = E("c[..., None]", c=condition)
    return choose(condition, _part(op, "values"), op.expr("self"))


# --- writing to a part ---------------------------------------------------------------------------------


def _slice_scatter(op: OpCall) -> ast.expr:
    """``x[:, a:b] = v`` becomes ``concatenate([x[:, :a], v, x[:, b:]])``."""
    dim, rank = op.get("dim", 0) % op.fake("self").dim(), op.fake("self").dim()
    size = op.logical_shape("self")[dim]
    value = _part(op, "src")
    piece = _bounds(op, size)
    if piece is None:
        return value
    if piece.step is not None:
        if not is_static(size):
            raise op.refuse("a write to every n-th place of an axis of dynamic size")
        bounds = [to_ast(None) if b is None else b for b in (piece.lower, piece.upper, piece.step)]
        return call(op.helper("put_every"), op.expr("self"), value, dim, *bounds)
    x = (
        op.variable("self")
        if piece.lower is not None and piece.upper is not None
        else op.expr("self")
    )
    parts = [value]
    if piece.lower is not None:
        parts.insert(0, subscript(x, dim, rank, ast.Slice(None, piece.lower, None)))
    if piece.upper is not None:
        parts.append(subscript(x, dim, rank, ast.Slice(piece.upper, None, None)))
    return op.ops("concatenate", parts, axis=dim or ...)


def _select_scatter(op: OpCall) -> ast.expr:
    """``x[:, i] = v`` becomes ``concatenate([x[:, :i], v[:, None], x[:, i + 1 :]])``."""
    rank = op.fake("self").dim()
    dim, index = op["dim"] % rank, op["index"]
    size = op.logical_shape("self")[dim]
    if not isinstance(index, int):
        raise op.refuse("a write to a place that is only known while the model runs")
    last = index in (-1, size - 1 if is_static(size) else -1)
    x = op.expr("self") if index == 0 or last else op.variable("self")
    parts = [call("ops.expand_dims", _part(op, "src"), axis=dim)]
    if index != 0:
        parts.insert(0, subscript(x, dim, rank, ast.Slice(None, to_ast(index), None)))
    if not last:
        parts.append(subscript(x, dim, rank, ast.Slice(to_ast(index + 1), None, None)))
    return op.ops("concatenate", parts, axis=dim or ...)


def _scatter(op: OpCall) -> ast.expr:
    """``x.scatter(dim, index, value)``: one-hot places get the value."""
    rank = op.fake("self").dim()
    dim = op["dim"] % rank
    sizes, places = op.logical_shape("self"), op.logical_shape("index")
    rest = [a for a in range(rank) if a != dim]
    if any(sizes[a] != places[a] for a in rest) or not is_static(sizes[dim]):
        raise op.refuse(
            "scatter with an index smaller than the tensor, or along an axis of dynamic size"
        )
    if "src" in op.args and places[dim] != 1:
        return scatter_several(op, dim, sizes[dim])
    hot = E("ops.any(ops.one_hot(i, n, axis=a, dtype='bool'), axis=b)", i=op.expr("index"), n=sizes[dim],
            a=dim, b=dim + 1)  # fmt: skip
    value = op["value"] if "value" in op.args else None
    written = to_ast(_fill_value(op, value)) if value is not None else _part(op, "src")
    return choose(hot, written, op.expr("self"))


def _one_hot(op: OpCall) -> ast.expr:
    classes = op.get("num_classes", -1)
    if classes == -1:
        raise op.refuse("one_hot without num_classes: the size would depend on the data")
    return op.ops("one_hot", op.expr("self"), op.value(classes), dtype="int32")


def _edges_below(op: OpCall, edges: str, values: str) -> ast.expr:
    """Count the edges below each value: ``ops.searchsorted`` takes no more than one axis on TensorFlow."""
    rows = op.fake(edges).dim() > 1
    template = "ops.sum(ops.cast(x[..., None] >= b, 'int32'), axis=-1)"
    template = template.replace(" b,", " b[..., None, :],") if rows else template
    right = op.get("right", False) or op.get("side", None) == "right"
    template = template if right else template.replace(">=", ">")
    return E(template, x=op.expr(values), b=op.expr(edges))


def _bucketize(op: OpCall) -> ast.expr:
    return _edges_below(op, "boundaries", "self")


def _searchsorted(op: OpCall) -> ast.expr:
    if op.get("sorter", None) is not None:
        raise op.refuse("a sequence that is sorted by another")
    return _edges_below(op, "sorted_sequence", "self")


_MASKED = {"x": "2,3,5", "mask": "bool[3,5]"}

register(
    __name__,
    Rule(
        "aten.select.int",
        _select,
        torch="x[:, 0]",
        noun="x",
        layout="axis",
        samples=(
            Sample("x[:, 0]", _X),
            Sample("x[1]", _X),
            Sample("x[..., -1]", _X),
            Sample("x[:, -2, 1]", _X),
            Sample("x[:, 1]", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.slice.Tensor",
        _slice,
        torch="x[:, 1:3]",
        layer=cropping,
        noun="x",
        layout="axis",
        samples=(
            Sample("x[:, 1:]", _X),
            Sample("x[:, :-1]", _X),
            Sample("x[..., -2:]", _X),
            Sample("x[:, ::2, 1:4:2]", _X),
            Sample("x[0, :, -9:3]", _X),
            Sample("x[:, :2, None]", _X),
            Sample("x[:, 1:, :, 1:3]", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.index.Tensor",
        _index,
        torch="x[:, index]",
        noun="x",
        layout="logical",
        samples=(
            Sample("x[i]", {**_X, "i": "int64[4]<2"}),
            Sample("x[:, i]", {**_X, "i": "int64[4,2]<3"}),
            Sample("x[i, j]", {**_X, "i": "int64[4]<2", "j": "int64[4]<3"}),
            Sample("x[:, i, j - 5]", {**_X, "i": "int64[4,1]<3", "j": "int64[2]<5"}),
            Sample("x[torch.arange(x.shape[0]), i]", {**_X, "i": "int64[2]<3"}),
        ),
    ),
    Rule(
        "aten.index_select.default",
        _index_select,
        torch="x.index_select(1, index)",
        noun="x",
        layout="axis",
        samples=(
            Sample("x.index_select(1, i)", {**_X, "i": "int64[4]<3"}),
            Sample("x.index_select(-1, i)", {**_X, "i": "int64[4]<5"}),
            Sample("x.index_select(1, i)", {**_IMAGE, "i": "int64[4]<3"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.gather.default",
        _gather,
        torch="x.gather(1, index)",
        noun="x",
        layout="logical",
        samples=(
            Sample("x.gather(1, i)", {**_X, "i": "int64[2,4,5]<3"}),
            Sample("x.gather(-1, i)", {**_X, "i": "int64[2,2,3]<5"}),
        ),
    ),
    Rule(
        "aten.take_along_dim.default",
        _take_along_dim,
        torch="x.take_along_dim(index, 1)",
        noun="x",
        layout="logical",
        samples=(
            Sample("x.take_along_dim(i, 1)", {**_X, "i": "int64[2,4,1]<3"}),
            Sample("x.take_along_dim(i, -1)", {**_X, "i": "int64[2,3,4]<5"}),
        ),
    ),
    Rule(
        "aten.masked_fill.Scalar",
        _masked_fill,
        torch="x.masked_fill(mask, -1e9)",
        noun="x",
        samples=(
            Sample("x.masked_fill(mask, -1e9)", _MASKED),
            Sample("x.masked_fill(mask, float('-inf'))", _MASKED),
            Sample("x.masked_fill(x == 3, -100)", {"x": "int64[2,3]<5"}),
            Sample("x.masked_fill(x > 0.3, 0)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.masked_fill.Tensor",
        _masked_fill,
        torch="x.masked_fill(mask, value)",
        noun="x",
        samples=(Sample("x.masked_fill(mask, x.mean())", _MASKED),),
    ),
    Rule(
        "aten.where.self",
        _where,
        torch="torch.where(mask, x, y)",
        noun="x",
        samples=(
            Sample("torch.where(mask, x, y)", {**_MASKED, "y": "2,3,1"}),
            Sample("torch.where(mask, x, torch.zeros_like(x))", _MASKED),
            Sample("torch.where(mask, torch.full_like(x, 0.7), x)", _MASKED),
            Sample(
                "torch.where(mask, x, y)", {"x": "int64[2,3]<5", "y": "2,3", "mask": "bool[2,3]"}
            ),
        ),
    ),
    Rule(
        "aten.where.ScalarOther",
        _where,
        torch="torch.where(mask, x, 0.0)",
        noun="x",
        samples=(
            Sample("torch.where(mask, x, 0.0)", _MASKED),
            Sample("torch.where(x > 1, x, 0)", {"x": "int64[2,3]<5"}),
        ),
    ),
    Rule(
        "aten.where.ScalarSelf",
        _where,
        torch="torch.where(mask, 0.0, x)",
        noun="x",
        samples=(Sample("torch.where(mask, 0.5, x)", _MASKED),),
    ),
    Rule(
        "aten.where.Scalar",
        _where_numbers,
        torch="torch.where(mask, 1.0, 0.0)",
        noun="x",
        samples=(
            Sample("torch.where(x > 0, 1.0, 0.0) * x", _X),
            Sample("torch.where(x > 0, 3, 5)", _X),
        ),
    ),
    Rule(
        "aten.index_put.default",
        _index_put,
        torch="x[mask] = 0",
        noun="x",
        layout="logical",
        samples=(
            Sample(
                "torch.ops.aten.index_put(x, [mask], torch.tensor(0.5))",
                {**_X, "mask": "bool[2,3,5]"},
            ),
            Sample(
                "torch.ops.aten.index_put(x, [mask], torch.tensor(0.5))",
                {**_X, "mask": "bool[2,3]"},
            ),
        ),
    ),
    Rule(
        "aten.slice_scatter.default",
        _slice_scatter,
        torch="x[:, 1:2] = value",
        noun="x",
        layout="logical",
        samples=(
            Sample("torch.slice_scatter(x, y, 1, 1, 2)", {**_X, "y": "2,1,5"}),
            Sample("torch.slice_scatter(x, y, 2, 0, 2)", {**_X, "y": "2,3,2"}),
            Sample("torch.slice_scatter(x, y, 2, -2)", {**_X, "y": "2,3,2"}),
            Sample("torch.slice_scatter(x, y, 2, 1, 5, 2)", {**_X, "y": "2,3,2"}),
        ),
    ),
    Rule(
        "aten.select_scatter.default",
        _select_scatter,
        torch="x[:, 0] = value",
        noun="x",
        layout="logical",
        samples=(
            Sample("torch.select_scatter(x, y, 1, 0)", {**_X, "y": "2,5"}),
            Sample("torch.select_scatter(x, y, 1, 1)", {**_X, "y": "2,5"}),
            Sample("torch.select_scatter(x, y, 2, -1)", {**_X, "y": "2,3"}),
            Sample("torch.select_scatter(x, y, 2, -2)", {**_X, "y": "2,3"}),
        ),
    ),
    Rule(
        "aten.scatter.value",
        _scatter,
        torch="x.scatter(1, index, 1.0)",
        noun="x",
        layout="logical",
        samples=(Sample("x.scatter(1, i, 0.5)", {"x": "2,5", "i": "int64[2,3]<5"}),),
    ),
    Rule(
        "aten.scatter.src",
        _scatter,
        torch="x.scatter(1, index, values)",
        noun="x",
        layout="logical",
        samples=(
            Sample("x.scatter(-1, i, y)", {"x": "2,5", "i": "int64[2,1]<5", "y": "2,1"}),
            Sample("x.scatter(-1, y.topk(2)[1], y.topk(2)[0])", {"x": "3,5", "y": "3,5"}),
            Sample(
                "torch.zeros_like(x).scatter(1, y.topk(2, 1)[1], y.topk(2, 1)[0])",
                {"x": "3,5", "y": "3,5"},
            ),
        ),
    ),
    Rule(
        "aten.one_hot.default",
        _one_hot,
        torch="F.one_hot(x, 10)",
        noun="x",
        layout="logical",
        samples=(
            Sample("F.one_hot(x, 6)", {"x": "int64[2,3]<6"}),
            Sample("F.one_hot(x, 6) * 0.5", {"x": "int64[4]<6"}),
        ),
    ),
    Rule(
        "aten.bucketize.Tensor",
        _bucketize,
        torch="torch.bucketize(x, edges)",
        noun="index",
        layout="logical",
        samples=(Sample("torch.bucketize(x, torch.tensor([-0.5, 0.0, 0.7]))", _X),),
    ),
    Rule(
        "aten.searchsorted.Tensor",
        _searchsorted,
        torch="torch.searchsorted(edges, x)",
        noun="index",
        layout="logical",
        samples=(
            Sample("torch.searchsorted(torch.tensor([-0.5, 0.0, 0.7]), x)", _X),
            Sample("torch.searchsorted(x.sort(-1)[0], x, right=True)", _X),
        ),
    ),
)
