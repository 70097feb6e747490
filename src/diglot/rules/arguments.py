"""Shared by rules of layers: numbers given once for each axis, and the padding they imply."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, to_ast

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

Numbers = tuple[int, ...]


def numbers(op: OpCall, name: str, rank: int, default: Any = None) -> Numbers:
    """Return an argument as ``rank`` ints; an empty list means ``default`` (a stride that equals
    the window).

    Raises a refusal when one of them is only known while the model runs.
    """
    value = op[name]
    if value is None or value == []:
        value = default
    if isinstance(value, int):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(type(v) is int for v in value):
        raise op.refuse(f"its {name} depends on the input's size; give it as a number")
    return tuple(value) * (rank if len(value) == 1 else 1)


def brief(values: Numbers) -> Any:
    """``(3, 3)`` -> ``3``: as a person writes it."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def unless(value: Any, default: Any) -> Any:
    """Return ``value``, or ``...`` (left out of the call) when it is Keras's default."""
    return ... if value == default else value


def is_same_padding(kernel: Numbers, stride: Numbers, padding: Numbers, dilation: Numbers) -> bool:
    """Tell whether symmetric padding is what Keras calls ``"same"``, for every input size."""
    if any(s != 1 for s in stride) or not any(padding):
        return False
    return all(2 * p == d * (k - 1) for k, p, d in zip(kernel, padding, dilation, strict=True))


def spatial_rank(op: OpCall, name: str, rank: int) -> None:
    """Refuse an input without a batch axis."""
    if op.fake(name).dim() != rank + 2:
        raise op.refuse("its input has no batch axis; add one with unsqueeze(0)")


def pad_spatial(
    x: ast.expr, before: Numbers, after: Numbers, value: float | None = None
) -> ast.expr:
    """``ops.pad`` of a channels-last tensor's spatial axes."""
    widths = ((0, 0), *zip(before, after, strict=True), (0, 0))
    if value is None:
        return E("ops.pad(x, widths)", x=x, widths=to_ast(widths))
    return E(
        "ops.pad(x, widths, constant_values=value)", x=x, widths=to_ast(widths), value=to_ast(value)
    )


def is_leaf(op: OpCall, *classes: str) -> bool:
    """Tell whether the op is the whole of one of torch.nn's own layers, which the author keeps as
    an attribute.
    """
    stack = list((op.node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return False
    name = stack[-1][1]
    name = name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}"
    return name.startswith("torch.nn.modules.") and name.rpartition(".")[2] in classes


def feature_steps(op: OpCall, rest: Numbers = ()) -> list:
    """Return the steps that bring a weight (features, ``*rest``) to the order in which the layer gives its
    features: the layout pass may have it give those of channels-last maps.
    """
    order = op.node.meta.get("output_order")
    if order is None:
        return []
    sizes, axes = order
    permuted = [*axes, *range(len(sizes), len(sizes) + len(rest))]
    return [
        ["reshape", [*sizes, *rest]],
        ["permute", permuted],
        ["reshape", [math.prod(sizes), *rest]],
    ]
