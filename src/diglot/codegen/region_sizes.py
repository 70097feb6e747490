"""How a region spells a dynamic size: off the tensor nearest to where it is needed."""

from __future__ import annotations

import ast
import functools
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch import fx

from diglot.codegen import names
from diglot.codegen.expr import E, text, to_ast
from diglot.codegen.opcall import Refusal
from diglot.codegen.statements import Statement, assignment
from diglot.ir.hub import is_mark
from diglot.ir.sizes import is_static, shape_of, size_of

if TYPE_CHECKING:
    from diglot.codegen.dialect import Dialect
    from diglot.codegen.region import RegionWriter


class SizeWriter:
    """Mixed into :class:`RegionWriter`."""

    def size(self: RegionWriter, size: Any, at: fx.Node) -> ast.expr:
        """Return a size as an expression over tensors that this region can see, the nearest first."""
        size = size_of(size)
        if is_static(size):
            return to_ast(size)
        if not isinstance(size, sympy.Symbol):
            known = {s: self.size(s, at) for s in sorted(size.free_symbols, key=str)}
            return size_ast(size, known, self.program.dialect)
        near = self._near(size, at)
        if near is None and size in self.sizes:
            return ast.Name(self.sizes[size], ast.Load())
        found = near or self._far(size)
        if found is None:
            return self._multiple(size) or self._size_outside(size)
        node, axis = found
        if node in self._parameters:
            if size in self.sizes:
                return ast.Name(self.sizes[size], ast.Load())
            if self.program.size_reads(self.call, size) >= 2:
                return self._declare_size(size, node, axis)
        return self.program.dialect.size(self.exprs[node], axis)

    def given_tensor(self: RegionWriter, floating: bool) -> ast.expr | None:
        """Return a variable that holds a tensor: one of the region's own arguments, or else any."""
        for node in [*(p.node for p in self.call.inputs), *self.holder.values()]:
            value = node.meta.get("val") if isinstance(node, fx.Node) else None
            made = self.exprs.get(node) if isinstance(node, fx.Node) else None
            if not isinstance(value, torch.Tensor) or not isinstance(made, ast.Name):
                continue
            if self.holder.get(made.id) is not node:
                continue
            if not floating or value.dtype is self.program.float_dtype:
                return made
        return None

    @property
    def _parameters(self: RegionWriter) -> set[fx.Node]:
        return {p.node for p in self.call.inputs} | {n for n, _ in self.extra}

    def _near(self: RegionWriter, size: Any, at: fx.Node) -> tuple[fx.Node, int] | None:
        """Find a size on the variables that an op's own operands come from."""
        queue, seen = list(at.all_input_nodes), set()
        while queue:
            node = queue.pop(0)
            if node in seen:
                continue
            seen.add(node)
            found = self._axis_of(node, size)
            if found is not None:
                return node, found
            if (
                node not in self.exprs
                or not isinstance(self.exprs[node], ast.Name)
                or (is_mark(node) and node not in self._parameters)
            ):
                queue.extend(node.all_input_nodes)
        return None

    def _far(self: RegionWriter, size: Any) -> tuple[fx.Node, int] | None:
        """Find a size on any variable."""
        for node in self.exprs:
            found = self._axis_of(node, size)
            if found is not None:
                return node, found
        return None

    def _multiple(self: RegionWriter, size: Any) -> ast.expr | None:
        """Read a size off an axis that holds it several times over: windows of images, heads of batches."""
        for node in self.exprs:
            value = node.meta.get("val") if isinstance(node, fx.Node) else None
            for held in shape_of(value) if isinstance(value, torch.Tensor) else ():
                times = held / size
                axis = self._axis_of(node, held) if times.is_Integer else None
                if axis is not None:
                    held_size = self.program.dialect.size(self.exprs[node], axis)
                    return E("s // n", s=held_size, n=int(times))
        return None

    def _size_outside(self: RegionWriter, size: Any) -> ast.expr:
        """Take a size that no tensor of this region has as a parameter: the caller knows it."""
        if self.call is self.program.hub.root:
            raise Refusal(f"the size {size} cannot be read from any tensor in the model")
        shapes = [shape_of(node.meta["val"]) for node in self.program.hub.inputs]
        axis = next((shape.index(size) for shape in shapes if size in shape), 2)
        name = names.unique(("batch", "length", "size")[min(axis, 2)], self.holder)
        self.params.append(name)
        self.extra.append((size, name))
        self.holder[name] = "size"
        self.sizes[size] = name
        return ast.Name(name, ast.Load())

    def _axis_of(self: RegionWriter, node: fx.Node, size: Any) -> int | None:
        """Return the axis of a living variable that has a size."""
        expression = self.exprs.get(node)
        value = node.meta.get("val") if isinstance(node, fx.Node) else None
        if not isinstance(value, torch.Tensor) or not isinstance(expression, ast.Name):
            return None
        held = self.holder.get(expression.id)
        if not isinstance(held, fx.Node) or (
            held is not node and self._root_value(node) is not self._root_value(held)
        ):
            return None
        shape = shape_of(value)
        if size not in shape:
            return None
        layout = node.meta.get("layout")
        return layout.index(shape.index(size)) if layout else shape.index(size)

    def _save_sizes(self: RegionWriter, held: fx.Node) -> None:
        """Read sizes that later statements need off a parameter that is about to change."""
        value = held.meta.get("val")
        if held not in self._parameters or not isinstance(value, torch.Tensor):
            return
        for size in shape_of(value):
            if (
                isinstance(size, sympy.Symbol)
                and size not in self.sizes
                and self.program.reads_later(self, size)
            ):
                axis = self._axis_of(held, size)
                if axis is not None:
                    self._declare_size(size, held, axis)

    def _declare_size(self: RegionWriter, size: Any, node: fx.Node, axis: int) -> ast.expr:
        variable = self.exprs[node]
        logical = shape_of(node.meta["val"]).index(size)
        wanted = "batch" if logical == 0 else "length" if logical == 1 else "size"
        if wanted in self.holder:
            wanted = f"{text(variable)}_{wanted}"
        name = names.unique(wanted, self.holder)
        self.statements.append(
            Statement(assignment(name, self.program.dialect.size(variable, axis)))
        )
        self.holder[name] = "size"
        self.sizes[size] = name
        return ast.Name(name, ast.Load())


