"""Changes of dtype."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import call
from diglot.rules.forms import keras_dtype
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _cast(op: OpCall) -> ast.expr:
    """``ops.cast(x, …)``; 64-bit integers are 32-bit ones in Keras, so some casts change nothing."""
    if keras_dtype(op.fake("self").dtype) == keras_dtype(op.fake().dtype):
        return op.expr("self")
    return call("ops.cast", op.expr("self"), op.dtype_ast(op.fake().dtype))


_FLOATS = {"x": "2,3,5"}
_INTS = {"x": "int64[2,3]<7"}
_BOTH = (
    Sample("x.to(torch.int64) * 2", _FLOATS),
    Sample("x.to(torch.bool)", _INTS),
    Sample("x.to(torch.float32) * 0.5", _INTS),
    Sample("(x > 0).to(x.dtype) * x", _FLOATS),
    Sample("x.to(torch.int32) + 1", _INTS),
)

register(
    __name__,
    Rule("aten.to.dtype", _cast, torch="x.to(torch.float32)", noun="x", samples=_BOTH),
    Rule(
        "aten.to.dtype_layout",
        _cast,
        torch="x.to(dtype=torch.float32)",
        noun="x",
        samples=(Sample("torch.ops.aten.to.dtype_layout(x, dtype=torch.float32)", _INTS),),
    ),
    Rule(
        "aten.to.device",
        _cast,
        torch='x.to("cpu", torch.float32)',
        noun="x",
        samples=(Sample('x.to("cpu", torch.bool)', _INTS),),
    ),
    Rule(
        "aten.to.other",
        _cast,
        torch="x.to(y)",
        noun="x",
        samples=(Sample("torch.ops.aten.to.other(x, y) * y", {**_INTS, "y": "2,3"}),),
    ),
    Rule(
        "aten._to_copy.default",
        _cast,
        torch="torch.ops.aten._to_copy(x, dtype=torch.float32)",
        noun="x",
        samples=(Sample("torch.ops.aten._to_copy(x, dtype=torch.float32)", _INTS),),
    ),
    Rule(
        "aten.type_as.default",
        _cast,
        torch="x.type_as(y)",
        noun="x",
        samples=(Sample("x.type_as(y) * y", {**_INTS, "y": "2,3"}),),
    ),
)
