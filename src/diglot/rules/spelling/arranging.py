"""Joining, splitting and repeating, where the axes of several arguments go together."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import call
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import axes, by_schema

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _split(op: OpCall) -> ast.expr:
    sizes = op.args.get("split_size", op.args.get("split_sizes"))
    method = ast.Attribute(op.expr("self"), "split", ast.Load())
    return call(method, op.value(sizes), dim=op.axis(op["dim"]))


def _repeat(op: OpCall) -> ast.expr:
    times = list(op["repeats"] if "repeats" in op.args else op["dims"])
    perm = op.perm()
    rank = op.fake().dim()
    times = [1] * (rank - len(times)) + times
    ordered = [times[p] for p in perm] if perm else times
    method = ast.Attribute(op.expr("self"), "repeat", ast.Load())
    return call(method, *(op.value(t) for t in ordered))


def _roll(op: OpCall) -> ast.expr:
    shifts, dims = list(op["shifts"]), list(op["dims"])
    axes = [op.axis(d) for d in dims]
    one = len(shifts) == 1
    shift = op.value(shifts[0]) if one else ast.Tuple([op.value(s) for s in shifts], ast.Load())
    options = {} if not dims else {"dims": axes[0] if one else tuple(axes)}
    return call(ast.Attribute(op.expr("self"), "roll", ast.Load()), shift, **options)


def _join(name: str):
    def write(op: OpCall) -> ast.expr:
        dim = op.axis_of_result(op.get("dim", 0))
        return call(f"torch.{name}", op.value(op["tensors"]), dim=dim if dim else ...)

    return write


def _std_mean(name: str):
    def write(op: OpCall) -> ast.expr:
        options: dict[str, Any] = {}
        if op.get("dim") is not None:
            options["dim"] = axes(op, op["dim"])
        correction = op.get("correction", 1) if "correction" in op.args else int(op["unbiased"])
        if correction != 1:
            options["correction"] = correction
        if op.get("keepdim", False):
            options["keepdim"] = True
        return call(f"torch.{name}", op.expr("self"), **options)

    return write


alike("split.Tensor split_with_sizes split.sizes", _split)
alike("repeat tile", _repeat)
alike("roll", _roll)
alike("cat", _join("cat"))
alike("stack", _join("stack"))
alike("im2col", lambda op: by_schema(op, "F.unfold"))
alike("var_mean.correction var_mean.dim", _std_mean("var_mean"))
alike("std_mean.correction std_mean.dim", _std_mean("std_mean"))
alike("var.correction", _std_mean("var"))
alike("std.correction", _std_mean("std"))