def size_ast(size: Any, known: dict[Any, ast.expr], dialect: Dialect) -> ast.expr:
    """Turn a sympy size into an expression, given one for each symbol."""
    if size in known:
        return known[size]
    if size.is_Integer:
        return to_ast(int(size))
    name = type(size).__name__
    parts = [size_ast(a, known, dialect) for a in size.args]
    if size.is_Add:
        numbers = [p for p, a in zip(parts, size.args, strict=True) if a.is_Number]
        rest = [p for p, a in zip(parts, size.args, strict=True) if not a.is_Number]
        total = functools.reduce(lambda a, b: E("a + b", a=a, b=b), rest)
        for number in numbers:
            value = ast.literal_eval(number)
            total = E("a - b", a=total, b=-value) if value < 0 else E("a + b", a=total, b=value)
        return total
    if size.is_Mul:
        return functools.reduce(lambda a, b: E("a * b", a=a, b=b), parts[::-1])
    if name in ("FloorDiv", "CleanDiv"):
        return E("a // b", a=parts[0], b=parts[1])
    if name in ("Mod", "PythonMod"):
        return E("a % b", a=parts[0], b=parts[1])
    if size.is_Pow:
        return E("a ** b", a=parts[0], b=parts[1])
    if name in ("Min", "Max"):
        return functools.reduce(lambda a, b: E(dialect.extreme(name), a=a, b=b), parts[::-1])
    raise Refusal(f"the size {size} has no plain form")
