"""Pooling. PyTorch pads maxima with minus infinity and means with zeros that count; Keras's "same"
does neither.
"""

from __future__ import annotations

import ast
import dataclasses
import operator
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static
from diglot.ir.windows import is_same
from diglot.rules.arguments import (
    Numbers,
    brief,
    is_leaf,
    numbers,
    pad_spatial,
    spatial_rank,
    unless,
)
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


@dataclasses.dataclass
class _Pool:
    """A pooling window in the target's terms."""

    rank: int
    kernel: Numbers
    stride: Numbers
    before: Numbers
    after: Numbers
    extra: Numbers  # of ``after``, what ceil_mode adds

    @property
    def padded(self) -> bool:
        return any(self.before) or any(self.after)


def _pool(op: OpCall) -> _Pool:
    """Read the arguments. Raises a refusal for what depends on the input's size."""
    rank = op.fake("self").dim() - 2
    name = op.rule.op
    expected = next(int(d) for d in name if d.isdigit())
    spatial_rank(op, "self", expected)
    kernel = numbers(op, "kernel_size", rank)
    stride = numbers(op, "stride", rank, kernel)
    padding = numbers(op, "padding", rank)
    if any(d != 1 for d in numbers(op, "dilation", rank, 1)) if "dilation" in op.args else False:
        raise op.refuse("a dilated window; Keras has none")
    extra = (0,) * rank
    if op["ceil_mode"]:
        sizes = op.logical_shape("self")[2:]
        extra = tuple(_ceil(op, *each) for each in zip(sizes, kernel, stride, padding, strict=True))
    after = tuple(p + e for p, e in zip(padding, extra, strict=True))
    return _Pool(rank, kernel, stride, padding, after, extra)


