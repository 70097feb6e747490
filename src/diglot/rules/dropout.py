"""Dropout in its several forms."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _is_off(op: OpCall) -> bool:
    return not op["train"] or op["p"] == 0


def _rate(op: OpCall) -> float:
    if not isinstance(op["p"], (int, float)):
        raise op.refuse("its probability is only known while the model runs")
    if op["p"] >= 1:
        raise op.refuse("it drops everything (p=1); Keras's layers want a rate below 1")
    return op["p"]


def _dropout(op: OpCall) -> ast.expr:
    if _is_off(op):
        return op.expr("input")
    return E("layer(x)", layer=op.layer(_dropout_layer(op)), x=op.expr("input"))


def _dropout_layer(op: OpCall) -> ast.expr:
    return call("layers.Dropout", _rate(op))


def _always(op: OpCall) -> ast.expr:
    """Monte Carlo dropout: it drops in evaluation, too."""
    return E("layer(x, training=True)", layer=op.layer(_dropout_layer(op)), x=op.expr("input"))


def _feature(op: OpCall) -> ast.expr:
    if _is_off(op):
        return op.expr("input")
    return E("layer(x)", layer=op.layer(_feature_layer(op)), x=op.expr("input"))


def _feature_layer(op: OpCall) -> ast.expr:
    rank = op.fake("input").dim() - 2
    if rank not in (1, 2, 3):
        raise op.refuse(
            "it drops whole channels of an input that has no (batch, channel, position) axes"
        )
    return call(f"layers.SpatialDropout{rank}D", _rate(op))


def _rows(op: OpCall) -> ast.expr:
    """Stochastic depth: a whole example is dropped, or none of it."""
    if _is_off(op):
        return op.expr("input")
    return E("layer(x)", layer=op.layer(_rows_layer(op)), x=op.expr("input"))


def _rows_layer(op: OpCall) -> ast.expr:
    ones = [1] * (op.fake("input").dim() - 1)
    return call("layers.Dropout", _rate(op), noise_shape=(None, *ones))


def _alpha(op: OpCall) -> ast.expr:
    if _is_off(op):
        return op.expr("input")
    return E("layer(x)", layer=op.layer(_alpha_layer(op)), x=op.expr("input"))


def _alpha_layer(op: OpCall) -> ast.expr:
    return call("layers.AlphaDropout", _rate(op))


def _feature_alpha(op: OpCall) -> ast.expr:
    if _is_off(op):
        return op.expr("input")
    raise op.refuse(
        "Keras has no alpha dropout of whole channels; nn.AlphaDropout or nn.Dropout2d can be translated"
    )


def _by_mode(op: OpCall) -> ast.expr:
    """``a if training else b``; Keras hands ``training`` to every ``call`` that asks for it."""
    if op.writer.in_graph or op.writer.call.function:
        raise op.refuse(
            "it differs between training and evaluation, which a layer's call can tell apart: "
            "translate with style='layers'"
        )
    op.writer.reads_training = True
    return E("a if training else b", a=op.expr("training"), b=op.expr("evaluation"))


_NOTE = "Each framework draws its own random numbers: training is compared with every rate at 0."

register(
    __name__,
    Rule(
        "aten.dropout.default",
        _dropout,
        torch="nn.Dropout(p)",
        layer=_dropout_layer,
        noun="dropout",
        topic="Randomness",
        note=_NOTE,
        samples=(
            Sample("m(x)", {"x": "3,5"}, "nn.Dropout(0.3)"),
            Sample("F.dropout(x, 0.2, False)", {"x": "3,5"}),
        ),
    ),
    Rule(
        "aten.feature_dropout.default",
        _feature,
        torch="nn.Dropout2d(p)",
        layer=_feature_layer,
        layout="spatial",
        noun="dropout",
        samples=(
            Sample("m(x)", {"x": "2,3,4,5"}, "nn.Dropout2d(0.3)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.Dropout1d(0.3)"),
            Sample("m(x)", {"x": "2,3,4,5,6"}, "nn.Dropout3d(0.3)"),
        ),
    ),
    Rule(
        "aten.alpha_dropout.default",
        _alpha,
        torch="nn.AlphaDropout(p)",
        layer=_alpha_layer,
        noun="dropout",
        samples=(Sample("m(x)", {"x": "3,5"}, "nn.AlphaDropout(0.3)"),),
    ),
    Rule(
        "aten.feature_alpha_dropout.default",
        _feature_alpha,
        torch="nn.FeatureAlphaDropout(p)",
        noun="dropout",
        samples=(Sample("F.feature_alpha_dropout(x, 0.2, False)", {"x": "2,3,5"}),),
    ),
    Rule(
        "diglot.assign.default",
        "buffer.assign(value)",
        torch="self.buffer = x",
        layout="logical",
        effect=True,
    ),
    Rule(
        "diglot.always_dropout.default",
        _always,
        torch="F.dropout(x, p)",
        noun="dropout",
        topic="Randomness",
        note=_NOTE,
    ),
    Rule("diglot.by_mode.default", _by_mode, torch="a if self.training else b", noun="x"),
    Rule(
        "diglot.row_dropout.default",
        _rows,
        torch="DropPath(p)",
        layer=_rows_layer,
        noun="drop_path",
        topic="Randomness",
        note=_NOTE,
    ),
)
