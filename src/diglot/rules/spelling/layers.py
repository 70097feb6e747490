"""Layers that own weights: dense, convolution, normalisation, embedding; the functions where they do not own them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.rules.arguments import brief, feature_steps, is_leaf, numbers, unless
from diglot.rules.convolution import _strides_vary
from diglot.rules.linear import row_steps
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import by_schema

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _weights(op: OpCall, **steps: list) -> dict[str, Any]:
    """The layer's weights by name, of those that are there."""
    return {
        name: (op[name], steps.get(name, [])) for name in ("weight", "bias") if op[name] is not None
    }


# --- dense ----------------------------------------------------------------------------------------


def _linear(op: OpCall) -> ast.expr:
    if op.fake("weight").dim() == 2 and op.is_layer("weight", "bias"):
        outputs, inputs = op.logical_shape("weight")
        construct = call("nn.Linear", inputs, outputs, bias=unless(op["bias"] is not None, True))
        weights = _weights(op, weight=row_steps(op), bias=feature_steps(op))
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    bias = [op.expr("bias")] if op["bias"] is not None else []
    return call("F.linear", op.expr("input"), op.expr("weight"), *bias)


def _dense(op: OpCall) -> ast.expr:
    made = E("x @ w", x=op.expr("input"), w=op.expr("weight"))
    return made if op["bias"] is None else E("y + b", y=made, b=op.expr("bias"))


def _bilinear(op: OpCall) -> ast.expr:
    outputs, first, second = op.logical_shape("weight")
    if op.is_layer("weight", "bias"):
        construct = call(
            "nn.Bilinear", first, second, outputs, bias=unless(op["bias"] is not None, True)
        )
        layer = op.layer(construct, _weights(op))
        return E("layer(a, b)", layer=layer, a=op.expr("input1"), b=op.expr("input2"))
    return by_schema(op, "F.bilinear")


# --- convolutions ---------------------------------------------------------------------------------


def _convolution(rank: int, transposed: bool = False):
    kind = f"Conv{'Transpose' if transposed else ''}{rank}d"

    def write(op: OpCall) -> ast.expr:
        if not op.is_layer("weight", "bias"):
            return by_schema(op, f"F.conv{'_transpose' if transposed else ''}{rank}d")
        first, second, *kernel = op.logical_shape("weight")
        groups = op["groups"]
        inputs, outputs = (first, second * groups) if transposed else (second * groups, first)
        padding = op["padding"]
        if not isinstance(padding, str):
            padding = brief(numbers(op, "padding", rank))
        options: dict[str, Any] = {
            "stride": unless(brief(numbers(op, "stride", rank)), None if _strides_vary(op) else 1),
            "padding": unless(padding, 0),
        }
        if transposed:
            options["output_padding"] = unless(brief(numbers(op, "output_padding", rank)), 0)
        options |= {
            "dilation": unless(brief(numbers(op, "dilation", rank)), 1),
            "groups": unless(groups, 1),
            "bias": unless(op["bias"] is not None, True),
        }
        if options["padding"] == "valid":
            options["padding"] = ...
        construct = call(f"nn.{kind}", inputs, outputs, brief(tuple(kernel)), **options)
        return E("layer(x)", layer=op.layer(construct, _weights(op)), x=op.expr("input"))

    return write


# --- normalisation --------------------------------------------------------------------------------

_STATISTICS = ("running_mean", "running_var")


def _batch_norm(op: OpCall) -> ast.expr:
    owned = [n for n in ("weight", "bias", *_STATISTICS) if op[n] is not None]
    frozen = not op["training"] and op["running_mean"] is not None
    whole = (op["weight"] is None) == (op["bias"] is None)
    if not owned or not op.is_layer(*owned) or (frozen and not whole):
        return _batch_norm_function(op, owned)
    weights = {name: (op[name], feature_steps(op)) for name in owned}
    affine = unless(op["weight"] is not None, True)
    if frozen:
        channels, eps = op.logical_shape("input")[1], unless(op["eps"], 1e-5)
        construct = call(op.helper("FrozenBatchNorm"), channels, eps=eps, affine=affine)
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    rank = op.fake("input").dim()
    if op["momentum"] is None:
        momentum = to_ast(None)
    else:
        momentum = unless(op["momentum"], 0.1)
    construct = call(
        f"nn.BatchNorm{max(rank - 2, 1)}d",
        op.logical_shape("input")[1],
        eps=unless(op["eps"], 1e-5),
        momentum=momentum,
        affine=affine,
        track_running_stats=unless(op["running_mean"] is not None, True),
    )
    return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))


