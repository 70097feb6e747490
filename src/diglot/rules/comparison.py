"""Comparison and logic on two tensors, or a tensor and a number."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.rules.forms import operand, promoted
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _is_bool(op: OpCall) -> bool:
    return str(op.fake().dtype) == "torch.bool"


def _compare(template: str):
    def emit(op: OpCall) -> ast.expr:
        dtype = promoted(op, "self", "other")
        return E(template, x=operand(op, "self", dtype), y=operand(op, "other", dtype))

    return emit


def _logical(template: str, words: str):
    """``x & y`` for booleans; ``ops.bitwise_and(x, y)`` for integers."""

    def emit(op: OpCall) -> ast.expr:
        dtype = op.fake().dtype
        x, y = operand(op, "self", dtype), operand(op, "other", dtype)
        return E(template if _is_bool(op) else words, x=x, y=y)

    return emit


def _bitwise_not(op: OpCall) -> ast.expr:
    return op.ops("logical_not" if _is_bool(op) else "bitwise_not", op.expr("self"))


_COMPARISONS = {
    "gt": ("x > y", ">"),
    "ge": ("x >= y", ">="),
    "lt": ("x < y", "<"),
    "le": ("x <= y", "<="),
    "eq": ("ops.equal(x, y)", "=="),
    "ne": ("ops.not_equal(x, y)", "!="),
}
for _name, (_template, _sign) in _COMPARISONS.items():
    register(
        __name__,
        Rule(
            f"aten.{_name}.Tensor",
            _compare(_template),
            torch=f"x {_sign} y",
            noun="mask",
            samples=(
                Sample(f"x {_sign} y", {"x": "2,3,5", "y": "3,1"}),
                Sample(f"(x {_sign} y) * 1.5", {"x": "int64[2,3]<3", "y": "int64[2,3]<3"}),
                Sample(f"x {_sign} y", {"x": "int64[2,3]<3", "y": "2,3"}),
            ),
        ),
        Rule(
            f"aten.{_name}.Scalar",
            _compare(_template),
            torch=f"x {_sign} 0",
            noun="mask",
            samples=(
                Sample(f"x {_sign} 0", {"x": "2,3,5"}),
                Sample(f"x {_sign} 1", {"x": "int64[2,3]<3"}),
                Sample(f"x {_sign} 0.5", {"x": "int64[2,3]<3"}),
            ),
        ),
    )

_BITS = {
    "and": ("x & y", "ops.bitwise_and(x, y)", "&"),
    "or": ("x | y", "ops.bitwise_or(x, y)", "|"),
    "xor": ("x ^ y", "ops.bitwise_xor(x, y)", "^"),
}
_MASKS = {"x": "bool[2,3]", "y": "bool[2,3]"}
for _name, (_template, _words, _sign) in _BITS.items():
    _emit = _logical(_template, _words)
    _both = (
        Sample(f"x {_sign} y", _MASKS),
        Sample(f"x {_sign} y", {"x": "int64[2,3]<7", "y": "int64[2,3]<7"}),
    )
    register(
        __name__,
        Rule(f"aten.__{_name}__.Tensor", _emit, torch=f"x {_sign} y", noun="mask", samples=_both),
        Rule(
            f"aten.__{_name}__.Scalar",
            _emit,
            torch=f"x {_sign} 3",
            noun="mask",
            samples=(Sample(f"x {_sign} 3", {"x": "int64[2,3]<7"}),),
        ),
        Rule(
            f"aten.bitwise_{_name}.Tensor",
            _emit,
            torch=f"torch.bitwise_{_name}(x, y)",
            noun="mask",
            samples=(Sample(f"torch.bitwise_{_name}(x, y)", _MASKS),),
        ),
        Rule(
            f"aten.bitwise_{_name}.Scalar",
            _emit,
            torch=f"torch.bitwise_{_name}(x, 3)",
            noun="mask",
            samples=(Sample(f"torch.bitwise_{_name}(x, 3)", {"x": "int64[2,3]<7"}),),
        ),
        Rule(
            f"aten.logical_{_name}.default",
            f"ops.logical_{_name}(self, other)",
            torch=f"torch.logical_{_name}(x, y)",
            noun="mask",
            samples=(Sample(f"torch.logical_{_name}(x, y)", _MASKS),),
        ),
    )

register(
    __name__,
    Rule(
        "aten.logical_not.default",
        "ops.logical_not(self)",
        torch="torch.logical_not(x)",
        noun="mask",
        samples=(Sample("torch.logical_not(x)", {"x": "bool[2,3]"}),),
    ),
    Rule(
        "aten.bitwise_not.default",
        _bitwise_not,
        torch="~x",
        noun="mask",
        samples=(Sample("~x", {"x": "bool[2,3]"}), Sample("~x", {"x": "int64[2,3]<7"})),
    ),
)
