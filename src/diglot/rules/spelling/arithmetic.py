"""Operators: arithmetic, comparison and logic."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import by_schema

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _scaled(sign: str, reverse: bool = False):
    def write(op: OpCall) -> ast.expr:
        left, right, alpha = op.expr("self"), op.expr("other"), op.get("alpha", 1)
        if reverse:
            left = left if alpha == 1 else E("n * x", n=op.value(alpha), x=left)
            return E("b - a", a=left, b=right)
        right = right if alpha == 1 else E("n * x", n=op.value(alpha), x=right)
        return E(f"a {sign} b", a=left, b=right)

    return write


def _rounded_quotient(op: OpCall) -> ast.expr:
    mode = op["rounding_mode"]
    a, b = op.expr("self"), op.expr("other")
    if mode is None:
        return E("a / b", a=a, b=b)
    if mode == "floor" and not op.is_float():
        return E("a // b", a=a, b=b)
    return E("torch.div(a, b, rounding_mode=m)", a=a, b=b, m=mode)  # `//` has no gradient


def _logic(symbol: str):
    """``a & b`` is the same as ``torch.logical_and`` on booleans alone."""

    def write(op: OpCall) -> ast.expr:
        from diglot.rules.spelling.schema import by_schema

        both = all(str(op.fake(n).dtype) == "torch.bool" for n in ("self", "other"))
        if not both and op.rule.op.startswith("aten.logical"):
            return by_schema(op)
        return E(f"a {symbol} b", a=op.expr("self"), b=op.expr("other"))

    return write


def _not(op: OpCall) -> ast.expr:
    is_bool = str(op.fake("self").dtype) == "torch.bool"
    logical = op.rule.op == "aten.logical_not.default" and not is_bool
    return E("torch.logical_not(x)" if logical else "~x", x=op.expr("self"))


def _is_number(value: ast.expr) -> bool:
    """Whether a folded constant is written as a number (``-0.5`` is a minus before one)."""
    value = value.operand if isinstance(value, ast.UnaryOp) else value
    return isinstance(value, ast.Constant)


def _bounded(name: str, limit: str):
    """``torch.minimum(a, b)``; with a number ``a.clamp(max=3)``, for the function takes tensors only."""

    def write(op: OpCall) -> ast.expr:
        a, b = op.expr("self"), op.expr("other")
        for value, other in ((a, b), (b, a)):
            if _is_number(other):
                return call(ast.Attribute(value, "clamp", ast.Load()), **{limit: other})
        return call(f"torch.{name}", a, b)

    return write


def _stft(op: OpCall) -> ast.expr:
    """The op has no padding, which Python's function adds unless it is told not to."""
    made = by_schema(op)
    assert isinstance(made, ast.Call)
    made.keywords.append(ast.keyword("center", ast.Constant(False)))
    return made


alike("add.Tensor add.Scalar", _scaled("+"))
alike("sub.Tensor sub.Scalar", _scaled("-"))
alike("rsub.Tensor rsub.Scalar", _scaled("-", reverse=True))
alike("mul.Tensor mul.Scalar", "self * other")
alike("div.Tensor div.Scalar true_divide.Tensor", "self / other")
alike("div.Tensor_mode div.Scalar_mode", _rounded_quotient)
alike("floor_divide floor_divide.Scalar", "self // other")
alike("remainder.Scalar remainder.Tensor", "self % other")
alike("pow.Tensor_Scalar pow.Scalar pow.Tensor_Tensor", "self ** exponent")
alike("neg", "-self")
alike("real", "self.real")
alike("imag", "self.imag")
alike("_conj", "self.conj()")
alike("reciprocal", "1 / self")
alike("matmul", "self @ other")
alike("mm bmm", "self @ mat2")
alike("mv", "self @ vec")
alike("gt.Tensor gt.Scalar", "self > other")
alike("ge.Tensor ge.Scalar", "self >= other")
alike("lt.Tensor lt.Scalar", "self < other")
alike("le.Tensor le.Scalar", "self <= other")
alike("eq.Tensor eq.Scalar", "self == other")
alike("ne.Tensor ne.Scalar", "self != other")
alike(
    "__and__.Tensor __and__.Scalar bitwise_and.Tensor bitwise_and.Scalar logical_and", _logic("&")
)
alike("__or__.Tensor __or__.Scalar bitwise_or.Tensor bitwise_or.Scalar logical_or", _logic("|"))
alike(
    "__xor__.Tensor __xor__.Scalar bitwise_xor.Tensor bitwise_xor.Scalar logical_xor", _logic("^")
)
alike("bitwise_not logical_not", _not)
alike("max.other maximum", _bounded("maximum", "min"))
alike("min.other minimum", _bounded("minimum", "max"))


def _einsum(op: OpCall) -> ast.expr:
    return call("torch.einsum", op["equation"], *(op.value(t) for t in op["tensors"]))


alike("einsum", _einsum)
alike("stft", _stft)
