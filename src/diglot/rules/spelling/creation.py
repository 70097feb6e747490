"""Tensors from nothing, on the device of what the layer was given; dtypes."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import dtype_ast

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _made(op: OpCall, name: str, *args: ast.expr) -> ast.expr:
    """``torch.zeros(n, dtype=…, device=x.device)``; a dtype that PyTorch chooses itself is left out."""
    import torch

    options: dict[str, Any] = {}
    dtype = op.fake().dtype
    floats = [op[n] for n in ("start", "end", "step") if isinstance(op.args.get(n), float)]
    usual = torch.int64 if name == "arange" and not floats else op.writer.program.float_dtype
    if name == "full" and isinstance(op.args.get("fill_value"), (bool, int)):
        usual = torch.bool if isinstance(op["fill_value"], bool) else torch.int64
    if dtype is not usual:
        options["dtype"] = dtype_ast(dtype)
    device = op.device()
    if device is not None:
        options["device"] = device
    return call(f"torch.{name}", *args, **options)


def _arange(op: OpCall) -> ast.expr:
    start, step = op.get("start", 0), op.get("step", 1)
    args = [op.expr("end")]
    if start != 0 or step != 1:
        args.insert(0, op.value(start))
    if step != 1:
        args.append(op.value(step))
    return _made(op, "arange", *args)


def _filled(name: str):
    def write(op: OpCall) -> ast.expr:
        shape = [op.size(s) for s in op.shape()]
        if name == "full":
            return _made(op, "full", ast.Tuple(shape, ast.Load()), op.expr("fill_value"))
        return _made(op, name, *(shape or [ast.Tuple([], ast.Load())]))

    return write


def _like(name: str):
    def write(op: OpCall) -> ast.expr:
        args = [op.expr("fill_value")] if "fill_value" in op.args else []
        options: dict[str, Any] = {}
        if op.fake().dtype is not op.fake("self").dtype:
            options["dtype"] = dtype_ast(op.fake().dtype)
        return call(f"torch.{name}", op.expr("self"), *args, **options)

    return write


_SHORT = {
    "torch.int64": "long",
    "torch.bool": "bool",
    "torch.int32": "int",
    "torch.float64": "double",
}


def _cast(op: OpCall) -> ast.expr:
    own = "self" if "self" in op.args else "input"
    x, dtype = op.expr(own), op.fake().dtype
    if dtype is op.fake(own).dtype:
        return x
    if dtype is op.writer.program.float_dtype:
        like = op.float_like()
        return E("x.to(like.dtype)", x=x, like=like) if like is not None else E("x.float()", x=x)
    short = _SHORT.get(str(dtype))
    if short is not None:
        return call(ast.Attribute(x, short, ast.Load()))
    return E("x.to(d)", x=x, d=dtype_ast(dtype))


def _scalar(op: OpCall) -> ast.expr:
    return op.value(op["s"])


alike("arange arange.start arange.start_step", _arange)
alike("zeros new_zeros", _filled("zeros"))
alike("ones new_ones", _filled("ones"))
alike("full new_full", _filled("full"))
alike("rand", _filled("rand"))
alike("randn", _filled("randn"))
alike("empty_like zeros_like", _like("zeros_like"))
alike("ones_like", _like("ones_like"))
alike("full_like", _like("full_like"))
alike("scalar_tensor", _scalar)
alike("to.dtype to.dtype_layout to.device to.other _to_copy type_as", _cast)
alike("detach", "self.detach()")
