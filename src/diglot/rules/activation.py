"""Activations."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call
from diglot.rules.forms import operand
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_X = {"x": "2,3,5"}
_IMAGE = {"x": "2,3,4,5"}


def _both(expression: str) -> tuple[Sample, Sample]:
    """The same use on a plain tensor and inside a convolutional net."""
    return Sample(expression, _X), Sample(expression, _IMAGE, channels_last=True)


# --- GELU ----------------------------------------------------------------------------------------------


def _gelu(op: OpCall) -> ast.expr:
    name = "gelu_tanh" if op.get("approximate", "none") == "tanh" else "gelu"
    return call(op.helper(name), op.expr("self"))


def _gelu_layer(op: OpCall) -> ast.expr:
    name = "gelu_tanh" if op.get("approximate", "none") == "tanh" else "gelu"
    return call("layers.Activation", op.helper(name))


# --- the rectifier and its family ----------------------------------------------------------------------


def _leaky_relu(op: OpCall) -> ast.expr:
    """Slopes that float32 holds exactly go to Keras; others to a helper, since TensorFlow rounds the slope."""
    slope = op.get("negative_slope", 0.01)
    if _is_float32(slope):
        return op.ops("leaky_relu", op.expr("self"), negative_slope=slope)
    slope = () if slope == 0.01 else (slope,)
    return call(op.helper("leaky_relu"), op.expr("self"), *slope)


def _leaky_relu_layer(op: OpCall) -> ast.expr | None:
    slope = op.get("negative_slope", 0.01)
    if slope == 0.01:
        return call("layers.Activation", op.helper("leaky_relu"))
    # The layer of a model that came from Keras is that layer; a proof keeps its slope exact.
    was_layer = op.writer.program.hub.layer_names
    return (
        call("layers.LeakyReLU", negative_slope=slope) if _is_float32(slope) or was_layer else None
    )


def _is_float32(value: float) -> bool:
    import struct

    return struct.unpack("f", struct.pack("f", value))[0] == value


def _elu(op: OpCall) -> ast.expr:
    if op.get("scale", 1) != 1 or op.get("input_scale", 1) != 1:
        raise op.refuse("elu with its own scale has no Keras form; write it with torch.where")
    alpha = op.get("alpha", 1)
    return op.ops("elu", op.expr("self"), alpha=... if alpha == 1 else alpha)


def _celu(op: OpCall) -> ast.expr:
    alpha = op.get("alpha", 1)
    return op.ops("celu", op.expr("self"), alpha=... if alpha == 1 else alpha)


def _hardtanh(op: OpCall) -> ast.expr:
    low, high = op.get("min_val", -1), op.get("max_val", 1)
    if (low, high) == (0, 6):
        return op.ops("relu6", op.expr("self"))
    return op.ops("clip", op.expr("self"), low, high)


def _hardtanh_layer(op: OpCall) -> ast.expr | None:
    if (op.get("min_val", -1), op.get("max_val", 1)) == (0, 6):
        return E("layers.ReLU(max_value=6)")
    if (op.get("min_val", -1), op.get("max_val", 1)) == (-1, 1):
        return E('layers.Activation("hard_tanh")')
    return None


def _threshold(op: OpCall) -> ast.expr:
    limit, value = op["threshold"], op["value"]
    if limit == value == 0:
        return op.ops("relu", op.expr("self"))
    return call(op.helper("threshold"), op.expr("self"), limit, value)


def _softplus(op: OpCall) -> ast.expr:
    beta, limit = op.get("beta", 1), op.get("threshold", 20)
    if limit < 20:
        raise op.refuse(
            f"softplus with threshold={limit} is a different curve from Keras's softplus"
        )
    if beta == 1:
        return op.ops("softplus", op.expr("self"))
    return E("ops.softplus(beta * x) / beta", x=op.expr("self"), beta=beta)


def _softplus_layer(op: OpCall) -> ast.expr | None:
    plain = op.get("beta", 1) == 1 and op.get("threshold", 20) >= 20
    return E('layers.Activation("softplus")') if plain else None


def _softshrink(op: OpCall) -> ast.expr:
    return op.ops("soft_shrink", op.expr("self"), op.get("lambd", 0.5))


def _hardshrink(op: OpCall) -> ast.expr:
    return op.ops("hard_shrink", op.expr("self"), op.get("lambd", 0.5))


def _prelu(op: OpCall) -> ast.expr:
    """``layers.PReLU``: one slope for each channel, or one for all."""
    rank = op.fake("self").dim()
    slopes = op.logical_shape("weight")[0] if op.fake("weight").dim() else 1
    channel = (op.axis(1) % rank if rank > 1 else 0) if slopes != 1 else None
    if op.is_layer("weight"):
        shape = [slopes if axis == channel else 1 for axis in range(1, rank)]
        shared = tuple(axis for axis in range(1, rank) if axis != channel)
        construct = call("layers.PReLU", shared_axes=list(shared) if shared else ...)
        return E("layer(x)", layer=op.layer(construct, {"alpha": (op["weight"], [["reshape", shape]])}),
                 x=op.expr("self"))  # fmt: skip
    slope = op.expr("weight")
    if channel is not None and channel != rank - 1:
        slope = E("ops.reshape(w, shape)", w=slope, shape=(-1, *[1] * (rank - 1 - channel)))
    return E("ops.where(x > 0, x, w * x)", x=op.variable("self"), w=slope)


def _glu(op: OpCall) -> ast.expr:
    axis = op.axis(op.get("dim", -1))
    return op.ops("glu", op.expr("self"), axis=... if axis == -1 else axis)


# --- softmax -------------------------------------------------------------------------------------------


def _along(name: str):
    """``ops.softmax(x, axis=…)``; a dtype given to PyTorch's function casts first."""

    def emit(op: OpCall) -> ast.expr:
        axis = op.axis(op["dim"])
        return op.ops(name, operand(op, "self", op.fake().dtype), axis=... if axis == -1 else axis)

    return emit


