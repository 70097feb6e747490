"""What differs between writing a program in Keras and writing it in PyTorch.

The writers of regions, classes and loops know neither framework: they ask the program's dialect how an op, a size,
a weight, a list of layers or a class is spelled. One instance serves one program.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import fx

    from diglot.codegen.opcall import OpCall
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter
    from diglot.codegen.statements import Member, Statement
    from diglot.rules.registry import Rule


class Dialect(Protocol):
    """One of the two languages."""

    forward: str  # the method that computes
    holds_weights: bool  # whether a layer has its weights before it is called
    limited: bool  # whether the program itself refuses sizes for which it does not hold
    positional: dict[str, tuple[str, ...]]  # what the positional arguments of a layer are called
    source_slots: dict[str, tuple[str, ...]]  # what the author's layer calls one of these arguments

    def rule(self, program: Program, node: fx.Node) -> Rule | None:
        """The record of a node's op, or None where it cannot be written."""
        ...

    def write(self, op: OpCall) -> ast.expr:
        """An op as an expression. Raises Refusal with the reason where it has none."""
        ...

    def as_layer(self, op: OpCall) -> ast.expr | None:
        """An op without weights as a layer of a Sequential, where there is such a layer."""
        ...

    def stands_apart(self, program: Program, member: Member) -> bool:
        """Whether a layer needs a line of its own beside its construction, which a sequence has no place for."""
        ...

    def class_name(self, name: str) -> str:
        """A name for a class of the program."""
        ...

    def attribute(self, name: str) -> str:
        """A name that an attribute of a layer may have."""
        ...

    def is_pure(self, function: str) -> bool:
        """Whether calling a function (its text) only computes a value."""
        ...

    def size(self, value: ast.expr, axis: int) -> ast.expr:
        """The size of a tensor along an axis."""
        ...

    def extreme(self, kind: str) -> str:
        """A template over ``a`` and ``b`` for the ``Min`` or ``Max`` of two sizes."""
        ...

    def transposed(self, weight: ast.expr, axes: list[int]) -> ast.expr:
        """A weight with its axes in another order."""
        ...

    def constant(
        self, writer: RegionWriter, node: fx.Node, value: torch.Tensor, wanted: torch.dtype
    ) -> ast.expr:
        """A constant of rank 1 or more, of the dtype `wanted`."""
        ...

    def weight(
        self,
        program: Program,
        node: fx.Node,
        name: str,
        shape: tuple[int, ...],
        perm: list[int] | None,
    ) -> ast.expr:
        """What the attribute ``name`` that holds a weight is set to; ``perm`` is the order of its stored axes."""
        ...

    def mode(self) -> ast.expr:
        """Whether the model trains."""
        ...

    def trained(
        self, writer: RegionWriter, construct: ast.expr, weights: list[fx.Node]
    ) -> ast.expr:
        """A layer's construction, which says whether its weights are trained where the language has it say so."""
        ...

    def whole(self, program: Program, path: str, construct: ast.expr) -> ast.expr:
        """The construction of a module, which says so where no weight of it is trained."""
        ...

    def keep(self, buffer: ast.expr, value: ast.expr, *, trains: bool) -> ast.stmt:
        """A value that a buffer, or a weight that trains, holds from now on, as a statement."""
        ...

    def listed(self, items: ast.expr) -> ast.expr:
        """A list of layers, as an attribute."""
        ...

    def keyed(self, items: dict[str, ast.expr]) -> ast.expr:
        """A dict of layers, as an attribute."""
        ...

    def absent(self) -> ast.expr:
        """What keeps the place of a list's item that nothing reads."""
        ...

    def rows(self, items: list[ast.expr]) -> list[ast.expr]:
        """The items of a list of layers, as a person writes those that follow each other."""
        ...

    def parameters(
        self, params: dict[str, list[Any]], places: dict[int, str], instances: list[Instance]
    ) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """The parameters of a class (values by instance) and the constants they stand for, named and in order."""
        ...

    def sequence(
        self, names: list[str], items: list[ast.expr], listed: ast.expr, whole: bool
    ) -> ast.expr:
        """Layers applied one after the other; ``names`` are the source's, below the container, and ``listed`` is
        the list of the items as a person writes it (a comprehension where all are alike). ``whole`` says that the
        container stays, even with one item."""
        ...

    def sequence_place(self, place: int, names: list[str], whole: bool) -> str:
        """The path, below a sequence, of its item at a place."""
        ...

    def merge(self, instances: list[Instance]) -> None:
        """Give forms of one class that differ by a part some lack the same form, in place."""
        ...

    def frozen(self, program: Program, instance: Instance) -> str:
        """What a class says of weights that are not trained; instances of one class say the same."""
        ...

    def tree(
        self,
        program: Program,
        name: str,
        params: list[str],
        inits: list[tuple[str, ast.expr]],
        body: list[Statement],
        first: Instance,
    ) -> ast.ClassDef:
        """A class with its constructor and its computing method."""
        ...
