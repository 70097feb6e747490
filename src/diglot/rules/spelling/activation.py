"""Activations: ``F.relu(x)`` in ``forward``, ``nn.ReLU()`` in a Sequential."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call
from diglot.rules.arguments import unless
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import by_schema, dtype_ast

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

_PLAIN = {
    "relu": "ReLU", "relu6": "ReLU6", "selu": "SELU", "silu": "SiLU", "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid", "mish": "Mish", "tanh": "Tanh", "sigmoid": "Sigmoid",
}  # fmt: skip
_WITH_NUMBERS = {
    "leaky_relu": ("LeakyReLU", ("negative_slope",)), "elu": ("ELU", ("alpha",)), "celu": ("CELU", ("alpha",)),
    "softplus": ("Softplus", ("beta", "threshold")),
    "threshold": ("Threshold", ("threshold", "value")), "softshrink": ("Softshrink", ("lambd",)),
    "hardshrink": ("Hardshrink", ("lambd",)), "glu": ("GLU", ("dim",)),
    "gelu": ("GELU", ("approximate",)), "log_sigmoid": ("LogSigmoid", ()),
}  # fmt: skip
_NUMBERS = {"negative_slope": 0.01, "alpha": 1.0, "min_val": -1.0, "max_val": 1.0, "beta": 1, "threshold": 20,
            "lambd": 0.5, "dim": -1, "approximate": "none"}  # fmt: skip


def _function(name: str):
    def write(op: OpCall) -> ast.expr:
        return by_schema(op, name)

    return write


def _layer(name: str, arguments: tuple[str, ...]):
    def write(op: OpCall) -> ast.expr | None:
        given: dict[str, Any] = {}
        for argument in arguments:
            if argument not in op.args:
                return None
            given[argument] = unless(op[argument], _NUMBERS.get(argument))
        if name == "ELU" and (op["scale"] != 1 or op["input_scale"] != 1):
            return None
        return call(f"nn.{name}", **given)

    return write


def _elu(op: OpCall) -> ast.expr:
    made = call("F.elu", op.expr("self"), alpha=unless(op["alpha"], 1.0))
    if op["input_scale"] != 1:
        raise op.refuse("an ELU that scales its input")
    return made if op["scale"] == 1 else E("n * y", n=op.value(op["scale"]), y=made)


def _softmax(name: str):
    def write(op: OpCall) -> ast.expr:
        dtype = op.fake().dtype
        given = ... if dtype is op.fake("self").dtype else dtype_ast(dtype)
        return call(f"F.{name}", op.expr("self"), dim=op.axis(op["dim"]), dtype=given)

    return write


def _normalize(op: OpCall) -> ast.expr:
    axes = tuple(op.axis(axis) for axis in op["dim"])
    dim = axes[0] if len(axes) == 1 else axes
    given = {"p": unless(op["p"], 2.0), "dim": dim, "eps": unless(op["eps"], 1e-12)}
    return call("F.normalize", op.expr("input"), **given)


def _softmax_layer(name: str):
    def write(op: OpCall) -> ast.expr:
        return call(f"nn.{name}", dim=op.axis(op["dim"]))

    return write


def _prelu(op: OpCall) -> ast.expr:
    count = op.logical_shape("weight")[0]
    if op.is_layer("weight"):
        construct = call("nn.PReLU", unless(count, 1)) if count != 1 else call("nn.PReLU")
        return E("f(x)", f=op.layer(construct, {"weight": (op["weight"], [])}), x=op.expr("self"))
    return E("F.prelu(x, w)", x=op.expr("self"), w=op.expr("weight"))


def _hardtanh(op: OpCall) -> ast.expr:
    if (op["min_val"], op["max_val"]) == (0, 6):
        return call("F.relu6", op.expr("self"))
    return by_schema(op, "F.hardtanh")


def _hardtanh_layer(op: OpCall) -> ast.expr | None:
    if (op["min_val"], op["max_val"]) == (0, 6):
        return call("nn.ReLU6")
    return _layer("Hardtanh", ("min_val", "max_val"))(op)


for _name, _class in _PLAIN.items():
    _spelled = f"torch.{_name}" if _name in ("tanh", "sigmoid") else f"F.{_name}"
    alike(_name, _function(_spelled), f"nn.{_class}()")
for _name, (_class, _arguments) in _WITH_NUMBERS.items():
    if _name != "elu":
        alike(
            _name,
            _function(f"F.{'logsigmoid' if _name == 'log_sigmoid' else _name}"),
            _layer(_class, _arguments),
        )
alike("hardtanh", _hardtanh, _hardtanh_layer)
alike("elu", _elu, _layer("ELU", ("alpha",)))
alike("diglot.normalize.default", _normalize)
alike("softmax.int", _softmax("softmax"), _softmax_layer("Softmax"))
alike("log_softmax.int", _softmax("log_softmax"), _softmax_layer("LogSoftmax"))
alike("prelu", _prelu)
alike("special_expit", "torch.sigmoid(self)")
