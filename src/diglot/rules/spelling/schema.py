"""Ops that are spelled as their schema says: a method, a function of ``torch`` or one of ``F``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

#: Arguments that say where and how a tensor is kept, not what it is.
_PLACE = frozenset(
    {"device", "layout", "pin_memory", "memory_format", "generator", "non_blocking", "copy"}
)
#: Arguments that are named even where they could be given by their place.
_NAMED = frozenset(
    {"dim", "keepdim", "dtype", "unbiased", "correction", "reduction", "descending", "stable"}
)
#: Read as functions of a number, and written so: ``torch.exp(x)``.
_FUNCTIONS = frozenset(
    """exp expm1 exp2 log log1p log2 log10 sqrt rsqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh
    sigmoid
    erf erfc erfinv floor ceil round sign sgn trunc frac abs square isnan isinf isfinite maximum minimum where
    logaddexp atan2 hypot sinc heaviside nan_to_num addcmul addcdiv lerp fmod remainder logical_and logical_or
    logical_xor logical_not deg2rad outer inner dot cross trace tril triu diagonal""".split()
)
_DTYPES = {
    "torch.float32": "float32", "torch.float64": "float64", "torch.float16": "float16", "torch.bfloat16": "bfloat16",
    "torch.int64": "int64", "torch.int32": "int32", "torch.int16": "int16", "torch.int8": "int8",
    "torch.uint8": "uint8", "torch.bool": "bool", "torch.complex64": "complex64", "torch.complex128": "complex128",
}  # fmt: skip


def dtype_ast(dtype: Any) -> ast.expr:
    """``torch.float32``."""
    return E(f"torch.{_DTYPES[str(dtype)]}")


def function(name: str) -> tuple[str, bool] | None:
    """Return where Python finds an op by its name, and whether it is a method; None where it does not."""
    import torch
    import torch.nn.functional as F

    if name in _FUNCTIONS and hasattr(torch, name):
        return f"torch.{name}", False
    for prefix, place in (("linalg_", "linalg"), ("special_", "special"), ("fft_", "fft")):
        rest = name.removeprefix(prefix)
        if rest != name and hasattr(getattr(torch, place), rest):
            return f"torch.{place}.{rest}", False
    if hasattr(torch.Tensor, name):
        return name, True
    if hasattr(torch, name) and callable(getattr(torch, name)):
        return f"torch.{name}", False
    return (f"F.{name}", False) if hasattr(F, name) else None


def by_schema(op: OpCall, name: str | None = None, skip: frozenset[str] = frozenset()) -> ast.expr:
    """Return ``x.name(…)``, ``torch.name(…)`` or ``F.name(…)``; ``name`` may give the function in full.

    Raises a refusal for an op that Python has no name for.
    """
    own = op.rule.op.split(".")[1]
    found = (name, False) if name else function(own)
    if found is None or (own.startswith("_") and not name):
        raise op.refuse("PyTorch has no public function for it")
    function_, method = found
    schema = op.node.target._schema.arguments  # type: ignore[union-attr]
    first = schema[0].name if schema else ""
    if method and not op.is_tensor(first):
        if not name and _in_torch(own):
            function_, method = f"torch.{own}", False
        else:
            raise op.refuse("its first argument is no tensor")
    given = list(schema[1:] if method else schema)
    positional, named = _given(op, given, skip, first)
    if method:
        return call(ast.Attribute(op.expr(first), function_, ast.Load()), *positional, **named)
    return call(function_, *positional, **named)


def _in_torch(name: str) -> bool:
    import torch

    return hasattr(torch, name)


def _given(
    op: OpCall, schema: list[Any], skip: frozenset[str], first: str
) -> tuple[list[ast.expr], dict[str, ast.expr]]:
    positional: list[ast.expr] = []
    named: dict[str, ast.expr] = {}
    for argument in schema:
        value = op.args[argument.name]
        default = argument.default_value if argument.has_default_value() else ...
        if (
            argument.name in _PLACE
            or argument.name in skip
            or (value == default and default is not ...)
        ):
            continue
        written = _value(op, argument.name, value, first)
        after_gap = len(positional) != schema.index(argument)
        if argument.kwarg_only or argument.name in _NAMED or named or after_gap:
            named[argument.name] = written
        else:
            positional.append(written)
    return positional, named


def axes(op: OpCall, dims: Any, name: str = "self") -> Any:
    """Several axes as the target's, all counted from the front; one axis as it is."""
    found = op.axes(dims, name)
    if not isinstance(found, tuple):
        return found
    rank = op.fake(name).dim()
    return tuple(sorted(axis % rank for axis in found))


def _value(op: OpCall, name: str, value: Any, first: str) -> ast.expr:
    if name == "dtype":
        return dtype_ast(value)
    if name in ("dim", "dims", "dim0", "dim1"):
        if op.is_tensor(first):
            return to_ast(axes(op, value, first))
        return to_ast(op.axis_of_result(value)) if isinstance(value, int) else to_ast(value)
    return op.value(value)
