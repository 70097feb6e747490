"""How PyTorch spells each ATen op: the other page of the dictionary.

Most ops are spelled as their schema says (:mod:`.schema`): ``x.sum(dim=-1)``, ``torch.exp(x)``, ``F.relu(x)``. A
record is only needed where a person writes something else: an operator, a subscript, a layer that owns its weights.
As in :class:`diglot.rules.registry.Rule`, a regular record is data, an expression over the arguments' names.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

Emit = Callable[["OpCall"], ast.expr]


@dataclasses.dataclass(frozen=True)
class Spelling:
    """One op in PyTorch's Python; ``layer`` is its form as an item of ``nn.Sequential``."""

    op: str
    torch: str | Emit
    layer: str | Emit | None = None


_SPELLINGS: dict[str, Spelling] = {}


def register(*spellings: Spelling) -> None:
    """Add records. Raises :class:`ValueError` when an op is registered twice."""
    for spelling in spellings:
        if spelling.op in _SPELLINGS:
            raise ValueError(f"{spelling.op} is spelled twice")
        _SPELLINGS[spelling.op] = spelling


def alike(ops: str, torch: str | Emit, layer: str | Emit | None = None) -> None:
    """Register one spelling for each op of a blank-separated list (``relu add.Tensor``)."""
    register(*(Spelling(full_name(op), torch, layer) for op in ops.split()))


def full_name(short: str) -> str:
    """``relu`` -> ``aten.relu.default``; ``add.Tensor`` -> ``aten.add.Tensor``."""
    if short.startswith("diglot."):
        return short
    return f"aten.{short}" if "." in short else f"aten.{short}.default"


@functools.cache
def spellings() -> dict[str, Spelling]:
    """Return every record, by the op's full name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return _SPELLINGS


def write(op: OpCall) -> ast.expr:
    """Return an op as an expression. Raises a refusal where PyTorch's Python has no spelling for it."""
    from diglot.rules.spelling.schema import by_schema

    found = spellings().get(op.rule.op)
    if found is None:
        return by_schema(op)
    return op.template(found.torch) if isinstance(found.torch, str) else found.torch(op)


def as_layer(op: OpCall) -> ast.expr | None:
    """Return an op without weights as an item of ``nn.Sequential``, where there is one."""
    found = spellings().get(op.rule.op)
    if found is None or found.layer is None:
        return None
    return op.template(found.layer) if isinstance(found.layer, str) else found.layer(op)
