"""Resizing images, and moving pixels between channels and positions."""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.sizes import is_static
from diglot.rules.arguments import brief, is_leaf, spatial_rank
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _first(op: OpCall) -> str:
    return "input" if "input" in op.args else "self"


def _rank(op: OpCall) -> int:
    rank = int(op.rule.op.split(".")[1][-2])
    spatial_rank(op, _first(op), rank)
    return rank


def _factors(op: OpCall) -> tuple[int, ...] | None:
    """Return whole factors by which every axis grows, for any input size, or ``None``."""
    before, after = op.logical_shape(_first(op))[2:], op.logical_shape()[2:]
    factors = []
    for small, large in zip(before, after, strict=True):
        factor = Fraction(large, small) if is_static(small) and is_static(large) else large / small
        number = factor if isinstance(factor, Fraction) else getattr(factor, "is_number", False)
        whole = int(factor) if number else 0
        if whole < 1 or whole != factor:
            return None
        factors.append(whole)
    return tuple(factors)


def _scales(op: OpCall) -> list[float] | None:
    """Return input cells for each output cell, where the author gave factors instead of a size."""
    given = op.args.get("scale_factors")
    if given is None:
        named = [op.args.get(n) for n in ("scales_d", "scales_h", "scales_w", "scales")]
        given = [n for n in named if n is not None] or None
    if given is None:
        return None
    if not all(isinstance(s, (int, float)) for s in given):
        raise op.refuse("its scale factor is only known while the model runs")
    return [1.0 / s for s in given]


def _sizes(op: OpCall) -> ast.expr:
    """Return the result's spatial sizes as a tuple expression.

    Raises a refusal where a factor such as 1.7 is applied to a dynamic size: it is no fraction that
    a size could
    be multiplied by exactly.
    """
    before, after = op.logical_shape(_first(op))[2:], op.logical_shape()[2:]
    factors = op.args.get("scale_factors") or [None] * len(after)
    sizes = []
    for small, large, factor in zip(before, after, factors, strict=True):
        if is_static(large) or factor is None:
            sizes.append(op.size(large))
            continue
        exact = Fraction(factor)
        if exact.denominator > 64:
            raise op.refuse(f"a size that is not fixed, times {factor}; give the size itself")
        size = op.size(small)
        if exact.numerator != 1:
            size = E("n * f", n=size, f=exact.numerator)
        sizes.append(E("n // f", n=size, f=exact.denominator) if exact.denominator > 1 else size)
    return ast.Tuple(sizes, ast.Load())


def _options(op: OpCall, **more: Any) -> dict[str, Any]:
    scales = None if op.args.get("align_corners") else _scales(op)
    before, after = op.logical_shape(_first(op))[2:], op.logical_shape()[2:]
    if scales is not None and _factors(op) is None:
        implied = [
            b / a if is_static(b) and is_static(a) else None
            for b, a in zip(before, after, strict=True)
        ]
        if list(scales) != implied:
            more["scales"] = tuple(scales)
    if op.args.get("align_corners"):
        more["align_corners"] = True
    return more


def _nearest_layer(op: OpCall) -> ast.expr:
    rank, factors = _rank(op), _factors(op)
    if factors is None:
        raise op.refuse("Keras has no layer for it")
    return call(f"layers.UpSampling{rank}D", brief(factors))


def _nearest(op: OpCall) -> ast.expr:
    factors = _factors(op)
    rank = _rank(op)
    x = op.expr(_first(op))
    if factors is None:
        exact = {"exact": True} if "exact" in op.rule.op else {}
        return call(op.helper("resize_nearest"), x, _sizes(op), **_options(op, **exact))
    if is_leaf(op, "Upsample", "UpsamplingNearest2d"):
        return E("layer(x)", layer=op.layer(_nearest_layer(op)), x=x)
    for axis in range(rank):
        if factors[axis] > 1:
            x = op.ops("repeat", x, factors[axis], axis=axis + 1)
    return x


def _linear(op: OpCall) -> ast.expr:
    _rank(op)
    x = op.expr(_first(op))
    return call(op.helper("resize_linear"), x, _sizes(op), **_options(op))


def _cubic(op: OpCall) -> ast.expr:
    _rank(op)
    x = op.expr(_first(op))
    return call(op.helper("resize_cubic"), x, _sizes(op), **_options(op))


def _antialiased(op: OpCall) -> ast.expr:
    raise op.refuse("antialiased resizing; without antialias=True it can be translated")


def _shuffle(name: str, argument: str) -> Any:
    def emit(op: OpCall) -> ast.expr:
        if name != "channel_shuffle":
            spatial_rank(op, "self", 2)
        return E("f(x, n)", f=op.helper(name), x=op.expr("self"), n=to_ast(op[argument]))

    return emit


