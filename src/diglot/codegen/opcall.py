"""One op inside a region, as its rule sees it: named arguments, sizes, axes in the target's layout, layers."""

from __future__ import annotations

import ast
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from diglot.codegen.expr import E, call, to_ast
from diglot.errors import Problem
from diglot.ir.hub import target_name
from diglot.ir.sizes import Size, is_static, shape_of

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter
    from diglot.rules.registry import Rule

DTYPES = {
    torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64",
    torch.int8: "int8", torch.int16: "int16", torch.int32: "int32", torch.int64: "int64", torch.uint8: "uint8",
    torch.bool: "bool",
}  # fmt: skip


class Refusal(Exception):
    """Raised by a rule that cannot translate this use of its op; carries the reason."""


@functools.lru_cache(maxsize=1024)
def _schema(target: Any) -> tuple[tuple[str, Any], ...]:
    schema = getattr(target, "_schema", None)
    if schema is None:
        return ()
    return tuple(
        (a.name, a.default_value if a.has_default_value() else None) for a in schema.arguments
    )


def arguments(node: fx.Node) -> dict[str, Any]:
    """Return a node's arguments by the names of its schema, defaults filled in."""
    schema = _schema(node.target)
    values = dict(schema)
    for (name, _), value in zip(schema, node.args, strict=False):
        values[name] = value
    values.update(node.kwargs)
    if not schema:
        values.update({f"a{i}": a for i, a in enumerate(node.args)})
    return values


