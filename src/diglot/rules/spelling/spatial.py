"""Pooling, padding and resizing."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.rules.arguments import brief, numbers, unless
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import by_schema

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _window(op: OpCall, rank: int, maximum: bool) -> tuple[Any, dict[str, Any]]:
    kernel = numbers(op, "kernel_size", rank)
    stride = numbers(op, "stride", rank, kernel)
    options = {
        "stride": unless(brief(stride), brief(kernel)),
        "padding": unless(brief(numbers(op, "padding", rank)), 0),
    }
    if maximum:
        options["dilation"] = unless(brief(numbers(op, "dilation", rank)), 1)
    options["ceil_mode"] = unless(op.get("ceil_mode", False), False)
    if not maximum:
        options["count_include_pad"] = unless(op.get("count_include_pad", True), True)
        options["divisor_override"] = unless(op.get("divisor_override"), None)
    return brief(kernel), options


def _pool(rank: int, kind: str):
    def write(op: OpCall) -> ast.expr:
        kernel, options = _window(op, rank, kind == "max")
        made = call(f"F.{kind}_pool{rank}d", op.expr("self"), kernel, **options)
        if op.rule.op.endswith("_with_indices.default"):
            made.keywords.append(ast.keyword("return_indices", to_ast(True)))
        return made

    def layer(op: OpCall) -> ast.expr | None:
        if op.rule.op.endswith("_with_indices.default"):
            return None
        kernel, options = _window(op, rank, kind == "max")
        return call(f"nn.{kind.title()}Pool{rank}d", kernel, **options)

    return write, layer


def _adaptive(rank: int, kind: str):
    def size(op: OpCall) -> Any:
        return to_ast(brief(numbers(op, "output_size", rank)))

    def write(op: OpCall) -> ast.expr:
        made = call(f"F.adaptive_{kind}_pool{rank}d", op.expr("self"), size(op))
        if kind == "avg":
            return made
        if any(u.args[1] == 1 and u.users for u in op.node.users):  # the op gives the places, too
            made.keywords.append(ast.keyword("return_indices", to_ast(True)))
            return made
        return ast.Tuple([made, ast.Constant(None)], ast.Load())

    def layer(op: OpCall) -> ast.expr | None:
        return call(f"nn.AdaptiveAvgPool{rank}d", size(op)) if kind == "avg" else None

    return write, layer


def _global_average(op: OpCall) -> ast.expr | None:
    """``nn.AdaptiveAvgPool2d(1)`` for the mean of each channel of an image that stays one."""
    rank, dims = op.fake("self").dim(), op.axes(op["dim"])
    axes = sorted(d % rank for d in ([dims] if isinstance(dims, int) else dims or ()))
    if not op.get("keepdim", False) or rank not in (3, 4, 5) or axes != list(range(2, rank)):
        return None
    return call(f"nn.AdaptiveAvgPool{rank - 2}d", 1)


def _pad_widths(op: OpCall) -> list[Any]:
    """The widths, last axis first, in the order of the target's axes."""
    pads = list(op["pad"] if "pad" in op.args else op["padding"])
    rank = op.fake("self").dim()
    by_axis: dict[int, tuple[Any, Any]] = {
        rank - 1 - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)
    }
    perm = op.perm("self") or tuple(range(rank))
    ordered = [by_axis.get(perm[axis], (0, 0)) for axis in range(rank)]
    constant = op.get("mode", "constant") == "constant" and "padding" not in op.args
    least = 1 if constant else len(by_axis)  # PyTorch mirrors all axes of an image or none
    while len(ordered) > least and ordered[0] == (0, 0):
        ordered.pop(0)
    return [width for pair in reversed(ordered) for width in pair]


_PADS = {
    "constant": "Constant",
    "reflect": "Reflection",
    "replicate": "Replication",
    "circular": "Circular",
}


