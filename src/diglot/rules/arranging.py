"""Joining, splitting, repeating and ordering."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static, shape_of, size_of
from diglot.rules.forms import keras_dtype, parts, subscript, twice, used_parts
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}
_WIDE = {"x": "2,6,5"}
_IMAGE = {"x": "2,6,4,5"}


# --- joining -------------------------------------------------------------------------------------------


def _tensors(op: OpCall, name: str) -> ast.expr | list[ast.expr]:
    """The tensors of a list, in the dtype of the result; empty ones (``torch.empty(0)``) left out."""
    dtype, made = op.fake().dtype, []
    alike = all(keras_dtype(n.meta["val"].dtype) == keras_dtype(dtype) for n in op[name])
    known = op.writer.list_variable(op[name]) if alike else None
    if known is not None:  # a list that the author made
        return known
    for node in op[name]:
        value = node.meta["val"]
        if shape_of(value) == (0,) and op.fake().dim() != 1:
            continue
        expression = op.value(node)
        if keras_dtype(value.dtype) != keras_dtype(dtype):
            expression = call("ops.cast", expression, op.dtype_ast(dtype))
        made.append(expression)
    return made


def _concatenate(op: OpCall) -> ast.expr:
    axis = op.axis_of_result(op.get("dim", 0))
    return op.ops("concatenate", _tensors(op, "tensors"), axis=axis or ...)


def _stack(op: OpCall) -> ast.expr:
    axis = op.axis_of_result(op.get("dim", 0))
    return op.ops("stack", _tensors(op, "tensors"), axis=axis or ...)


# --- splitting -----------------------------------------------------------------------------------------


def _split(op: OpCall) -> ast.expr:
    """``ops.split`` where sizes are known; slices where they depend on the input."""
    dim = op.get("dim", 0)
    axis = op.axis(dim)
    sizes = [shape_of(value)[dim] for value in op.node.meta["val"]]
    if len(sizes) == 1 and is_static(sizes[0]):
        return ast.Tuple([op.expr("self")], ast.Load())
    where = {"axis": axis or ...}
    if all(is_static(s) for s in sizes):
        if len(set(sizes)) == 1:
            return op.ops("split", op.expr("self"), len(sizes), **where)
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        return op.ops("split", op.expr("self"), ends, **where)
    (x,) = twice(op, "self")
    ends = _dynamic_ends(op, op.logical_shape("self")[dim], sizes)
    pieces = zip([None, *ends], ends, strict=False)
    made = [
        subscript(x, axis, len(op.shape("self")), ast.Slice(low, high, None))
        for low, high in pieces
    ]
    return ast.Tuple(made, ast.Load())


def _dynamic_ends(op: OpCall, size: Any, sizes: list[Any]) -> list[ast.expr | None]:
    """Where each part ends, for every size of the axis; what export saw holds for its example alone."""
    count = len(sizes)
    if "sections" in op.args:
        raise op.refuse("tensor_split along an axis of dynamic size; use chunk or split")
    if isinstance(op.get("split_size"), int):
        return [to_ast(op["split_size"] * (i + 1)) for i in range(count)]
    if "chunks" in op.args:
        chunks = op["chunks"]
        step = E("(n + m) // k", n=op.size(size), m=chunks - 1, k=chunks)
        ends: list[ast.expr | None] = [
            E("s * i", s=step, i=i + 1) if i else step for i in range(count - 1)
        ]
        return [*ends, None]
    return [op.size(sum(sizes[: i + 1])) for i in range(count - 1)] + [None]


def _unbind(op: OpCall) -> ast.expr:
    axis = op.axis(op.get("dim", 0))
    read = used_parts(op)
    count = len(op.node.meta["val"])
    if len(read) == 1:  # one of them: the author's own subscript
        made: list[ast.expr] = [ast.Constant(None)] * count
        (index,) = read
        made[index] = subscript(op.expr("self"), axis, op.fake("self").dim(), to_ast(index))
        return ast.Tuple(made, ast.Load())
    return op.ops("unstack", op.expr("self"), axis=axis or ...)


# --- repeating -----------------------------------------------------------------------------------------


def _tile(op: OpCall) -> ast.expr:
    repeats = op["repeats"] if "repeats" in op.args else op["dims"]
    items = [op.value(r) for r in repeats]
    return op.ops("tile", op.expr("self"), ast.Tuple(items, ast.Load()))


def _repeat_interleave(op: OpCall) -> ast.expr:
    dim = op.get("dim")
    x, count = op.expr("self"), op.value(op["repeats"])
    if dim is None:
        return op.ops("repeat", call("ops.reshape", x, (-1,)), count)
    return op.ops("repeat", x, count, axis=op.axis(dim))


# --- ordering ------------------------------------------------------------------------------------------


def _top_k(op: OpCall) -> ast.expr:
    k, axis = op.value(op["k"]), op.axis(op.get("dim", -1))
    if axis == -1 and op.get("largest", True):
        return op.ops("top_k", op.expr("self"), k)
    given = {
        "axis": ... if axis == -1 else axis,
        "largest": ... if op.get("largest", True) else False,
    }
    return call(op.helper("top_k_along"), op.expr("self"), k, **given)


def _sort(op: OpCall) -> ast.expr:
    """``values, indices = torch.sort(x)``: only what is read is computed."""
    read = used_parts(op)
    x = op.variable("self") if len(read) > 1 else op.expr("self")
    if not op.get("descending", False):
        return parts(op, _ordered(op, "sort", x), _ordered(op, "argsort", x))
    values = E("-s", s=_ordered(op, "sort", E("-x", x=x)))
    return parts(op, values, _ordered(op, "argsort", E("-x", x=x)))


def _argsort(op: OpCall) -> ast.expr:
    x = op.expr("self")
    return _ordered(op, "argsort", E("-x", x=x) if op.get("descending", False) else x)


def _ordered(op: OpCall, name: str, x: ast.expr) -> ast.expr:
    axis = op.axis(op.get("dim", -1))
    return op.ops(name, x, axis=... if axis == -1 else axis)


def _flip(op: OpCall) -> ast.expr:
    return op.ops("flip", op.expr("self"), axis=op.axes(op["dims"]))


def _roll(op: OpCall) -> ast.expr:
    """``ops.roll``; ``axes`` would sort them, and each belongs to its shift."""
    shifts, dims = op["shifts"], op.get("dims", [])
    shifts = [shifts] if not isinstance(shifts, (list, tuple)) else list(shifts)
    given = [op.value(s) for s in shifts]
    shift = given[0] if len(given) == 1 else ast.Tuple(given, ast.Load())
    if not dims:
        if op.perm("self"):
            raise op.refuse("roll over all axes of a channels-last tensor; name the dims")
        return op.ops("roll", op.expr("self"), shift)
    axes = tuple(op.axis(d) for d in dims)
    return op.ops("roll", op.expr("self"), shift, axis=axes[0] if len(axes) == 1 else axes)


# --- windows and grids ---------------------------------------------------------------------------------


def _windows(op: OpCall) -> ast.expr:
    dim = op["dimension"] % op.fake("self").dim()
    return call(op.helper("sliding_windows"), op.expr("self"), dim, op["size"], op["step"])


def _unfold_image(op: OpCall) -> ast.expr:
    """``F.unfold``: patches, each with its channels first."""
    kernel, dilation, padding, stride = (
        list(op[n]) for n in ("kernel_size", "dilation", "padding", "stride")
    )
    channels, height, width = op.logical_shape("self")[1:]
    if not all(is_static(s) for s in (channels, height, width)):
        raise op.refuse("F.unfold of an image of dynamic size")
    x = call("ops.transpose", op.expr("self"), (0, 2, 3, 1))
    if any(padding):
        x = call("ops.pad", x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    patches = call(
        "ops.image.extract_patches",
        x,
        tuple(kernel),
        strides=tuple(stride),
        dilation_rate=... if dilation == [1, 1] else tuple(dilation),
        data_format="channels_last",
    )
    area = kernel[0] * kernel[1]
    count = size_of(op.fake().shape[2])
    patches = call("ops.reshape", patches, (-1, count, area, channels))
    return call(
        "ops.reshape", call("ops.transpose", patches, (0, 3, 2, 1)), (-1, channels * area, count)
    )


def _meshgrid(op: OpCall) -> ast.expr:
    indexing = op.get("indexing", "ij")
    tensors = [op.value(t) for t in op["tensors"]]
    return op.ops("meshgrid", *tensors, indexing=... if indexing == "xy" else indexing)


def _diagonal(op: OpCall) -> ast.expr:
    dims = (op.get("dim1", 0), op.get("dim2", 1))
    given = {"offset": op.get("offset", 0) or ...}
    if dims != (0, 1):
        given.update(axis1=dims[0], axis2=dims[1])
    return op.ops("diagonal", op.expr("self"), **given)


def _diff(op: OpCall) -> ast.expr:
    axis = op.axis(op.get("dim", -1))
    parts = [name for name in ("prepend", "self", "append") if op.is_tensor(name)]
    if len(parts) > 1 and op.perm("self") is not None:
        raise op.refuse("diff of an image with prepend or append; concatenate first")
    x = op.expr("self")
    if len(parts) > 1:
        x = op.ops("concatenate", [op.expr(name) for name in parts], axis=axis)
    return op.ops(
        "diff",
        x,
        n=op.get("n", 1) if op.get("n", 1) != 1 else ...,
        axis=... if axis == -1 else axis,
    )


_TOPK_NOTE = (
    "Where values are equal, PyTorch may return any of their places first, Keras the lowest."
)
_PAIR = {"x": "2,3,5", "y": "2,4,5"}

register(
    __name__,
    Rule(
        "aten.cat.default",
        _concatenate,
        torch="torch.cat([x, y], dim=1)",
        noun="x",
        layout="concat",
        samples=(
            Sample("torch.cat([x, y], dim=1)", _PAIR),
            Sample("torch.cat([x, x * 2])", _X),
            Sample("torch.cat([x, y], dim=-1)", {"x": "2,3", "y": "int64[2,4]<5"}),
            Sample(
                "torch.cat([x, y], dim=1)", {"x": "2,3,4,5", "y": "2,6,4,5"}, channels_last=True
            ),
            Sample("torch.cat([x, x.tanh()], dim=-1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.stack.default",
        _stack,
        torch="torch.stack([x, y], dim=1)",
        noun="x",
        layout="concat",
        samples=(
            Sample("torch.stack([x, x * 2], dim=1)", _X),
            Sample("torch.stack([x, x.tanh()])", _X),
            Sample("torch.stack([x, x * 3], dim=-1)", _X),
            Sample("torch.stack([x, x * 3], dim=2).sum(2)", _IMAGE, channels_last=True),
            Sample("torch.stack([x, x * 3], dim=1)[:, 1]", _IMAGE, channels_last=True),
        ),
    ),
    *(
        Rule(f"aten.{op}", _split, torch=spelling, noun="part", layout="axis", samples=samples)
        for op, spelling, samples in (
            (
                "split.Tensor",
                "x.split(2, dim=1)",
                (
                    Sample("x.split(2, dim=1)", _WIDE),
                    Sample("x.split(2, dim=-1)", _WIDE),
                    Sample("x.split(3, dim=1)[1]", _WIDE),
                    Sample("x.split(3, 1)", _IMAGE, channels_last=True),
                ),
            ),
            (
                "split_with_sizes.default",
                "x.split([1, 2], dim=1)",
                (
                    Sample("torch.split_with_sizes(x, [1, 3, 2], 1)", _WIDE),
                    Sample("torch.split_with_sizes(x, [2, 4], 1)", _IMAGE, channels_last=True),
                ),
            ),
            (
                "split.sizes",
                "x.split([1, 2], dim=1)",
                (Sample("torch.ops.aten.split.sizes(x, [1, 3, 2], 1)", _WIDE),),
            ),
            (
                "chunk.default",
                "x.chunk(2, dim=1)",
                (
                    Sample("x.chunk(2, dim=1)", _WIDE),
                    Sample("x.chunk(3, dim=-1)", _WIDE),
                    Sample("x.chunk(1)", _X),
                    Sample("x.chunk(2, 1)", _IMAGE, channels_last=True),
                ),
            ),
            (
                "tensor_split.sections",
                "x.tensor_split(2, dim=1)",
                (Sample("x.tensor_split(4, dim=1)", {"x": "2,6"}),),
            ),
        )
    ),
    Rule(
        "aten.unbind.int",
        _unbind,
        torch="x.unbind(1)",
        noun="part",
        layout="axis",
        samples=(
            Sample("x.unbind(1)", _X),
            Sample("x.unbind(0)[1]", _X),
            Sample("x.unbind(-1)[2]", _X),
            Sample("x.unbind(1)", {"x": "2,3,4,5"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.repeat.default",
        _tile,
        torch="x.repeat(1, 2, 1)",
        noun="x",
        layout="logical",
        samples=(Sample("x.repeat(1, 2, 3)", _X), Sample("x.repeat(2, 1, 1, 2)", _X)),
    ),
    Rule(
        "aten.tile.default",
        _tile,
        torch="x.tile((2,))",
        noun="x",
        layout="logical",
        samples=(Sample("x.tile((2,))", _X), Sample("x.tile((2, 1, 3, 1))", _X)),
    ),
    Rule(
        "aten.repeat_interleave.self_int",
        _repeat_interleave,
        torch="x.repeat_interleave(2, dim=1)",
        noun="x",
        layout="axis",
        samples=(
            Sample("x.repeat_interleave(2, dim=1)", _X),
            Sample("x.repeat_interleave(3, dim=-1)", _X),
            Sample("x.repeat_interleave(2)", {"x": "4"}),
            Sample("x.repeat_interleave(2, dim=1)", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.topk.default",
        _top_k,
        torch="x.topk(2)",
        noun="highest",
        layout="logical",
        topic="topk ties",
        note=_TOPK_NOTE,
        samples=(
            Sample("x.topk(2)", _X),
            Sample("x.topk(2, dim=1)", _X),
            Sample("x.topk(3, largest=False)", _X),
            Sample("x.topk(2)[0]", _X),
        ),
    ),
    Rule(
        "aten.sort.default",
        _sort,
        torch="x.sort(dim=1)",
        noun="ordered",
        layout="logical",
        samples=(
            Sample("x.sort(dim=1)", _X),
            Sample("x.sort(descending=True)", _X),
            Sample("x.sort(0)[0]", _X),
        ),
    ),
    Rule(
        "aten.sort.stable",
        _sort,
        torch="x.sort(dim=1, stable=True)",
        noun="ordered",
        layout="logical",
        samples=(Sample("x.sort(dim=1, stable=True)", _X),),
    ),
    Rule(
        "aten.argsort.default",
        _argsort,
        torch="x.argsort(dim=1)",
        noun="order",
        layout="logical",
        samples=(Sample("x.argsort(dim=1)", _X), Sample("x.argsort(descending=True)", _X)),
    ),
    Rule(
        "aten.argsort.stable",
        _argsort,
        torch="x.argsort(dim=1, stable=True)",
        noun="order",
        layout="logical",
        samples=(Sample("x.argsort(dim=1, stable=True)", _X),),
    ),
    Rule(
        "aten.flip.default",
        _flip,
        torch="x.flip(1)",
        noun="x",
        layout="axis",
        samples=(
            Sample("x.flip(1)", _X),
            Sample("x.flip((0, -1))", _X),
            Sample("x.flip((1, 3))", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.roll.default",
        _roll,
        torch="x.roll(1, 1)",
        noun="x",
        layout="axis",
        samples=(
            Sample("x.roll(1, 1)", _X),
            Sample("x.roll((1, -2), (2, 1))", _X),
            Sample("x.roll(3)", _X),
            Sample("x.roll((1, 2), (3, 1))", _IMAGE, channels_last=True),
        ),
    ),
    Rule(
        "aten.unfold.default",
        _windows,
        torch="x.unfold(1, 3, 2)",
        noun="windows",
        layout="logical",
        samples=(Sample("x.unfold(1, 3, 2)", {"x": "2,8,5"}), Sample("x.unfold(-1, 2, 1)", _X)),
    ),
    Rule(
        "aten.im2col.default",
        _unfold_image,
        torch="F.unfold(x, 3)",
        noun="patches",
        layout="logical",
        samples=(
            Sample("F.unfold(x, 2)", _IMAGE),
            Sample("F.unfold(x, (3, 2), padding=1, stride=2)", _IMAGE),
            Sample("F.unfold(x, 2, dilation=2)", _IMAGE),
        ),
    ),
    Rule(
        "aten.meshgrid.indexing",
        _meshgrid,
        torch='torch.meshgrid(x, y, indexing="ij")',
        noun="grid",
        layout="logical",
        samples=(
            Sample('torch.meshgrid(x, y, indexing="ij")', {"x": "3", "y": "5"}),
            Sample('torch.meshgrid(x, y, indexing="xy")', {"x": "3", "y": "5"}),
        ),
    ),
    Rule(
        "aten.meshgrid.default",
        _meshgrid,
        torch="torch.meshgrid(x, y)",
        noun="grid",
        layout="logical",
        samples=(Sample("torch.ops.aten.meshgrid.default([x, y])", {"x": "3", "y": "5"}),),
    ),
    Rule(
        "aten.diagonal.default",
        _diagonal,
        torch="x.diagonal()",
        noun="diagonal",
        layout="logical",
        samples=(Sample("x.diagonal()", {"x": "3,4"}), Sample("x.diagonal(1, -2, -1)", _X)),
    ),
    Rule(
        "aten.diff.default",
        _diff,
        torch="x.diff()",
        noun="x",
        layout="axis",
        samples=(
            Sample("x.diff()", _X),
            Sample("x.diff(dim=1)", _X),
            Sample("torch.diff(x, prepend=y, append=y * 2)", {"x": "2,3,5", "y": "2,3,4"}),
            Sample("torch.diff(x, dim=1, append=y)", {"x": "2,3,5", "y": "2,4,5"}),
        ),
    ),
)
