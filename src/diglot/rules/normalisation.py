"""Normalisation layers. Every epsilon is given: none of the defaults agree."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.rules.arguments import feature_steps, spatial_rank, unless
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _given(*names: str, op: OpCall) -> list[str]:
    return [n for n in names if op[n] is not None]


def _scale_and_shift(op: OpCall, steps: list | None = None) -> dict[str, Any]:
    """Return the weights gamma and beta, where the op has them."""
    found = {"gamma": op["weight"], "beta": op.args.get("bias")}
    return {name: (node, steps or []) for name, node in found.items() if node is not None}


def _flags(op: OpCall) -> dict[str, Any]:
    return {
        "center": unless(op["bias"] is not None, True),
        "scale": unless(op["weight"] is not None, True),
    }


def _affine(op: OpCall, made: ast.expr) -> ast.expr:
    """Multiply by the weight and add the bias by hand."""
    if op["weight"] is not None:
        made = E("x * w", x=made, w=op.expr("weight"))
    if op.args.get("bias") is not None:
        made = E("x + b", x=made, b=op.expr("bias"))
    return made


# --- batch norm ----------------------------------------------------------------------------------


def _batch_norm(op: OpCall) -> ast.expr:
    statistics = ("running_mean", "running_var")
    given = _given("weight", "bias", *statistics, op=op)
    if op["running_mean"] is None:
        normal = E("f(x, e)", f=op.helper("batch_normalize"), x=op.expr("input"), e=op["eps"])
        return _affine(op, normal)
    if op.is_layer(*given):
        return _batch_norm_layer(op)
    if op["training"]:
        raise op.refuse(
            "its running statistics belong to another module; keep them in the module that uses them"
        )
    normal = E(
        "(x - mean) * ops.rsqrt(var + e)",
        x=op.expr("input"),
        mean=op.expr("running_mean"),
        var=op.expr("running_var"),
        e=op["eps"],
    )
    return _affine(op, normal)


def _batch_norm_layer(op: OpCall) -> ast.expr:
    momentum = round(1.0 - op["momentum"], 12)
    parameters = op.writer.program.hub.parameters
    held = [parameters.get(op[n]) for n in _given("weight", "bias", op=op)]
    trained = any(parameter is None or parameter.trainable for parameter in held)
    if not op["training"] and trained and op.writer.in_graph:
        raise op.refuse(
            "a Functional model trains the statistics of every batch norm whose weights it trains; "
            "translate with style='layers'"
        )
    frozen = not op["training"] and not trained
    construct = call(
        "layers.BatchNormalization",
        momentum=unless(momentum, 0.99),
        epsilon=op["eps"],
        **_flags(op),
        trainable=False if frozen else ...,
    )
    steps = feature_steps(op)
    weights = _scale_and_shift(op, steps)
    weights["moving_mean"] = (op["running_mean"], steps)
    weights["moving_variance"] = (op["running_var"], steps)
    layer = op.layer(construct, weights)
    if op["training"] or frozen:
        return E("layer(x)", layer=layer, x=op.expr("input"))
    return E("layer(x, training=False)", layer=layer, x=op.expr("input"))


# --- layer norm, RMS norm ------------------------------------------------------------------------


def _normalised_axes(op: OpCall) -> tuple[list[int], list | None]:
    """Return the target's axes of the last dimensions, and the steps that bring a weight to their
    order.
    """
    rank, count = op.fake("input").dim(), len(op["normalized_shape"])
    perm = op.perm("input") or tuple(range(rank))
    axes = [i for i, p in enumerate(perm) if p >= rank - count]
    order = [perm[i] - (rank - count) for i in axes]
    steps = None if order == list(range(count)) else [["permute", order]]
    return [a - rank for a in axes], steps


def _turned(op: OpCall, name: str, axes: list[int], steps: list | None) -> ast.expr:
    """Return a raw weight so that it broadcasts against the input from the right."""
    weight = op.expr(name)
    if steps:
        weight = E("ops.transpose(w, order)", w=weight, order=to_ast(tuple(steps[0][1])))
    sizes = op.logical_shape(name)
    order = steps[0][1] if steps else list(range(len(sizes)))
    if axes[-1] != -1 or axes != list(range(-len(axes), 0)):
        shape = [1] * -axes[0]
        for axis, place in zip(axes, order, strict=True):
            shape[axis] = sizes[place]
        weight = E("ops.reshape(w, shape)", w=weight, shape=to_ast(tuple(shape)))
    return weight


def _layer_norm(op: OpCall) -> ast.expr:
    axes, steps = _normalised_axes(op)
    given = _given("weight", "bias", op=op)
    if (given and op.is_layer(*given)) or not given:
        axis = unless(axes[0] if len(axes) == 1 else axes, -1)
        construct = call("layers.LayerNormalization", axis=axis, epsilon=op["eps"], **_flags(op))
        return E(
            "layer(x)",
            layer=op.layer(construct, _scale_and_shift(op, steps or feature_steps(op))),
            x=op.expr("input"),
        )
    normal = E(
        "f(x, axes, e)",
        f=op.helper("layer_normalize"),
        x=op.expr("input"),
        axes=to_ast(tuple(axes)),
        e=op["eps"],
    )
    for name, template in (("weight", "x * w"), ("bias", "x + w")):
        if op[name] is not None:
            normal = E(template, x=normal, w=_turned(op, name, axes, steps))
    return normal


def _rms_norm(op: OpCall) -> ast.expr:
    axes, steps = _normalised_axes(op)
    # Without an epsilon PyTorch takes the smallest step of the type it computes in.
    epsilon = (
        E("float(np.finfo(keras.config.floatx()).eps)") if op["eps"] is None else to_ast(op["eps"])
    )
    if op["weight"] is not None and op.is_layer("weight"):
        axis = unless(axes[0] if len(axes) == 1 else axes, -1)
        construct = call("layers.RMSNormalization", axis=axis, epsilon=epsilon)
        weights = {"scale": (op["weight"], steps or [])}
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    normal = E(
        "f(x, axes, e)",
        f=op.helper("rms_normalize"),
        x=op.expr("input"),
        axes=to_ast(tuple(axes)),
        e=epsilon,
    )
    return (
        normal
        if op["weight"] is None
        else E("x * w", x=normal, w=_turned(op, "weight", axes, steps))
    )


# --- group norm, instance norm -------------------------------------------------------------------


def _group_norm(op: OpCall) -> ast.expr:
    return _grouped(op, op["num_groups"], op["eps"])


def _instance_norm(op: OpCall) -> ast.expr:
    spatial_rank(op, "input", op.fake("input").dim() - 2)
    if op["running_mean"] is not None:
        raise op.refuse(
            "instance norm with running statistics: Keras has no such layer; set track_running_stats=False"
        )
    return _grouped(op, op.logical_shape("input")[1], op["eps"])


def _grouped(op: OpCall, groups: int, epsilon: float) -> ast.expr:
    given = _given("weight", "bias", op=op)
    if given and not op.is_layer(*given):
        normal = E(
            "f(x, g, e)", f=op.helper("group_normalize"), x=op.expr("input"), g=groups, e=epsilon
        )
        return _affine(op, normal)
    construct = call("layers.GroupNormalization", groups, epsilon=epsilon, **_flags(op))
    return E("layer(x)", layer=op.layer(construct, _scale_and_shift(op)), x=op.expr("input"))


_EPS = "LayerNorm / GroupNorm / RMSNorm eps"
_IMAGE = {"x": "3,4,5,6"}

register(
    __name__,
    Rule(
        "aten.batch_norm.default",
        _batch_norm,
        torch="nn.BatchNorm2d(channels)",
        layout="spatial",
        noun="norm",
        topic="BatchNorm eps, momentum",
        note="PyTorch: eps 1e-5, momentum 0.1 weighs the new; Keras: 1e-3, 0.99 weighs the old. Both are given. "
        "Keras keeps the biased variance, PyTorch the unbiased one.",
        weights=("weight", "bias", "running_mean", "running_var"),
        samples=(
            Sample("m(x)", _IMAGE, "nn.BatchNorm2d(4)"),
            Sample("m(x)", {"x": "3,4,7"}, "nn.BatchNorm1d(4, momentum=0.2, eps=1e-4)"),
            Sample("m(x)", {"x": "7,4"}, "nn.BatchNorm1d(4)"),
            Sample("m(x)", {"x": "3,4,2,5,6"}, "nn.BatchNorm3d(4, affine=False)"),
            Sample("m(x)", _IMAGE, "nn.BatchNorm2d(4, track_running_stats=False)"),
        ),
    ),
    Rule(
        "aten.layer_norm.default",
        _layer_norm,
        torch="nn.LayerNorm(size)",
        layout="last",
        noun="norm",
        topic=_EPS,
        note="PyTorch's epsilon is 1e-5, Keras's 1e-3: it is given.",
        weights=("weight", "bias"),
        samples=(
            Sample("m(x)", {"x": "2,3,5"}, "nn.LayerNorm(5)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.LayerNorm(5, eps=1e-12, bias=False)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.LayerNorm(5, elementwise_affine=False)"),
            Sample("m(x)", {"x": "2,3,4,5"}, "nn.LayerNorm((4, 5))"),
            Sample("m(x)", {"x": "2,3,4,5"}, "nn.LayerNorm((3, 4, 5))", channels_last=True),
            Sample("F.layer_norm(x, (4, 5), w)", {"x": "2,3,4,5", "w": "4,5"}),
            Sample("F.layer_norm(x, (5,))", {"x": "2,3,4,5"}),
        ),
    ),
    Rule(
        "aten.rms_norm.default",
        _rms_norm,
        torch="nn.RMSNorm(size)",
        layout="last",
        noun="norm",
        topic=_EPS,
        note="PyTorch's default epsilon is the smallest step of the float type, Keras's 1e-6: it is given.",
        weights=("weight",),
        samples=(
            Sample("m(x)", {"x": "2,3,5"}, "nn.RMSNorm(5, eps=1e-6)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.RMSNorm(5)"),
            Sample("m(x)", {"x": "2,3,4,5"}, "nn.RMSNorm((4, 5), eps=1e-5)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.RMSNorm(5, eps=1e-6, elementwise_affine=False)"),
        ),
    ),
    Rule(
        "aten.group_norm.default",
        _group_norm,
        torch="nn.GroupNorm(groups, channels)",
        layout="spatial",
        noun="norm",
        topic=_EPS,
        note="PyTorch's epsilon is 1e-5, Keras's 1e-3: it is given.",
        weights=("weight", "bias"),
        samples=(
            Sample("m(x)", _IMAGE, "nn.GroupNorm(2, 4)"),
            Sample("m(x)", {"x": "3,6,7"}, "nn.GroupNorm(3, 6)"),
            Sample("m(x)", {"x": "3,6"}, "nn.GroupNorm(2, 6)"),
            Sample("m(x)", _IMAGE, "nn.GroupNorm(2, 4, affine=False)"),
            Sample("F.group_norm(x, 2, w, b)", {"x": "3,4,5,6", "w": "4", "b": "4"}),
        ),
    ),
    Rule(
        "aten.instance_norm.default",
        _instance_norm,
        torch="nn.InstanceNorm2d(channels)",
        layout="spatial",
        noun="norm",
        weights=("weight", "bias"),
        samples=(
            Sample("m(x)", _IMAGE, "nn.InstanceNorm2d(4, affine=True)"),
            Sample("m(x)", {"x": "3,4,7"}, "nn.InstanceNorm1d(4)"),
        ),
    ),
)
