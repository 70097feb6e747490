"""Noise that PyTorch's source fills a tensor with in place, and what training alone does."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.rules.spelling import alike

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _normal(op: OpCall) -> ast.expr:
    made = E("torch.randn_like(x)", x=op.expr("self"))
    mean, std = op.get("mean", 0.0), op.get("std", 1.0)
    made = made if std == 1 else E("n * y", n=op.value(std), y=made)
    return made if mean == 0 else E("n + y", n=op.value(mean), y=made)


def _uniform(op: OpCall) -> ast.expr:
    made = E("torch.rand_like(x)", x=op.expr("self"))
    low, high = op.get("from", 0.0), op.get("to", 1.0)
    made = made if high - low == 1 else E("n * y", n=op.value(high - low), y=made)
    return made if low == 0 else E("n + y", n=op.value(low), y=made)


alike("normal_functional", _normal)
alike("uniform", _uniform)
alike("diglot.by_mode.default", "(training if self.training else evaluation)")