# --- rules ---------------------------------------------------------------------------------------

_SIZE = {1: "2,3,5", 2: "2,3,5,7", 3: "2,3,4,5,6"}
_LARGER = {1: "13", 2: "(13, 10)", 3: "(7, 10, 6)"}


def _samples(rank: int, mode: str) -> tuple[Sample, ...]:
    x = {"x": _SIZE[rank]}
    corners = mode.endswith(("linear", "cubic"))
    more = (
        (f"F.interpolate(x, scale_factor=2.0, mode='{mode}', align_corners=True)",)
        if corners
        else ()
    )
    calls = (
        f"F.interpolate(x, scale_factor=2, mode='{mode}')",
        f"F.interpolate(x, size={_LARGER[rank]}, mode='{mode}')",
        f"F.interpolate(x, scale_factor=1.7, mode='{mode}')",
        f"F.interpolate(x, scale_factor=0.5, mode='{mode}')",
        *more,
    )
    module = Sample("m(x)", x, f"nn.Upsample(scale_factor=3, mode='{mode}')")
    return (*(Sample(c, x) for c in calls), module)


def _rules(rank: int) -> list[Rule]:
    fields: dict[str, Any] = {"layout": "spatial", "noun": "resized"}
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    base = f"upsample_nearest{rank}d"
    made = []
    for suffix in ("vec", "default"):
        first = suffix == "vec"
        made += [
            Rule(
                f"aten.{base}.{suffix}",
                _nearest,
                torch="F.interpolate(x, scale_factor=2)",
                layer=_nearest_layer,
                topic="Nearest resize" if first and rank == 2 else "",
                note="PyTorch takes floor(i * scale), TensorFlow counts from the middle of a cell."
                if first and rank == 2
                else "",
                samples=_samples(rank, "nearest") if first else (),
                **fields,
            ),
            Rule(
                f"aten._upsample_nearest_exact{rank}d.{suffix}",
                _nearest,
                torch="F.interpolate(x, scale_factor=2, mode='nearest-exact')",
                layer=_nearest_layer,
                samples=_samples(rank, "nearest-exact") if first else (),
                **fields,
            ),
            Rule(
                f"aten.upsample_{linear}{rank}d.{suffix}",
                _linear,
                torch=f"F.interpolate(x, scale_factor=2, mode='{linear}')",
                samples=_samples(rank, linear) if first else (),
                **fields,
            ),
        ]
    return made


def _cubic_rules() -> list[Rule]:
    fields: dict[str, Any] = {"layout": "spatial", "noun": "resized"}
    torch = "F.interpolate(x, scale_factor=2, mode='bicubic')"
    made = [
        Rule(
            f"aten.upsample_bicubic2d.{suffix}",
            _cubic,
            torch=torch,
            topic="Bicubic resize" if suffix == "vec" else "",
            note="PyTorch's cubic has a = -0.75, Keras's a = -0.5: the model carries its own."
            if suffix == "vec"
            else "",
            samples=_samples(2, "bicubic") if suffix == "vec" else (),
            **fields,
        )
        for suffix in ("vec", "default")
    ]
    for op in ("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"):
        spelling = {**fields, "torch": "F.interpolate(x, size, antialias=True)"}
        made += [Rule(f"aten.{op}.{s}", _antialiased, **spelling) for s in ("vec", "default")]
    return made


register(
    __name__,
    *(rule for rank in (1, 2, 3) for rule in _rules(rank)),
    *_cubic_rules(),
    Rule(
        "aten.pixel_shuffle.default",
        _shuffle("pixel_shuffle", "upscale_factor"),
        torch="nn.PixelShuffle(2)",
        layout="spatial",
        noun="image",
        samples=(Sample("m(x)", {"x": "2,12,3,5"}, "nn.PixelShuffle(2)"),),
    ),
    Rule(
        "aten.pixel_unshuffle.default",
        _shuffle("pixel_unshuffle", "downscale_factor"),
        torch="nn.PixelUnshuffle(2)",
        layout="spatial",
        noun="image",
        samples=(Sample("m(x)", {"x": "2,3,4,6"}, "nn.PixelUnshuffle(2)"),),
    ),
    *(
        Rule(
            f"aten.{op}.default",
            _shuffle("channel_shuffle", "groups"),
            torch="nn.ChannelShuffle(2)",
            layout="spatial",
            noun="shuffled",
            # PyTorch has no gradient for the native form: only the other can be compared
            samples=(Sample(f"torch.ops.aten.{op}(x, 2)", {"x": "2,6,4,5"}),) * (op[0] == "c"),
        )
        for op in ("channel_shuffle", "native_channel_shuffle")
    ),
)