def _ceil(op: OpCall, size: object, kernel: int, stride: int, padding: int) -> int:
    """Return the padding behind that turns rounding down into rounding up.

    ``stride - 1`` more does it for every size, unless a window could then start behind the input,
    which PyTorch
    drops; for a fixed size the exact need is known.
    """
    if is_static(size):
        span = size + 2 * padding - kernel
        count = -(-span // stride) + 1
        if (count - 1) * stride >= size + padding:
            count -= 1
        return max((count - 1) * stride - span, 0)
    if stride > kernel - padding:
        raise op.refuse(
            "ceil_mode with this stride depends on the input's size; give it a fixed size"
        )
    return stride - 1


# --- maximum -------------------------------------------------------------------------------------


def _is_same(op: OpCall, p: _Pool) -> bool:
    """Tell whether Keras's "same" pads alike for every size, or for the only one."""
    sizes = op.logical_shape("self")[2:]
    axes = zip(sizes, p.kernel, p.stride, p.before, p.after, strict=True)
    return all(is_same(*axis) for axis in axes)


def _max_layer(op: OpCall) -> ast.expr:
    p = _pool(op)
    same = p.padded and _is_same(op, p)
    if p.rank == 3:
        raise op.refuse("it is not one layer")
    if p.padded and not same:
        name = op.helper("PaddedMaxPooling")
        return call(name, p.kernel, strides=p.stride, before=p.before, after=p.after)
    return call(
        f"layers.MaxPooling{p.rank}D",
        brief(p.kernel),
        strides=unless(brief(p.stride), brief(p.kernel)),
        padding="same" if same else ...,
    )


def _max(op: OpCall) -> ast.expr:
    from diglot.ir.signs import is_never_negative

    p = _pool(op)
    x = op.expr("self")
    same = p.padded and _is_same(op, p) and p.rank < 3
    if p.padded and not same and is_never_negative(op.node.args[0]):
        x = _zeros_around(op, p, x)  # no maximum is below the padding's zeros
    elif p.padded and not same:
        if p.rank < 3 and getattr(
            op.writer, "plain", False
        ):  # in a Sequential everything is a layer
            return E("layer(x)", layer=op.layer(_max_layer(op)), x=x)
        x = pad_spatial(x, p.before, p.after, float("-inf"))
    return _pooled(op, p, "max", x, same)


def _zeros_around(op: OpCall, p: _Pool, x: ast.expr) -> ast.expr:
    """A layer where the pooling is one, too."""
    if p.rank == 3 or not is_leaf(op, f"MaxPool{p.rank}d"):
        return pad_spatial(x, p.before, p.after)
    widths: Any = brief(p.before)
    if p.before != p.after:
        widths = tuple(zip(p.before, p.after, strict=True)) if p.rank > 1 else (*p.before, *p.after)
    pad = call(f"layers.ZeroPadding{p.rank}D", widths)
    return E("pad(x)", pad=op.layer(pad, suffix="pad"), x=x)


def _pooled(op: OpCall, p: _Pool, kind: str, x: ast.expr, same: bool = False) -> ast.expr:
    """The author's layer where there is one, else a function."""
    padding = "same" if same else ...
    strides = unless(brief(p.stride), brief(p.kernel))
    if p.rank == 3:
        return _pool_3d(op, kind, x, p.kernel, p.stride)
    if is_leaf(op, f"MaxPool{p.rank}d", f"AvgPool{p.rank}d"):
        long = {"max": "Max", "average": "Average"}[kind]
        construct = call(
            f"layers.{long}Pooling{p.rank}D", brief(p.kernel), strides=strides, padding=padding
        )
        stands = not op.args.get("divisor_override")  # else a factor follows
        return E("layer(x)", layer=op.layer(construct, stands=stands), x=x)
    return op.ops(f"{kind}_pool", x, brief(p.kernel), strides=strides, padding=padding)


def _pool_3d(op: OpCall, kind: str, x: ast.expr, kernel: Numbers, stride: Numbers) -> ast.expr:
    """TensorFlow pools volumes only in float32 on a CPU; slices first and then depth is the same."""
    return E(
        "f(pool, x, kernel, stride)",
        f=op.helper("pool_3d"),
        pool=E(f"ops.{kind}_pool"),
        x=x,
        kernel=to_ast(kernel),
        stride=to_ast(stride),
    )


def _only_values(op: OpCall) -> None:
    """Refuse where the positions of the maxima are read too."""
    if any(u.target is not operator.getitem or (u.args[1] and u.users) for u in op.node.users):
        raise op.refuse("the positions of the maxima are used; Keras's pooling does not give them")


def _max_with_indices(op: OpCall) -> ast.expr:
    _only_values(op)
    return ast.Tuple([_max(op), ast.Constant(None)], ast.Load())


# --- mean ----------------------------------------------------------------------------------------


def _average_layer(op: OpCall) -> ast.expr:
    p = _pool(op)
    if p.rank == 3 or p.padded or op.args.get("divisor_override"):
        raise op.refuse("it is not one layer")
    return call(
        f"layers.AveragePooling{p.rank}D",
        brief(p.kernel),
        strides=unless(brief(p.stride), brief(p.kernel)),
    )


def _average(op: OpCall) -> ast.expr:
    p = _pool(op)
    x = op.expr("self")
    divisor = op.args.get("divisor_override")
    counted = op["count_include_pad"]
    if p.padded and not divisor and not counted and p.rank < 3 and _is_same(op, p):
        return _pooled(op, p, "average", x, same=True)
    if p.padded and not divisor and not (counted and not any(p.extra)):
        # A window is divided by its cells inside the input (and inside the padding, where that
        # counts).
        return E(
            "f(x, size, strides, before, after, inside)",
            f=op.helper("average_pool"),
            x=x,
            size=to_ast(p.kernel),
            strides=to_ast(p.stride),
            before=to_ast(p.before),
            after=to_ast(p.after),
            inside=to_ast(p.before if counted else (0,) * p.rank),
        )
    if p.padded:
        x = pad_spatial(x, p.before, p.after)
    made = _pooled(op, p, "average", x)
    if divisor:
        cells = 1
        for k in p.kernel:
            cells *= k
        made = E("y * f", y=made, f=cells / divisor)
    return made


# --- adaptive ------------------------------------------------------------------------------------


def _windows(op: OpCall) -> tuple[int, Numbers, list]:
    """Return rank, wanted sizes and present sizes. ``None`` in PyTorch keeps a size: it arrives as
    that size.
    """
    rank = op.fake("self").dim() - 2
    spatial_rank(op, "self", next(int(d) for d in op.rule.op if d.isdigit()))
    return rank, numbers(op, "output_size", rank), list(op.logical_shape("self")[2:])


def _global(op: OpCall, kind: str) -> ast.expr:
    rank = op.fake("self").dim() - 2
    return call(f"layers.Global{kind}Pooling{rank}D", keepdims=True)


def _divides(wanted: Numbers, present: list) -> bool:
    return all(is_static(n) and n % w == 0 for n, w in zip(present, wanted, strict=True))


def _adaptive_average_layer(op: OpCall) -> ast.expr:
    if set(_windows(op)[1]) != {1}:
        raise op.refuse("an adaptive mean of several cells is not one layer")
    return _global(op, "Average")


def _adaptive_average(op: OpCall) -> ast.expr:
    rank, wanted, present = _windows(op)
    x = op.expr("self")
    if set(wanted) == {1}:
        if is_leaf(op, f"AdaptiveAvgPool{rank}d"):
            return E("layer(x)", layer=op.layer(_global(op, "Average")), x=x)
        return op.ops("mean", x, axis=tuple(range(1, rank + 1)), keepdims=True)
    if list(wanted) == present:
        return x
    if _divides(wanted, present):
        size = tuple(n // w for n, w in zip(present, wanted, strict=True))
        if rank == 3:
            return _pool_3d(op, "average", x, size, size)
        return op.ops("average_pool", x, brief(size))
    return E("f(x, size)", f=op.helper("adaptive_average_pool"), x=x, size=to_ast(wanted))


def _adaptive_max(op: OpCall) -> ast.expr:
    _only_values(op)
    return ast.Tuple([_adaptive_max_values(op), ast.Constant(None)], ast.Load())


def _adaptive_max_values(op: OpCall) -> ast.expr:
    rank, wanted, present = _windows(op)
    x = op.expr("self")
    if set(wanted) == {1}:
        if is_leaf(op, f"AdaptiveMaxPool{rank}d"):
            return E("layer(x)", layer=op.layer(_global(op, "Max")), x=x)
        return op.ops("max", x, axis=tuple(range(1, rank + 1)), keepdims=True)
    if list(wanted) == present:
        return x
    if _divides(wanted, present):
        size = tuple(n // w for n, w in zip(present, wanted, strict=True))
        if rank == 3:
            return _pool_3d(op, "max", x, size, size)
        return op.ops("max_pool", x, brief(size))
    if not all(is_static(n) for n in present):
        raise op.refuse("adaptive maxima of an input whose size is not fixed")
    return E("f(x, size)", f=op.helper("adaptive_max_pool"), x=x, size=to_ast(wanted))


# --- as TensorFlow pads ----------------------------------------------------------------------------


def _same_pool(op: OpCall) -> ast.expr:
    """``padding="same"``, whatever the stride (passes/same_padding.py)."""
    kernel, stride = (tuple(int(n) for n in op[name]) for name in ("window", "stride"))
    p = _Pool(
        len(kernel), kernel, stride, (0,) * len(kernel), (0,) * len(kernel), (0,) * len(kernel)
    )
    return _pooled(op, p, op["kind"], op.expr("x"), same=True)


# --- rules ---------------------------------------------------------------------------------------


_SIZE = {1: "2,4,11", 2: "2,4,9,12", 3: "2,4,5,6,7"}


def _samples(rank: int, *calls: str) -> tuple[Sample, ...]:
    x = {"x": _SIZE[rank]}
    return tuple(Sample("m(x)", x, c) if c.startswith("nn.") else Sample(c, x) for c in calls)


_FIELDS: dict[str, Any] = {"layout": "spatial", "noun": "pooled"}
_UNEVEN = {1: "3", 2: "(2, 3)", 3: "(1, 2, 3)"}


def _max_rules(rank: int) -> tuple[Rule, ...]:
    n = f"{rank}d"
    samples = _samples(
        rank,
        f"nn.MaxPool{n}(2)",
        f"nn.MaxPool{n}(3, 2, 1)",
        f"nn.MaxPool{n}(3, 1, 1)",
        f"nn.MaxPool{n}(2, ceil_mode=True)",
        f"nn.MaxPool{n}(3, 2, 1, ceil_mode=True)",
        f"F.max_pool{n}(x, {_UNEVEN[rank]})",
        f"F.max_pool{n}(x, 2, 1)",
        f"F.max_pool{n}(x.relu(), 3, 2, 1, ceil_mode=True)",
    )
    samples += tuple(
        Sample("m(x.relu())", {"x": _SIZE[rank]}, f"nn.MaxPool{n}(3, 2, 1, ceil_mode={ceil})")
        for ceil in (False, True)
    )
    return (
        Rule(
            f"aten.max_pool{n}.default",
            _max,
            torch=f"nn.MaxPool{n}(kernel)",
            layer=_max_layer,
            topic="Max pool padding",
            note="PyTorch pads both sides with minus infinity; the padding is written out (zeros after a ReLU).",
            samples=samples,
            **_FIELDS,
        ),
        Rule(
            f"aten.max_pool{n}_with_indices.default",
            _max_with_indices,
            torch=f"nn.MaxPool{n}(kernel)",
            result=0,
            samples=_samples(rank, f"F.max_pool{n}(x, 3, 2, 1, return_indices=True)[0]"),
            **_FIELDS,
        ),
    )


def _average_rule(rank: int) -> Rule:
    n = f"{rank}d"
    samples = _samples(
        rank,
        f"nn.AvgPool{n}(2)",
        f"nn.AvgPool{n}(3, 2, 1)",
        f"nn.AvgPool{n}(3, 2, 1, count_include_pad=False)",
        f"nn.AvgPool{n}(3, 2, 1, ceil_mode=True)",
        f"nn.AvgPool{n}(2, ceil_mode=True, count_include_pad=False)",
        f"F.avg_pool{n}(x, {_UNEVEN[rank]})",
        *((f"nn.AvgPool{n}(3, 2, 1, divisor_override=5)",) if rank > 1 else ()),
    )
    return Rule(
        f"aten.avg_pool{n}.default",
        _average,
        torch=f"nn.AvgPool{n}(kernel)",
        layer=_average_layer,
        topic="Average pool",
        note="PyTorch counts the zeros of the padding, Keras's padding does not: it is written out.",
        samples=samples,
        **_FIELDS,
    )


def _adaptive_rules(rank: int) -> tuple[Rule, ...]:
    n = f"{rank}d"
    return (
        Rule(
            f"aten.adaptive_avg_pool{n}.default",
            _adaptive_average,
            torch=f"nn.AdaptiveAvgPool{n}(size)",
            layer=_adaptive_average_layer,
            samples=_samples(
                rank,
                f"nn.AdaptiveAvgPool{n}(1)",
                f"F.adaptive_avg_pool{n}(x, 1)",
                f"nn.AdaptiveAvgPool{n}(2)",
                f"nn.AdaptiveAvgPool{n}({_UNEVEN[rank]})",
            ),
            **_FIELDS,
        ),
        Rule(
            f"aten.adaptive_max_pool{n}.default",
            _adaptive_max,
            torch=f"nn.AdaptiveMaxPool{n}(size)",
            result=0,
            samples=_samples(
                rank,
                f"nn.AdaptiveMaxPool{n}(1)",
                f"F.adaptive_max_pool{n}(x, 2)",
                f"nn.AdaptiveMaxPool{n}({_UNEVEN[rank]})",
            ),
            **_FIELDS,
        ),
    )


register(
    __name__,
    Rule(
        "diglot.pool_same.default",
        _same_pool,
        torch="F.max_pool2d(F.pad(x, (0, 1), value=-inf), 3, stride=2)",
        **_FIELDS,
    ),
)
for _rank in (1, 2, 3):
    register(__name__, *_max_rules(_rank), _average_rule(_rank), *_adaptive_rules(_rank))
