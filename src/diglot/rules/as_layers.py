"""Functions that Keras has layers for as well, which a ``keras.Sequential`` takes in their place."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import call
from diglot.ir.sizes import is_static

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_END = 1 << 60  # torch.export's end of a slice without one


def global_pooling(kind: str) -> Callable[[OpCall], ast.expr]:
    """``layers.GlobalAveragePooling2D()`` for a reduction over all axes between batch and channels."""

    def layer(op: OpCall) -> ast.expr:
        rank = op.fake("self").dim()
        axes = op.axes(op.get("dim"))
        axes = [axes] if isinstance(axes, int) else list(axes or ())
        floats = (
            op.fake("self").dtype.is_floating_point and op.fake().dtype is op.fake("self").dtype
        )
        if not floats or sorted(a % rank for a in axes) != [*range(1, rank - 1)] or rank > 5:
            raise op.refuse("Keras has no layer that reduces other axes than those of space")
        options = {"keepdims": True} if op.get("keepdim", False) else {}
        return call(f"layers.Global{kind}Pooling{rank - 2}D", **options)

    return layer


def times(op: OpCall) -> ast.expr:
    """``layers.Rescaling(0.1)``."""
    return call("layers.Rescaling", _number(op))


def plus(op: OpCall) -> ast.expr:
    """``layers.Rescaling(1.0, offset=2.0)``."""
    return call("layers.Rescaling", 1.0, offset=_number(op) * op.get("alpha", 1))


def _number(op: OpCall) -> float:
    other = op["other"]
    if not isinstance(other, (int, float)) or not op.fake("self").dtype.is_floating_point:
        raise op.refuse("Keras has a layer for a number alone")
    return float(other)


def cropping(op: OpCall) -> ast.expr:
    """``layers.Cropping2D(((0, 1), (0, 0)))``."""
    rank = op.fake("self").dim()
    axis = op.axis(op.get("dim", 0)) % rank
    size, start, end = op.shape("self")[axis], op.get("start"), op.get("end")
    start, end = start or 0, _END if end is None else end
    known = isinstance(start, int) and isinstance(end, int) and op.get("step", 1) == 1
    if not known or not 0 < axis < rank - 1 or rank > 5 or start < 0:
        raise op.refuse("Keras has no layer for this slice")
    if end >= _END:
        last = 0
    elif end < 0:
        last = -end
    elif is_static(size):
        last = max(int(size) - end, 0)
    else:
        raise op.refuse("Keras crops an axis by how much is left out, which is not known")
    widths = [(0, 0)] * (rank - 2)
    widths[axis - 1] = (start, last)
    return call(f"layers.Cropping{rank - 2}D", widths[0] if rank == 3 else tuple(widths))


def permute(op: OpCall, dims: list[int]) -> ast.expr:
    """``layers.Permute((2, 1))``."""
    if dims[0] != 0:
        raise op.refuse("Keras has no layer that moves the batch")
    return call("layers.Permute", tuple(dims[1:]))


def joined(first: ast.expr, second: ast.expr) -> ast.expr | None:
    """Return one layer for two that are parts of it: a scale and an offset, croppings of two axes."""
    a, b = _parts(first), _parts(second)
    if a is None or b is None or a[0] != b[0]:
        return None
    (name, given, named), (_, more, also) = a, b
    if name == "Rescaling":
        if named or more != [1.0] or not also:
            return None
        return call("layers.Rescaling", *given, **also)
    if name.startswith("Cropping") and len(given) == len(more) == 1:
        pairs = zip(given[0], more[0], strict=True)
        if name == "Cropping1D":
            return call(f"layers.{name}", tuple(x + y for x, y in pairs))
        return call(f"layers.{name}", tuple((x[0] + y[0], x[1] + y[1]) for x, y in pairs))
    return None


def _parts(layer: ast.expr) -> tuple[str, list[Any], dict[str, Any]] | None:
    """The class of a layer, and its arguments where all of them are constants."""
    if not (isinstance(layer, ast.Call) and isinstance(layer.func, ast.Attribute)):
        return None
    try:
        given = [ast.literal_eval(a) for a in layer.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in layer.keywords}
    except ValueError:
        return None
    return layer.func.attr, given, named


__all__ = ["cropping", "global_pooling", "joined", "permute", "plus", "times"]
