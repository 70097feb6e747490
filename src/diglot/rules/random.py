"""Random numbers: noise of the same distribution, which a proof compares at one fixed value."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import call, to_ast
from diglot.ir.hub import target_name
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}


def _shape(op: OpCall) -> ast.expr:
    """The result's shape: an argument's of the same shape, or its sizes."""
    same = "self" in op.args and op.is_tensor("self") and op.shape("self") == op.shape()
    if same and ".empty" not in target_name(op["self"]).replace("new_", ""):
        return op.ops("shape", op.expr("self"))
    return op.shape_ast(op.shape(), minus_one=False)


def _draw(op: OpCall, kind: str, **options: Any) -> ast.expr:
    """``keras.random.normal(shape, seed=self.seed_generator)``."""
    if op.writer.in_graph:
        raise op.refuse(
            "random numbers need a layer that keeps their seed; translate with style='layers'"
        )
    dtype = op.fake().dtype
    own = dtype is op.writer.program.float_dtype
    # One generator serves every draw of a layer.
    seed = op.layer(call("keras.random.SeedGenerator"), default="seed", suffix="generator")
    return call(
        f"keras.random.{kind}",
        _shape(op),
        **options,
        dtype=... if own else op.dtype_ast(dtype),
        seed=seed,
    )


def _normal(op: OpCall) -> ast.expr:
    return _draw(op, "normal", **_given(op, {"mean": ("mean", 0.0), "stddev": ("std", 1.0)}))


def _uniform(op: OpCall) -> ast.expr:
    return _draw(op, "uniform", **_given(op, {"minval": ("from", 0.0), "maxval": ("to", 1.0)}))


def _given(op: OpCall, names: dict[str, tuple[str, float]]) -> dict[str, Any]:
    """The parameters of a distribution, save for those that are Keras's default."""
    found = {}
    for ours, (theirs, default) in names.items():
        value = op.get(theirs, default)
        if not isinstance(value, (int, float)):
            raise op.refuse(f"its {theirs} is only known while the model runs")
        found[ours] = ... if value == default else float(value)
    return found


def _normal_of(op: OpCall) -> ast.expr:
    """``torch.normal(mean, std)`` of tensors: standard noise, scaled and moved; no gradient flows through."""
    made = _draw(op, "normal")
    for name, operator in (("std", ast.Mult()), ("mean", ast.Add())):
        made = ast.BinOp(made, operator, op.expr(name))
    return op.ops("stop_gradient", made)


_REFUSED = (
    "it draws random numbers, and the two frameworks cannot draw the same ones; "
    "pass the noise to the model as an input"
)
_NOTE = (
    "Each framework draws its own random numbers: they are of one distribution, and compared "
    "with every draw at the same fixed value."
)


def _drawn(
    name: str, keras: Any, spelling: str, samples: tuple[Sample, ...] = (), **fields: Any
) -> Rule:
    return Rule(f"aten.{name}", keras, torch=spelling, noun="noise", topic="Random numbers",
                note=_NOTE, samples=samples, **{"layout": "source", **fields})  # fmt: skip


def _refused(name: str, spelling: str, sample: str, layout: str = "source") -> Rule:
    return Rule(f"aten.{name}", lambda op: to_ast(None), torch=spelling, layout=layout, refuse=lambda op: _REFUSED,
                topic="Randomness", note="Random choices inside a model are refused; noise and dropout are translated.",
                samples=(Sample(sample, _X),))  # fmt: skip


_IMAGE = {"x": "2,6,4,5"}

register(
    __name__,
    _drawn(
        "rand.default",
        _uniform,
        "torch.rand(2, 3)",
        (Sample("x * torch.rand(3, 5)", _X), Sample("x * torch.rand(x.shape[0], 1, 1)", _X)),
    ),
    _drawn(
        "randn.default",
        _normal,
        "torch.randn(2, 3)",
        (Sample("x * torch.randn(3, 5)", _X), Sample("x * torch.randn(x.shape)", _X)),
    ),
    _drawn(
        "rand_like.default",
        _uniform,
        "torch.rand_like(x)",
        (Sample("x * torch.rand_like(x)", _X),),
        layout="elementwise",
    ),
    _drawn(
        "randn_like.default",
        _normal,
        "torch.randn_like(x)",
        (
            Sample("x + torch.randn_like(x) * x", _X),
            Sample("x * torch.randn_like(x)", _IMAGE, channels_last=True),
        ),
        layout="elementwise",
    ),
    _drawn(
        "normal_functional.default",
        _normal,
        "torch.empty_like(x).normal_(mean, std)",
        (
            Sample("x * torch.empty_like(x).normal_(2, 0.5)", _X),
            Sample("x * x.data.new(x.size()).normal_()", _X),
        ),
        layout="elementwise",
    ),
    _drawn(
        "uniform.default",
        _uniform,
        "torch.empty_like(x).uniform_(low, high)",
        (Sample("x * torch.empty_like(x).uniform_(-1, 3)", _X),),
        layout="elementwise",
    ),
    *(
        _drawn(f"normal.{kind}", _normal_of, spelling, (Sample(sample, _X),), layout="elementwise")
        for kind, spelling, sample in (
            ("Tensor_Tensor", "torch.normal(mean, std)", "x * torch.normal(x, x.exp())"),
            ("Tensor_float", "torch.normal(mean, 2.0)", "x * torch.normal(x, 2.0)"),
        )
    ),
    _refused("randint.default", "torch.randint(7, (2, 3))", "x + torch.randint(7, (3, 5))"),
    _refused("randint.low", "torch.randint(1, 7, (2, 3))", "x + torch.randint(1, 7, (3, 5))"),
    _refused("randperm.default", "torch.randperm(5)", "x[..., torch.randperm(5)]"),
    _refused(
        "bernoulli.default", "torch.bernoulli(p)", "torch.bernoulli(x.sigmoid())", "elementwise"
    ),
    _refused(
        "bernoulli.p",
        "torch.bernoulli(x, 0.5)",
        "torch.ops.aten.bernoulli.p(x, 0.5)",
        "elementwise",
    ),
    _refused(
        "multinomial.default",
        "torch.multinomial(p, 1)",
        "torch.multinomial(x[0].exp(), 1)",
        "logical",
    ),
)
