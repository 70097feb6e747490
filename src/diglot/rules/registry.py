"""The bilingual dictionary: one record for each ATen op.

A regular op is data only: ``keras="ops.relu(self)"`` is a Python expression in which every name that is an
argument of the ATen schema stands for that argument (``dim`` becomes the axis in the target's layout). An
irregular op gives a function ``(call) -> ast.expr``; see :class:`diglot.codegen.opcall.OpCall` for what a call
offers. Nothing here imports a framework.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall

Emit = Callable[["OpCall"], ast.expr]

#: How an op treats the layout of its tensors (see ``passes/layout``).
LAYOUTS = (
    "elementwise",
    "spatial",
    "axis",
    "concat",
    "last",
    "logical",
    "reshape",
    "permute",
    "source",
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """A use of the op in PyTorch: an expression over the named inputs.

    ``inputs`` gives each tensor as ``"2,3,5"`` (floats), ``"int64[2,3]<7"`` or ``"bool[2,3]"``; sizes pairwise
    different. ``module`` may name a ``torch.nn`` module, called as ``m``.
    """

    torch: str
    inputs: dict[str, str]
    module: str | None = None
    channels_last: bool = False  # also tried inside a convolutional net, where the layout is NHWC


@dataclasses.dataclass(frozen=True)
class Rule:
    """One op in both languages."""

    op: str
    keras: str | Emit
    torch: str = ""
    layout: str = "elementwise"
    layer: str | Emit | None = None  # how it is written as a layer, for keras.Sequential
    noun: str = ""  # a name for its result where the author gave none
    refuse: Callable[[OpCall], str | None] | None = None
    topic: str = ""  # the false friend's row
    note: str = ""  # in what the two languages differ
    samples: tuple[Sample, ...] = ()
    family: str = ""
    weights: tuple[str, ...] = ()  # names of the arguments that are weights when the op is a layer
    effect: bool = False  # it is a statement of its own: nobody reads its result
    result: int | None = None  # for ops that return a tuple, of which only one part is translated


_REGISTRY: dict[str, Rule] = {}


def register(family: str, *rules: Rule) -> None:
    """Add rules. Raises :class:`ValueError` when an op is registered twice or a layout is unknown."""
    for rule in rules:
        if rule.op in _REGISTRY:
            raise ValueError(
                f"{rule.op} is registered twice: in {_REGISTRY[rule.op].family} and {family}"
            )
        if rule.layout not in LAYOUTS:
            raise ValueError(f"{rule.op}: layout {rule.layout!r}, expected one of {LAYOUTS}")
        _REGISTRY[rule.op] = dataclasses.replace(rule, family=family.rpartition(".")[2])


def same(ops: str, **fields) -> tuple[Rule, ...]:
    """Return one rule for each op of a blank-separated list, alike in everything else."""
    return tuple(Rule(op, **fields) for op in ops.split())


def registry() -> dict[str, Rule]:
    """Return every rule, by the op's full name (``aten.relu.default``)."""
    from diglot import rules

    rules.load()
    return _REGISTRY
