"""Functions of one tensor, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Constant, Sample, host_numpy, op
from diglot.literals import intended


def _unary(
    name: str,
    function: Callable[[torch.Tensor], torch.Tensor],
    inputs: str = "2,3,5",
    argument: str = "x",
    array: Callable | None = None,
) -> None:
    def run(call: Call, x: Any) -> Any:
        return function(call.tensor(x))

    run.__module__ = __name__
    sample = Sample(lambda r, x: getattr(r, name)(**{argument: x}), (inputs,))
    op(name, samples=(sample,), host=host_numpy(array) if array else None)(run)


for _name, _function, _inputs in (
    ("Abs", torch.abs, "2,3"),
    ("Exp", torch.exp, "2,3"),
    ("Expm1", torch.expm1, "2,3"),
    ("Log", torch.log, "+2,3"),
    ("Log1p", torch.log1p, "+2,3"),
    ("Sqrt", torch.sqrt, "+2,3"),
    ("Rsqrt", torch.rsqrt, "+2,3"),
    ("Square", torch.square, "2,3"),
    ("Reciprocal", torch.reciprocal, "+2,3"),
    ("Inv", torch.reciprocal, "+2,3"),
    ("Sin", torch.sin, "2,3"),
    ("Cos", torch.cos, "2,3"),
    ("Tan", torch.tan, "2,3"),
    ("Sinh", torch.sinh, "2,3"),
    ("Cosh", torch.cosh, "2,3"),
    ("Tanh", torch.tanh, "2,3"),
    ("Atan", torch.atan, "2,3"),
    ("Asinh", torch.asinh, "2,3"),
    ("Erf", torch.erf, "2,3"),
    ("Erfc", torch.erfc, "2,3"),
    ("Erfinv", torch.erfinv, "<2,3"),
    ("Asin", torch.asin, "<2,3"),
    ("Acos", torch.acos, "<2,3"),
    ("Atanh", torch.atanh, "<2,3"),
    ("Acosh", lambda x: torch.acosh(x), ">2,3"),
    ("Lgamma", torch.lgamma, "+2,3"),
    ("Digamma", torch.digamma, "+2,3"),
    ("Sigmoid", torch.sigmoid, "2,3"),
    ("IsFinite", torch.isfinite, "2,3"),
    ("IsInf", torch.isinf, "2,3"),
    ("IsNan", torch.isnan, "2,3"),
    ("ZerosLike", torch.zeros_like, "2,3"),
    ("OnesLike", torch.ones_like, "2,3"),
):
    _unary(
        _name,
        _function,
        _inputs,
        array={"Sqrt": np.sqrt, "Rsqrt": lambda a: 1 / np.sqrt(a), "Square": np.square}.get(_name),
    )

for _name, _function in (
    ("Floor", torch.floor),
    ("Ceil", torch.ceil),
    ("Round", torch.round),
    ("Rint", torch.round),
    ("Sign", torch.sign),
):
    _unary(_name, _function, array={"Floor": np.floor, "Ceil": np.ceil}.get(_name))

for _name, _function in (
    ("Relu", F.relu),
    ("Relu6", F.relu6),
    ("Elu", F.elu),
    ("Selu", F.selu),
    ("Softplus", F.softplus),
    ("Softsign", F.softsign),
):
    _unary(_name, _function, argument="features")


def _neg_host(call: Call, x: Any) -> Any:
    done = host_numpy(np.negative)(call, x)
    if done is not NotImplemented:
        return done
    return [-v for v in x] if isinstance(x, list) else -x


@op("Neg", samples=(Sample(lambda r, x: r.Neg(x=x), ("2,3",)),), host=_neg_host)
def neg(call: Call, x: Any) -> Any:
    return -call.tensor(x)


@op(
    "LeakyRelu",
    samples=(Sample(lambda r, x: r.LeakyRelu(features=x, alpha=0.25), ("2,3",)),),
)
def leaky_relu(call: Call, x: Any) -> Any:
    return F.leaky_relu(call.tensor(x), intended(np.float32(call.attrs["alpha"])))


@op(
    "Softmax",
    samples=(
        Sample(lambda r, x: r.Softmax(logits=x), ("2,3,5",)),
        Sample(lambda r, x: r.Softmax(logits=x), ("2,3",)),
    ),
)
def softmax(call: Call, x: Any) -> Any:
    return F.softmax(call.tensor(x), dim=-1)


@op("LogSoftmax", samples=(Sample(lambda r, x: r.LogSoftmax(logits=x), ("2,3",)),))
def log_softmax(call: Call, x: Any) -> Any:
    return F.log_softmax(call.tensor(x), dim=-1)


def _cast_host(call: Call, x: Any) -> Any:
    target = call.attrs["DstT"]
    array = values.array_of(x)
    if array is not None and target in ("bfloat16", "float16"):
        return NotImplemented
    if array is not None:
        return Constant(array.astype(target))
    return x if target in ("int32", "int64") else NotImplemented


@op(
    "Cast",
    samples=(
        Sample(lambda r, x: r.Cast(x=x, DstT="int32"), ("2,3",)),
        Sample(lambda r, x: r.Cast(x=x, DstT="float32"), ("int64[2,3]<7",)),
        Sample(lambda r, x: r.Cast(x=x, DstT="float32"), ("bool[2,3]",)),
        Sample(lambda r, x: r.Cast(x=x, DstT="bool"), ("int64[2,3]<3",)),
        Sample(lambda r, x: r.Cast(x=x, DstT="float64"), ("2,3",)),
    ),
    host=_cast_host,
)
def cast(call: Call, x: Any) -> Any:
    dtype = call.dtype("DstT")
    if values.is_size(x):
        return values.of_size(x, dtype)
    x = call.tensor(x)
    if dtype.is_complex and x.is_floating_point():  # of the width that is computed in
        return torch.complex(x, torch.zeros_like(x))
    return x if x.dtype == dtype else x.to(dtype)


@op("Bitcast")
def bitcast(call: Call, x: Any) -> Any:
    return call.tensor(x).view(call.dtype("type"))


@op(
    "CheckNumerics",
    "CheckNumericsV2",
    "StopGradient",
    "PreventGradient",
    "Snapshot",
    "Identity",
    "EnsureShape",
    "PlaceholderWithDefault",
    host=lambda call, x: x,
)
def unchanged(call: Call, x: Any) -> Any:
    x = call.tensor(x)
    return x.detach() if call.op == "StopGradient" else x


@op("IdentityN", samples=(Sample(lambda r, x, y: r.IdentityN(input=[x, y])[1], ("2,3", "3")),))
def identity_n(call: Call, *xs: Any) -> Any:
    return tuple(xs)


def _cumulative(name: str, function: Callable) -> None:
    def run(call: Call, x: Any, axis: Any) -> Any:
        x = call.tensor(x)
        dim = values.axes(axis, x.dim())[0]
        reverse, exclusive = call.attrs.get("reverse"), call.attrs.get("exclusive")
        if reverse:
            x = x.flip(dim)
        done = function(x, dim)
        if exclusive:
            first = torch.zeros_like(x) if function is torch.cumsum else torch.ones_like(x)
            done = torch.cat([first.narrow(dim, 0, 1), done.narrow(dim, 0, x.shape[dim] - 1)], dim)
        return done.flip(dim) if reverse else done

    run.__module__ = __name__
    op(
        name,
        samples=(
            Sample(lambda r, x: getattr(r, name)(x=x, axis=-2), ("2,3,5",)),
            Sample(lambda r, x: getattr(r, name)(x=x, axis=1, exclusive=True), ("2,3,5",)),
            Sample(lambda r, x: getattr(r, name)(x=x, axis=1, reverse=True), ("2,3,5",)),
            Sample(
                lambda r, x: getattr(r, name)(x=x, axis=1, reverse=True, exclusive=True), ("2,3",)
            ),
        ),
    )(run)


_cumulative("Cumsum", torch.cumsum)
_cumulative("Cumprod", torch.cumprod)


@op("Conj")
def conj(call: Call, x: Any) -> Any:
    return call.tensor(x).conj().resolve_conj()


@op("Real")
def real(call: Call, x: Any) -> Any:
    return call.tensor(x).real


@op("Imag")
def imag(call: Call, x: Any) -> Any:
    return call.tensor(x).imag


def _search(name: str, right: bool) -> None:
    """Where values belong among those of a sorted row each."""

    def run(call: Call, rows: Any, x: Any) -> Any:
        rows, x = call.tensor(rows), call.tensor(x)
        return torch.searchsorted(rows.contiguous(), x.contiguous(), right=right)

    def build(r: Any, x: Any) -> Any:
        edges = np.float64([[-1.0, 0.0, 0.5], [-0.5, 0.1, 0.9]]).astype(x.dtype.as_numpy_dtype)
        return getattr(r, name)(sorted_inputs=edges, values=x)

    run.__module__ = __name__
    op(name, samples=(Sample(build, ("2,4",), fixed=True),))(run)


_search("LowerBound", right=False)
_search("UpperBound", right=True)


@op("Complex")
def complex_(call: Call, x: Any, y: Any) -> Any:
    return torch.complex(call.tensor(x), call.tensor(y))


@op("ComplexAbs")
def complex_abs(call: Call, x: Any) -> Any:
    return call.tensor(x).abs()


@op("diglot.Gelu", note="made of the chain around erf or tanh that TensorFlow writes")
def gelu(call: Call, x: Any) -> Any:
    return F.gelu(call.tensor(x), approximate=call.attrs["approximate"])


@op("diglot.Silu", note="made of x * sigmoid(x)")
def silu(call: Call, x: Any) -> Any:
    return F.silu(call.tensor(x))


@op("diglot.Normalize", note="made of x * rsqrt(max(sum(x**2), epsilon))")
def normalize(call: Call, x: Any) -> Any:
    return F.normalize(call.tensor(x), dim=call.attrs["axis"], eps=call.attrs["epsilon"])


@op("diglot.Attention", note="made of two products with a softmax between them")
def attention(call: Call, query: Any, key: Any, value: Any, mask: Any = None) -> Any:
    parts = [call.tensor(part) for part in (query, key, value)]
    if call.attrs["turned"]:  # Keras has the heads before the features
        parts = [part.transpose(1, 2) for part in parts]
    added = None if mask is None else call.tensor(mask)
    if added is not None and call.attrs["chosen"]:
        # A row that looks at nothing has the same weights everywhere, and its query no gradient.
        blind = ~added.any(dim=-1, keepdim=True)
        parts[0], added = parts[0].masked_fill(blind, 0.0), added | blind
    options = {"scale": call.attrs["scale"], "is_causal": call.attrs["causal"]}
    y = F.scaled_dot_product_attention(*parts, attn_mask=added, **options)
    return y.transpose(1, 2) if call.attrs["turned"] else y
