"""Functions of one tensor, element by element."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.rules.forms import operand
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}

#: ATen's name, the name in keras.ops, and a sample argument inside the function's domain.
_SAME = (
    ("abs", "abs", "x"),
    ("acos", "arccos", "x.sigmoid()"),
    ("acosh", "arccosh", "x.exp() + 1.5"),
    ("asin", "arcsin", "x.sigmoid()"),
    ("asinh", "arcsinh", "x"),
    ("atan", "arctan", "x"),
    ("atanh", "arctanh", "0.9 * x.sigmoid()"),
    ("ceil", "ceil", "3 * x"),
    ("cos", "cos", "x"),
    ("cosh", "cosh", "x"),
    ("erf", "erf", "x"),
    ("erfc", "erfc", "x"),
    ("exp", "exp", "x"),
    ("expm1", "expm1", "x"),
    ("floor", "floor", "3 * x"),
    ("isfinite", "isfinite", "x.log()"),
    ("isinf", "isinf", "x / 0"),
    ("isnan", "isnan", "x.log()"),
    ("log", "log", "x.exp() + 1.5"),
    ("log10", "log10", "x.exp() + 1.5"),
    ("log1p", "log1p", "x.exp()"),
    ("log2", "log2", "x.exp() + 1.5"),
    ("round", "round", "3 * x"),
    ("sigmoid", "sigmoid", "x"),
    ("sign", "sign", "x"),
    ("sgn", "sign", "x"),
    ("sin", "sin", "x"),
    ("sinh", "sinh", "x"),
    ("sqrt", "sqrt", "x.exp()"),
    ("rsqrt", "rsqrt", "x.exp()"),
    ("square", "square", "x"),
    ("tan", "tan", "x"),
    ("tanh", "tanh", "x"),
    ("trunc", "trunc", "3 * x"),
)

_LAYERS = {"sigmoid", "tanh", "exp", "square"}
_NOUNS = {"isnan": "mask", "isinf": "mask", "isfinite": "mask"}


def _float_function(name: str):
    """A function that turns integers into floats, as PyTorch does."""

    def emit(op: OpCall) -> ast.expr:
        return op.ops(name, operand(op, "self", op.fake().dtype))

    return emit


def _rule(aten: str, keras: str, argument: str) -> Rule:
    keeps_dtype = (
        aten in ("abs", "ceil", "floor", "round", "sign", "sgn", "square", "trunc")
        or aten in _NOUNS
    )
    layer = f'layers.Activation("{keras}")' if aten in ("sigmoid", "tanh") else None
    samples = [Sample(f"torch.{aten}({argument})", _X)]
    if aten in ("sigmoid", "tanh", "sqrt", "exp"):
        samples.append(Sample(f"torch.{aten}(x)", {"x": "int64[2,3]<7"}))
        samples.append(Sample(f"torch.{aten}({argument})", {"x": "2,3,4,5"}, channels_last=True))
    return Rule(
        f"aten.{aten}.default",
        f"ops.{keras}(self)" if keeps_dtype else _float_function(keras),
        torch=f"torch.{aten}(x)",
        layer=layer,
        noun=_NOUNS.get(aten, "x"),
        samples=tuple(samples),
    )


def _reciprocal(op: OpCall) -> ast.expr:
    return E("1.0 / x", x=operand(op, "self", op.fake().dtype))


def _clamp(op: OpCall) -> ast.expr:
    """``ops.clip``, or one of ``ops.maximum`` and ``ops.minimum`` where a bound is missing."""
    dtype = op.fake().dtype
    x = operand(op, "self", dtype)
    low = operand(op, "min", dtype) if op.get("min") is not None else None
    high = operand(op, "max", dtype) if op.get("max") is not None else None
    if low is None:
        return op.ops("minimum", x, high)
    if high is None:
        return op.ops("maximum", x, low)
    if op.is_tensor("min") or op.is_tensor("max"):
        return E("ops.minimum(ops.maximum(x, low), high)", x=x, low=low, high=high)
    return op.ops("clip", x, low, high)


def _nan_to_num(op: OpCall) -> ast.expr:
    given = {k: op[k] for k in ("nan", "posinf", "neginf") if op.get(k) is not None}
    if given.get("nan") == 0.0:
        del given["nan"]
    return op.ops("nan_to_num", op.expr("self"), **given)


def _round_decimals(op: OpCall) -> ast.expr:
    factor = 10.0 ** abs(op["decimals"])
    if op["decimals"] < 0:
        return E("ops.round(x / f) * f", x=op.expr("self"), f=factor)
    return E("ops.round(x * f) / f", x=op.expr("self"), f=factor)


def _frac(op: OpCall) -> ast.expr:
    x = op.variable("self")
    return E("x - ops.trunc(x)", x=x)


def _logit(op: OpCall) -> ast.expr:
    eps = op.get("eps")
    if eps is not None:
        raise op.refuse(
            "logit that clamps its input (eps=…) has no rule; write torch.clamp and torch.log"
        )
    return E("ops.log(x / (1.0 - x))", x=op.variable("self"))


def _heaviside(op: OpCall) -> ast.expr:
    return op.ops("heaviside", op.expr("self"), op.expr("values"))


register(__name__, *(_rule(*row) for row in _SAME))
register(
    __name__,
    Rule("aten.neg.default", "-self", torch="-x", noun="x", samples=(Sample("-x", _X),)),
    Rule(
        "aten.detach.default",
        "ops.stop_gradient(self)",
        torch="x.detach()",
        noun="x",
        samples=(Sample("x + (torch.round(x) - x).detach()", _X), Sample("x * x.detach()", _X)),
    ),
    Rule(
        "aten.reciprocal.default",
        _reciprocal,
        torch="1 / x",
        noun="x",
        samples=(
            Sample("torch.reciprocal(x.exp())", _X),
            Sample("torch.reciprocal(x + 1)", {"x": "int64[2,3]<7"}),
        ),
    ),
    Rule(
        "aten.exp2.default",
        lambda op: E("2.0 ** x", x=operand(op, "self", op.fake().dtype)),
        torch="torch.exp2(x)",
        noun="x",
        samples=(Sample("torch.exp2(x)", _X),),
    ),
    Rule(
        "aten.erfinv.default",
        "ops.erfinv(self)",
        torch="torch.erfinv(x)",
        noun="x",
        samples=(Sample("torch.erfinv(x.tanh() * 0.9)", _X),),
    ),
    Rule(
        "aten.frac.default",
        _frac,
        torch="torch.frac(x)",
        noun="x",
        samples=(Sample("torch.frac(3 * x)", _X),),
    ),
    Rule(
        "aten.logit.default",
        _logit,
        torch="torch.logit(x)",
        noun="x",
        samples=(Sample("torch.logit(x.sigmoid())", _X),),
    ),
    Rule(
        "aten.special_expit.default",
        "ops.sigmoid(self)",
        torch="torch.special.expit(x)",
        noun="x",
        samples=(Sample("torch.special.expit(x)", _X),),
    ),
    Rule(
        "aten.heaviside.default",
        _heaviside,
        torch="torch.heaviside(x, y)",
        noun="x",
        samples=(Sample("torch.heaviside(x, y)", {"x": "2,3", "y": "2,3"}),),
    ),
    Rule(
        "aten.round.decimals",
        _round_decimals,
        torch="torch.round(x, decimals=2)",
        noun="x",
        samples=(
            Sample("torch.round(x, decimals=2)", _X),
            Sample("torch.round(90 * x, decimals=-1)", _X),
        ),
    ),
    Rule(
        "aten.deg2rad.default",
        "ops.deg2rad(self)",
        torch="torch.deg2rad(x)",
        noun="x",
        samples=(Sample("torch.deg2rad(x)", _X),),
    ),
    Rule(
        "aten.sinc.default",
        "ops.sinc(self)",
        torch="torch.sinc(x)",
        noun="x",
        samples=(Sample("torch.sinc(x)", _X),),
    ),
    Rule(
        "aten.clamp.default",
        _clamp,
        torch="torch.clamp(x, 0.0, 1.0)",
        noun="x",
        samples=(
            Sample("torch.clamp(x, -0.3, 0.7)", _X),
            Sample("torch.clamp(x, min=0.1)", _X),
            Sample("torch.clamp(x, max=0.1)", _X),
            Sample("torch.clamp(x, 1, 4)", {"x": "int64[2,3]<7"}),
            Sample("torch.clamp(x, 0.3, 0.7)", {"x": "2,3,4,5"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.clamp.Tensor",
        _clamp,
        torch="torch.clamp(x, y, z)",
        noun="x",
        samples=(
            Sample("torch.clamp(x, -y.abs(), y.abs())", {"x": "2,3", "y": "2,3"}),
            Sample("torch.clamp(x, max=y)", {"x": "2,3", "y": "2,3"}),
        ),
    ),
    Rule(
        "aten.clamp_min.default",
        _clamp,
        torch="torch.clamp_min(x, 0)",
        noun="x",
        samples=(Sample("torch.clamp_min(x, 0.1)", _X),),
    ),
    Rule(
        "aten.clamp_max.default",
        _clamp,
        torch="torch.clamp_max(x, 0)",
        noun="x",
        samples=(Sample("torch.clamp_max(x, 0.1)", _X),),
    ),
    Rule(
        "aten.clip.default",
        _clamp,
        torch="torch.clip(x, 0, 1)",
        noun="x",
        samples=(Sample("torch.clip(x, -0.1, 0.4)", _X),),
    ),
    Rule(
        "aten.nan_to_num.default",
        _nan_to_num,
        torch="torch.nan_to_num(x)",
        noun="x",
        samples=(
            Sample("torch.nan_to_num(x.log())", _X),
            Sample("torch.nan_to_num(x.log(), nan=1.5)", _X),
            Sample("torch.nan_to_num(x / 0, 0.0, 2.0, -3.0)", _X),
        ),
    ),
)