def _softmax_layer(op: OpCall) -> ast.expr:
    axis = op.axis(op["dim"])
    return call("layers.Softmax", axis=... if axis == -1 else axis)


#: Activations that are the same function in both: ATen's name, Keras's, PyTorch's spelling, the layer.
_SAME = (
    ("relu", "relu", "F.relu(x)", "layers.ReLU()"),
    ("relu6", "relu6", "F.relu6(x)", "layers.ReLU(max_value=6)"),
    ("selu", "selu", "F.selu(x)", 'layers.Activation("selu")'),
    ("silu", "silu", "F.silu(x)", 'layers.Activation("silu")'),
    ("hardswish", "hard_silu", "F.hardswish(x)", 'layers.Activation("hard_silu")'),
    ("hardsigmoid", "hard_sigmoid", "F.hardsigmoid(x)", 'layers.Activation("hard_sigmoid")'),
    ("log_sigmoid", "log_sigmoid", "F.logsigmoid(x)", 'layers.Activation("log_sigmoid")'),
)

register(
    __name__,
    *(
        Rule(
            f"aten.{aten}.default",
            f"ops.{keras}(self)",
            torch=spelling,
            layer=layer,
            noun="x",
            samples=_both(spelling),
        )
        for aten, keras, spelling, layer in _SAME
    ),
    Rule(
        "aten.gelu.default",
        _gelu,
        torch="F.gelu(x)",
        layer=_gelu_layer,
        noun="x",
        topic="GELU",
        note="`keras.ops.gelu` means the tanh approximation unless told otherwise; PyTorch's default is the exact "
        "one. Both are written out here, since TensorFlow's own constants are float32.",
        samples=(*_both("F.gelu(x)"), Sample('F.gelu(x, approximate="tanh")', _X)),
    ),
    Rule(
        "aten.mish.default",
        lambda op: call(op.helper("mish"), op.expr("self")),
        torch="F.mish(x)",
        noun="x",
        layer=lambda op: call("layers.Activation", op.helper("mish")),
        samples=_both("F.mish(x)"),
    ),
    Rule(
        "aten.leaky_relu.default",
        _leaky_relu,
        torch="F.leaky_relu(x)",
        noun="x",
        layer=_leaky_relu_layer,
        topic="LeakyReLU slope",
        note="PyTorch's slope is 0.01, Keras's 0.3 in the layer and 0.2 in the function: it is always passed.",
        samples=(
            *_both("F.leaky_relu(x)"),
            Sample("F.leaky_relu(x, 0.2)", _X),
            Sample("F.leaky_relu(x, 0.25)", _X),
        ),
    ),
    Rule(
        "aten.elu.default",
        _elu,
        torch="F.elu(x)",
        noun="x",
        layer=lambda op: call(
            "layers.ELU", **({} if op.get("alpha", 1) == 1 else {"alpha": op["alpha"]})
        ),
        samples=(*_both("F.elu(x)"), Sample("F.elu(x, alpha=0.7)", _X)),
    ),
    Rule(
        "aten.celu.default",
        _celu,
        torch="F.celu(x)",
        noun="x",
        samples=(Sample("F.celu(x)", _X), Sample("F.celu(x, alpha=0.7)", _X)),
    ),
    Rule(
        "aten.hardtanh.default",
        _hardtanh,
        torch="F.hardtanh(x)",
        noun="x",
        layer=_hardtanh_layer,
        samples=(*_both("F.hardtanh(x)"), Sample("F.hardtanh(x, -0.3, 0.7)", _X)),
    ),
    Rule(
        "aten.threshold.default",
        _threshold,
        torch="F.threshold(x, 0.1, 20.0)",
        noun="x",
        samples=(Sample("F.threshold(x, 0.1, 2.5)", _X), Sample("F.threshold(x, 0.0, 0.0)", _X)),
    ),
    Rule(
        "aten.softplus.default",
        _softplus,
        torch="F.softplus(x)",
        noun="x",
        layer=_softplus_layer,
        topic="Softplus",
        note="Beyond 20 PyTorch's softplus is its input, by 2e-9 less than Keras's. float32 has no digits for that; a "
        "proof, in float64, compares the function without this limit.",
        samples=(*_both("F.softplus(x)"), Sample("F.softplus(x, beta=2)", _X)),
    ),
    Rule(
        "aten.softshrink.default",
        _softshrink,
        torch="F.softshrink(x)",
        noun="x",
        samples=(Sample("F.softshrink(x)", _X), Sample("F.softshrink(x, 0.3)", _X)),
    ),
    Rule(
        "aten.hardshrink.default",
        _hardshrink,
        torch="F.hardshrink(x)",
        noun="x",
        samples=(Sample("F.hardshrink(x)", _X), Sample("F.hardshrink(x, 0.3)", _X)),
    ),
    Rule(
        "aten.prelu.default",
        _prelu,
        torch="F.prelu(x, weight)",
        noun="prelu",
        weights=("weight",),
        layout="axis",
        topic="PReLU",
        note="PyTorch has one slope for all (or one for each channel); Keras one for each element unless "
        "`shared_axes` is given.",
        samples=(
            Sample("m(x)", _IMAGE, module="nn.PReLU()"),
            Sample("m(x)", _IMAGE, module="nn.PReLU(3)", channels_last=True),
            Sample("m(x)", {"x": "2,3"}, module="nn.PReLU(3)"),
            Sample("F.prelu(x, w)", {"x": "2,3,5", "w": "3"}),
            Sample("F.prelu(x, w)", {"x": "2,3,5", "w": "1"}),
        ),
    ),
    Rule(
        "aten.glu.default",
        _glu,
        torch="F.glu(x)",
        noun="x",
        layout="axis",
        samples=(
            Sample("F.glu(x)", {"x": "2,3,8"}),
            Sample("F.glu(x, dim=1)", {"x": "2,6"}),
            Sample("F.glu(x, dim=1)", {"x": "2,6,5,4"}, channels_last=True),
        ),
    ),
    Rule(
        "aten.softmax.int",
        _along("softmax"),
        torch="F.softmax(x, dim=-1)",
        noun="x",
        layout="axis",
        layer=_softmax_layer,
        samples=(
            Sample("F.softmax(x, dim=-1)", _X),
            Sample("F.softmax(x, dim=1)", _X),
            Sample("F.softmax(x, dim=1)", _IMAGE, channels_last=True),
            Sample("F.softmax(x, dim=0, dtype=torch.float32)", {"x": "int64[2,3]<5"}),
        ),
    ),
    Rule(
        "aten.log_softmax.int",
        _along("log_softmax"),
        torch="F.log_softmax(x, dim=-1)",
        noun="x",
        layout="axis",
        samples=(
            Sample("F.log_softmax(x, dim=-1)", _X),
            Sample("F.log_softmax(x, dim=1)", _X),
            Sample("F.log_softmax(x, dim=1)", _IMAGE, channels_last=True),
        ),
    ),
)