def _masked_batch_norm(op: OpCall) -> ast.expr:
    """``self.norm(x, mask)``, of a class that the program carries."""
    names = [n for n in ("weight", "bias", *_STATISTICS) if op[n] is not None]
    if not op.writer.owns(op.node, [op[n] for n in names]):
        raise op.refuse("its weights are shared with another module")
    construct = call(
        op.helper("MaskedBatchNorm"),
        op.logical_shape("input")[2],
        eps=unless(op["eps"], 1e-5),
        momentum=unless(op["momentum"], 0.1),
        affine=unless(op["weight"] is not None, True),
    )
    layer = op.layer(construct, {n: (op[n], []) for n in names}, default="norm")
    return call(layer, op.expr("input"), op.expr("mask"))


def _batch_norm_function(op: OpCall, owned: list[str]) -> ast.expr:
    """``F.batch_norm(x, running_mean, running_var, weight=…)``: its order is another than the op's."""
    statistics = [op.expr(n) if n in owned else ast.Constant(None) for n in _STATISTICS]
    return call(
        "F.batch_norm",
        op.expr("input"),
        *statistics,
        **{n: op.expr(n) for n in ("weight", "bias") if n in owned},
        training=unless(op["training"], False),
        momentum=unless(op["momentum"], 0.1) if op["training"] else ...,
        eps=unless(op["eps"], 1e-5),
    )


def _layer_norm(op: OpCall) -> ast.expr:
    shape = list(op["normalized_shape"])
    has_weight, has_bias = op["weight"] is not None, op["bias"] is not None
    size = to_ast(shape[0] if len(shape) == 1 else tuple(shape))
    options = {"eps": unless(op["eps"], 1e-5)}
    alone = not has_weight and not has_bias
    if alone and is_leaf(op, "LayerNorm"):
        construct = call("nn.LayerNorm", size, elementwise_affine=False, **options)
        return E("layer(x)", layer=op.layer(construct), x=op.expr("input"))
    if has_weight and op.is_layer("weight", "bias"):
        construct = call("nn.LayerNorm", size, bias=unless(has_bias, True), **options)
        weights = {n: (op[n], feature_steps(op)) for n in ("weight", "bias") if op[n] is not None}
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    given = {n: op.expr(n) for n in ("weight", "bias") if op[n] is not None}
    shape_ast = ast.Tuple([op.value(s) for s in shape], ast.Load())
    return call("F.layer_norm", op.expr("input"), shape_ast, **given, **options)


def _rms_norm(op: OpCall) -> ast.expr:
    shape = list(op["normalized_shape"])
    size = to_ast(shape[0] if len(shape) == 1 else tuple(shape))
    eps = ... if op["eps"] is None else op["eps"]
    if op["weight"] is not None and op.is_layer("weight"):
        layer = op.layer(call("nn.RMSNorm", size, eps=eps), {"weight": (op["weight"], [])})
        return E("layer(x)", layer=layer, x=op.expr("input"))
    weight = op.expr("weight") if op["weight"] is not None else ...
    return call("F.rms_norm", op.expr("input"), tuple(shape), weight=weight, eps=eps)


def _group_norm(op: OpCall) -> ast.expr:
    channels = op.logical_shape("input")[1]
    if op["weight"] is not None and op["bias"] is not None and op.is_layer("weight", "bias"):
        construct = call("nn.GroupNorm", op["num_groups"], channels, eps=unless(op["eps"], 1e-5))
        return E("layer(x)", layer=op.layer(construct, _weights(op)), x=op.expr("input"))
    return by_schema(op, "F.group_norm", frozenset({"cudnn_enabled"}))


