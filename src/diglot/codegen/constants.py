"""Folded constants as source: a number, a short list, a recognised pattern, or a weight that is not trained."""

from __future__ import annotations

import ast
import textwrap
from typing import TYPE_CHECKING

import torch
from torch import fx

from diglot.codegen.expr import E, call, to_ast

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter

_SHORT = 16
_LONG = 64  # more whole numbers than this are written as text
_LINE = 76


class Constants:
    """Writes constant tensors."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def expr(self, writer: RegionWriter, node: fx.Node) -> ast.expr:
        """Return an expression for a constant tensor, in its layout."""
        value = self.program.hub.constants[node].detach().cpu()
        if value.is_complex():
            reader = next(iter(node.users), node)
            self.program.problem(writer, reader, "complex numbers; write cosines and sines instead")
            return ast.Name("unsupported", ast.Load())
        layout = node.meta.get("layout")
        if layout:
            value = value.permute(layout)
        # Folded values are float64; what the author asked for is in the node.
        wanted = node.meta["val"].dtype
        if value.dim() == 0:
            return to_ast(number(value))
        return self.program.dialect.constant(writer, node, value, wanted)

    def literal(
        self, writer: RegionWriter, value: torch.Tensor, wanted: torch.dtype | None = None
    ) -> ast.expr:
        """Return an expression for a tensor value, of the dtype `wanted` (its own by default)."""
        from diglot.codegen.opcall import DTYPES

        if value.dim() == 0:
            return to_ast(number(value))
        wanted = wanted or value.dtype
        floating = wanted is self.program.float_dtype
        dtype = (
            writer.float_dtype_ast()
            if floating
            else to_ast(DTYPES[wanted].replace("int64", "int32"))
        )
        flat = value.flatten()
        if value.numel() and bool((flat == flat[0]).all()):
            name = {0: "zeros", 1: "ones"}.get(flat[0].item())
            if name:
                return call(f"ops.{name}", tuple(value.shape), dtype=dtype)
            return call("ops.full", tuple(value.shape), number(flat[0]), dtype=dtype)
        if value.dim() == 1 and not value.dtype.is_floating_point and value.numel() > 1:
            step = int(value[1]) - int(value[0])
            if step and torch.equal(
                value, torch.arange(int(value[0]), int(value[0]) + step * len(value), step)
            ):
                return self._arange(int(value[0]), int(value[0]) + step * len(value), step, dtype)
        if value.dtype == torch.bool and (band := _band(value)) is not None:
            return band
        if value.numel() <= _SHORT:
            return call("ops.array", value.tolist(), dtype=dtype)
        if value.numel() > _LONG and torch.equal(value, value.long()):
            return self._table(value, dtype)
        return E("ops.array(rows, dtype=d)", rows=to_ast(value.tolist()), d=dtype)

    def _arange(self, start: int, stop: int, step: int, dtype: ast.expr) -> ast.expr:
        if step != 1:
            return call("ops.arange", start, stop, step, dtype=dtype)
        return (
            call("ops.arange", start, stop, dtype=dtype)
            if start
            else call("ops.arange", stop, dtype=dtype)
        )

    def _table(self, value: torch.Tensor, dtype: ast.expr) -> ast.expr:
        """Many whole numbers as lines of text: a list would take a line for each."""
        self.program.helpers.add("number_table")
        words = " ".join(str(int(n)) for n in value.flatten())
        made = call("number_table", *textwrap.wrap(words, _LINE), dtype=dtype)
        return made if value.dim() == 1 else call("ops.reshape", made, tuple(value.shape))


def _band(value: torch.Tensor) -> ast.expr | None:
    """A boolean matrix that is True between two diagonals, or above or below one, by its pattern.

    Leading axes of size 1 become part of the shape. None for any other matrix.
    """
    limits = band_limits(value)
    if limits is None:
        return None
    low, high = limits
    made = call("ops.ones", tuple(value.shape), dtype="bool")
    if high is not None:
        made = call("ops.tril", made, *([high] if high else []))
    if low is not None:
        made = call("ops.triu", made, *([low] if low else []))
    return made


def band_limits(value: torch.Tensor) -> tuple[int | None, int | None] | None:
    """Return the lowest and the highest diagonal of a boolean matrix that is True just between them.

    Leading axes must have size 1. A limit is None where the matrix ends first; the result is None for a
    matrix of any other form, or too small to show one.
    """
    if value.dim() < 2 or any(size != 1 for size in value.shape[:-2]) or value.numel() <= 4:
        return None
    rows, columns = value.shape[-2:]
    matrix = value.reshape(rows, columns)
    if not bool(matrix.any()):
        return None
    offsets = (torch.arange(columns) - torch.arange(rows)[:, None])[matrix]
    low, high = int(offsets.min()), int(offsets.max())
    if not torch.equal(matrix, torch.ones_like(matrix).triu(low).tril(high)):
        return None
    return (low if low > 1 - rows else None), (high if high < columns - 1 else None)


def number(value: torch.Tensor) -> bool | int | float:
    """Return a scalar as the number the author wrote: 0.7, not the float32 0.699999988079071."""
    if value.dtype is torch.float32 and bool(value.isfinite()):
        return float(str(value.numpy()))
    return value.item()
