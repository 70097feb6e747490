"""Folded constants as source: a number, a short list, a recognised pattern, or a weight that is not trained."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import torch
from torch import fx

from diglot.codegen.expr import E, call, to_ast

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter

_SHORT = 16


class Constants:
    """Writes constant tensors."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def expr(self, writer: RegionWriter, node: fx.Node) -> ast.expr:
        """Return an expression for a constant tensor, in its layout."""
        value = self.program.hub.constants[node].detach().cpu()
        layout = node.meta.get("layout")
        if layout:
            value = value.permute(layout)
        return self.literal(writer, value)

    def literal(self, writer: RegionWriter, value: torch.Tensor) -> ast.expr:
        """Return an expression for a tensor value."""
        from diglot.codegen.opcall import DTYPES

        if value.dim() == 0:
            return to_ast(_number(value))
        floating = value.dtype is self.program.float_dtype
        dtype = writer.float_dtype_ast() if floating else to_ast(DTYPES[value.dtype].replace("int64", "int32"))
        flat = value.flatten()
        if value.numel() and bool((flat == flat[0]).all()):
            name = {0: "zeros", 1: "ones"}.get(flat[0].item())
            if name:
                return call(f"ops.{name}", tuple(value.shape), dtype=dtype)
            return call("ops.full", tuple(value.shape), _number(flat[0]), dtype=dtype)
        if value.dim() == 1 and not value.dtype.is_floating_point and value.numel() > 1:
            step = int(value[1]) - int(value[0])
            if step and torch.equal(value, torch.arange(int(value[0]), int(value[0]) + step * len(value), step)):
                return self._arange(int(value[0]), int(value[0]) + step * len(value), step, dtype)
        if value.dim() == 2 and value.dtype == torch.bool:
            for name, pattern in (("tril", torch.tril), ("triu", torch.triu)):
                for diagonal in (0, 1, -1):
                    if torch.equal(value, pattern(torch.ones_like(value), diagonal)):
                        ones = call("ops.ones", tuple(value.shape), dtype="bool")
                        return call(f"ops.{name}", ones, diagonal if diagonal else ...) if diagonal == 0 else call(f"ops.{name}", ones, diagonal)
        if value.numel() <= _SHORT:
            return call("ops.array", value.tolist(), dtype=dtype)
        return self._literal_rows(value, dtype)

    def _arange(self, start: int, stop: int, step: int, dtype: ast.expr) -> ast.expr:
        if step != 1:
            return call("ops.arange", start, stop, step, dtype=dtype)
        return call("ops.arange", start, stop, dtype=dtype) if start else call("ops.arange", stop, dtype=dtype)

    def _literal_rows(self, value: torch.Tensor, dtype: ast.expr) -> ast.expr:
        if value.numel() > 4096:
            return E("ops.array(rows, dtype=d)", rows=to_ast(value.tolist()), d=dtype)
        return E("ops.array(rows, dtype=d)", rows=to_ast(value.tolist()), d=dtype)


def _number(value: torch.Tensor) -> bool | int | float:
    """Return a scalar as the number the author wrote: 0.7, not the float32 0.699999988079071."""
    if value.dtype is torch.float32 and bool(value.isfinite()):
        return float(str(value.numpy()))
    return value.item()