def _instance_norm(op: OpCall) -> ast.expr:
    kind = f"InstanceNorm{op.fake('input').dim() - 2}d"
    options = {"eps": unless(op["eps"], 1e-5)}
    given = [n for n in ("weight", "bias") if op[n] is not None]
    if op["running_mean"] is None:
        channels = op.logical_shape("input")[1]
        if len(given) == 2 and op.is_layer(*given):
            construct = call(f"nn.{kind}", channels, affine=True, **options)
            return E("layer(x)", layer=op.layer(construct, _weights(op)), x=op.expr("input"))
        if not given and is_leaf(op, kind):
            construct = call(f"nn.{kind}", channels, **options)
            return E("layer(x)", layer=op.layer(construct), x=op.expr("input"))
        weights = {n: op.expr(n) for n in given}
        return call("F.instance_norm", op.expr("input"), **weights, **options)
    return by_schema(op, "F.instance_norm", frozenset({"cudnn_enabled"}))


# --- tables and noise -----------------------------------------------------------------------------


def _embedding(op: OpCall) -> ast.expr:
    if op.is_layer("weight"):
        count, width = op.logical_shape("weight")
        padding = op["padding_idx"]
        construct = call("nn.Embedding", count, width, padding_idx=... if padding < 0 else padding)
        layer = op.layer(construct, {"weight": (op["weight"], [])})
        return E("layer(ids)", layer=layer, ids=op.expr("indices"))
    padding = op["padding_idx"] if op["padding_idx"] >= 0 else ...
    return call("F.embedding", op.expr("indices"), op.expr("weight"), padding_idx=padding)


def _dropout(name: str):
    def construct(op: OpCall) -> ast.expr:
        kind = name
        if name == "FeatureDropout":
            rank = op.fake("input").dim() - 2
            kind = f"Dropout{rank}d" if rank in (1, 2, 3) else "Dropout1d"
        return call(f"nn.{kind}", op["p"])

    def write(op: OpCall) -> ast.expr:
        if not op["train"] or op["p"] == 0:
            return op.expr("input")
        layer = op.layer(construct(op), default="dropout")
        return E("layer(x)", layer=layer, x=op.expr("input"))

    return write, construct


def _row_dropout(op: OpCall) -> ast.expr:
    if not op["train"] or op["p"] == 0:
        return op.expr("input")
    layer = op.layer(_row_dropout_layer(op), default="drop_path")
    return E("layer(x)", layer=layer, x=op.expr("input"))


def _always_dropout(op: OpCall) -> ast.expr:
    return call("F.dropout", op.expr("input"), op["p"])


def _row_dropout_layer(op: OpCall) -> ast.expr:
    return call(op.helper("DropPath"), op["p"])


def _weight_norm(op: OpCall) -> ast.expr:
    return E(
        "g * v / torch.norm_except_dim(v, 2, d)", g=op.expr("g"), v=op.variable("v"), d=op["dim"]
    )


alike("linear", _linear)
alike("_weight_norm", _weight_norm)
alike("diglot.dense.default", _dense)
alike("bilinear", _bilinear)
for _rank in (1, 2, 3):
    alike(f"conv{_rank}d conv{_rank}d.padding", _convolution(_rank))
    alike(
        f"conv_transpose{_rank}d{'' if _rank == 1 else '.input'}",
        _convolution(_rank, transposed=True),
    )
alike("batch_norm", _batch_norm)
alike("diglot.masked_batch_norm.default", _masked_batch_norm)
alike("layer_norm", _layer_norm)
alike("rms_norm", _rms_norm)
alike("group_norm", _group_norm)
alike("instance_norm", _instance_norm)
alike("embedding", _embedding)
alike("dropout", *_dropout("Dropout"))
alike("feature_dropout", *_dropout("FeatureDropout"))
alike("alpha_dropout", *_dropout("AlphaDropout"))
alike("diglot.row_dropout.default", _row_dropout, _row_dropout_layer)
alike("diglot.always_dropout.default", _always_dropout)
alike("feature_alpha_dropout", *_dropout("FeatureAlphaDropout"))