def _pad(mode: str):
    def write(op: OpCall) -> ast.expr:
        widths = ast.Tuple([op.value(width) for width in _pad_widths(op)], ast.Load())
        chosen = op.get("mode", mode)
        options: dict[str, Any] = {"mode": unless(chosen, "constant")}
        value = op.get("value", 0)
        if chosen == "constant" and value:
            options["value"] = op.value(value)
        return call("F.pad", op.expr("self"), widths, **options)

    def layer(op: OpCall) -> ast.expr | None:
        kind, value = _PADS.get(op.get("mode", mode)), op.get("value", 0)
        rank, widths = op.fake("self").dim() - 2, _pad_widths(op)
        widths += [0] * (2 * rank - len(widths))
        plain = len(widths) == 2 * rank and all(type(w) is int for w in widths)
        if kind is None or rank not in (1, 2, 3) or not plain:
            return None
        if kind == "Constant" and not value:
            return call(f"nn.ZeroPad{rank}d", brief(tuple(widths)))
        given = [op.value(value)] if kind == "Constant" else []
        return call(f"nn.{kind}Pad{rank}d", brief(tuple(widths)), *given)

    return write, layer


def _resize(op: OpCall) -> ast.expr:
    name = op.rule.op.split(".")[1]
    antialias = name.endswith("_aa")
    kind = name.removesuffix("_aa").removeprefix("_").removeprefix("upsample_").rstrip("123d")
    mode = kind.replace("nearest_exact", "nearest-exact")
    own = "input" if "input" in op.args else "self"
    options: dict[str, Any] = {}
    scales = op.get("scale_factors")
    if scales:
        whole = [int(s) if float(s).is_integer() else s for s in scales]
        options["scale_factor"] = to_ast(brief(tuple(whole)))
    else:
        sizes = op.get("output_size")
        same = len(set(map(str, sizes))) == 1
        options["size"] = (
            op.value(sizes[0]) if same else ast.Tuple([op.value(s) for s in sizes], ast.Load())
        )
    options["mode"] = unless(mode, "nearest")
    if "align_corners" in op.args and op["align_corners"]:
        options["align_corners"] = True
    if antialias:
        options["antialias"] = True
    return call("F.interpolate", op.expr(own), **options)


def _resize_layer(op: OpCall) -> ast.expr | None:
    made = _resize(op)
    names = {k.arg for k in made.keywords}  # type: ignore[attr-defined]
    if "scale_factor" not in names or "antialias" in names:
        return None
    return ast.Call(E("nn.Upsample"), [], made.keywords)  # type: ignore[attr-defined]


def _shuffle(name: str, argument: str):
    def write(op: OpCall) -> ast.expr:
        return call(f"F.{name}", op.expr("self"), op.value(op[argument]))

    def layer(op: OpCall) -> ast.expr:
        return call(f"nn.{name.title().replace('_', '')}", op.value(op[argument]))

    return write, layer


def _pad_same(op: OpCall) -> ast.expr:
    window, stride = (tuple(int(n) for n in op[name]) for name in ("window", "stride"))
    value = unless(op["value"], 0.0)
    return call(op.helper("pad_same"), op.expr("x"), window, stride, value=value)


for _rank in (1, 2, 3):
    _write, _layer = _pool(_rank, "max")
    alike(f"max_pool{_rank}d max_pool{_rank}d_with_indices", _write, _layer)
    alike(f"avg_pool{_rank}d", *_pool(_rank, "avg"))
    alike(f"adaptive_avg_pool{_rank}d", *_adaptive(_rank, "avg"))
    alike(f"adaptive_max_pool{_rank}d", *_adaptive(_rank, "max"))
    for _kind in ("nearest", "_nearest_exact"):
        _op = f"{'_' if _kind[0] == '_' else ''}upsample_{_kind.lstrip('_')}{_rank}d"
        alike(f"{_op}.vec {_op}", _resize, _resize_layer)
for _op in ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
            "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"):  # fmt: skip
    alike(f"{_op}.vec {_op}", _resize, _resize_layer)
alike("mean.dim", by_schema, _global_average)
alike("diglot.pad_same.default", _pad_same)
alike("pad constant_pad_nd", *_pad("constant"))
alike("reflection_pad1d reflection_pad2d reflection_pad3d", *_pad("reflect"))
alike("replication_pad1d replication_pad2d replication_pad3d", *_pad("replicate"))
alike("pixel_shuffle", *_shuffle("pixel_shuffle", "upscale_factor"))
alike("pixel_unshuffle", *_shuffle("pixel_unshuffle", "downscale_factor"))