class OpCall:
    """What a rule may ask about the op it writes. Axes and shapes are those of the target's layout
    unless a name says ``logical``."""

    def __init__(self, writer: RegionWriter, node: fx.Node, rule: Rule) -> None:
        self.writer = writer
        self.node = node
        self.rule = rule
        self.args = arguments(node)

    # --- arguments -------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        """The raw argument: a node, a number, a list, ``None``."""
        return self.args[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The raw argument, or ``default`` when there is none of that name or it is ``None``."""
        value = self.args.get(name)
        return default if value is None else value

    def is_tensor(self, name: str) -> bool:
        """Tell whether an argument is a tensor of the graph."""
        value = self.args.get(name)
        return isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor)

    def expr(self, name: str) -> ast.expr:
        """The argument as an expression."""
        return self.value(self.args[name])

    def value(self, value: Any) -> ast.expr:
        """Any argument value (node, size, number, list of these) as an expression."""
        if isinstance(value, fx.Node):
            if isinstance(value.meta.get("val"), torch.Tensor):
                return self.writer.read(value)
            return self.size(value.meta["val"])
        if isinstance(value, (list, tuple)):
            items = [self.value(v) for v in value]
            return ast.List(items, ast.Load())
        if isinstance(value, torch.dtype):
            return self.dtype_ast(value)
        return to_ast(value)

    def variable(self, name: str) -> ast.expr:
        """The argument as an expression that may be written twice: a tensor is given a variable first."""
        node = self.args[name]
        if isinstance(node, fx.Node):
            self.writer.settle_inline(node)
        return self.expr(name)

    def fake(self, name: str | None = None) -> torch.Tensor:
        """The fake tensor of an argument, or of the result."""
        node = self.node if name is None else self.args[name]
        return node.meta["val"]

    def logical_shape(self, name: str | None = None) -> tuple[Size, ...]:
        """Shape in PyTorch's order (ints and sympy expressions) of an argument, or of the result."""
        return shape_of(self.fake(name))

    def shape(self, name: str | None = None) -> tuple[Size, ...]:
        """Shape in the target's layout of an argument, or of the result."""
        logical = self.logical_shape(name)
        perm = self.perm(name)
        return tuple(logical[p] for p in perm) if perm else logical

    def perm(self, name: str | None = None) -> tuple[int, ...] | None:
        """The layout: target axis ``i`` holds PyTorch's axis ``perm[i]``; ``None`` when they agree."""
        node = self.node if name is None else self.args[name]
        return node.meta.get("layout")

    def axis(self, dim: int, name: str = "self") -> int:
        """PyTorch's axis ``dim`` of an argument as the target's axis; last stays -1."""
        rank = self.fake(name).dim() if self.is_tensor(name) else self.fake().dim()
        perm = self.perm(name) if self.is_tensor(name) else self.perm()
        logical = dim % rank if rank else 0
        physical = perm.index(logical) if perm else logical
        return physical - rank if (dim < 0 and not perm) or physical == rank - 1 else physical

    def axes(self, dims: Any, name: str = "self") -> Any:
        """Several axes (or all, for ``None`` or an empty list) as the target's."""
        if dims is None or dims == []:
            return None
        if isinstance(dims, int):
            return self.axis(dims, name)
        mapped = [self.axis(d, name) for d in dims]
        return mapped[0] if len(mapped) == 1 else tuple(sorted(mapped))

    # --- sizes and dtypes ---------------------------------------------------------------------------

    def size(self, size: Any) -> ast.expr:
        """A size (int, SymInt or sympy expression) as an expression over what the region can see."""
        return self.writer.size(size, self.node)

    def shape_ast(self, shape: tuple[Size, ...], *, minus_one: bool = True) -> ast.expr:
        """A shape as a tuple; the first dynamic size becomes ``-1`` where that is allowed."""
        items: list[ast.expr] = []
        for size in shape:
            if minus_one and not is_static(size):
                items.append(to_ast(-1))
                minus_one = False
            else:
                items.append(self.size(size))
        return ast.Tuple(items, ast.Load())

    def dtype_ast(self, dtype: torch.dtype | None) -> ast.expr:
        """A dtype as Keras writes it; the model's own float type follows the layer's policy."""
        if dtype is None:
            dtype = self.fake().dtype
        if dtype is self.writer.program.float_dtype:
            return self.writer.float_dtype_ast()
        return to_ast("int32" if dtype is torch.int64 else DTYPES[dtype])

    def is_float(self, name: str | None = None) -> bool:
        """Tell whether a tensor is floating point."""
        return self.fake(name).dtype.is_floating_point

    def device(self) -> ast.expr | None:
        """``x.device`` of a tensor that the region was given, for tensors made from nothing."""
        near = self.writer.given_tensor(floating=False)
        return E("x.device", x=near) if near is not None else None

    def float_like(self) -> ast.expr | None:
        """A float tensor that the region was given, whose dtype others may take."""
        return self.writer.given_tensor(floating=True)

    # --- layers and weights ---------------------------------------------------------------------------

    def is_layer(self, *weights: str) -> bool:
        """Tell whether the named weight arguments belong to a layer that this region can own."""
        return self.writer.owns(
            self.node, [self.args[w] for w in weights if self.args.get(w) is not None]
        )

    def layer(
        self,
        construct: ast.expr,
        weights: dict[str, Any] | None = None,
        *,
        default: str = "",
        suffix: str = "",
        stands: bool | None = None,
    ) -> ast.expr:
        """Declare a layer and return ``self.<name>``.

        ``weights`` maps the layer's own weight (``kernel``, ``cell.bias``) to ``(argument node or nodes, steps)``,
        or to a dict of WeightEntry fields with ``nodes``. ``suffix`` names a second layer of the same op, such as
        the padding before a convolution: ``self.conv1_pad``. ``stands`` tells whether the layer's result is the
        source module's, so that the two can be compared; without it a layer with a suffix does not.
        """
        if stands is None:
            stands = not suffix
        default = default or self.rule.noun
        return self.writer.layer(self.node, construct, weights or {}, default, suffix, stands)

    def reversible(self, weight: str) -> bool:
        """Tell whether an embedding must also serve as a Linear (see :class:`FunctionalWriter`)."""
        return self.writer.reversible(self.args[weight])

    def reverse_of(self, weight: str) -> fx.Node | None:
        """The weight of a Linear that an embedding holds beside its table."""
        return self.writer.reverse_of(self.args[weight])

    def reversed_layer(self, weight: str) -> ast.expr | None:
        """The embedding layer that serves as this Linear, if there is one."""
        return self.writer.reversed_layer(self.args[weight])

    def helper(self, name: str) -> ast.expr:
        """Name a function of the generated module's own (see ``diglot/carried``), adding it once."""
        self.writer.program.helpers.add(name)
        return ast.Name(name, ast.Load())

    def refuse(self, reason: str) -> Refusal:
        """Return the error to raise when this use cannot be translated."""
        return Refusal(reason)

    def problem(self, hint: str) -> Problem:
        """Describe this op for the list of what is unsupported."""
        return Problem(
            target_name(self.node), self.writer.where(self.node), self.writer.call.path, hint
        )

    # --- short cuts ----------------------------------------------------------------------------------

    def template(self, text: str) -> ast.expr:
        """Fill a data rule's expression with this op's arguments."""
        wanted = {n.id for n in ast.walk(ast.parse(text, mode="eval")) if isinstance(n, ast.Name)}
        values: dict[str, Any] = {}
        for name, value in self.args.items():
            if name not in wanted:
                continue
            if name == "dim" and not isinstance(value, fx.Node):
                first = "self" if "self" in self.args else next(iter(self.args))
                if not isinstance(
                    self.args[first], fx.Node
                ):  # a list of tensors: the result's layout
                    values[name] = to_ast(self.axis_of_result(value))
                else:
                    values[name] = to_ast(self.axes(value, first))
            else:
                values[name] = self.expr(name)
        return E(text, **values)

    def axis_of_result(self, dim: int) -> int:
        """PyTorch's axis of the result as the target's."""
        rank = self.fake().dim()
        perm = self.perm()
        logical = dim % rank
        physical = perm.index(logical) if perm else logical
        return -1 if physical == rank - 1 else physical

    def ops(self, name: str, *args: Any, **kwargs: Any) -> ast.expr:
        """``ops.<name>(…)``."""
        return call(f"ops.{name}", *args, **kwargs)
