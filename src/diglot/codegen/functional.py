"""The other style: one Functional model, every layer where it is applied. Only the batch may vary.

Keras knows no batch size while such a model is built (``ops.shape(x)[0]`` is ``None``), and a layer that is called
on a plain constant is not part of the model. Two small layers that the program carries see to both.
"""

from __future__ import annotations

import ast
import functools
from typing import Any

import torch
from torch import nn

from diglot.codegen import sequences
from diglot.codegen.classes import Classes
from diglot.codegen.expr import text
from diglot.codegen.functional_writers import (
    BlockWriter,
    FunctionalWriter,
    InnerModelWriter,
    model_inputs,
)
from diglot.codegen.functions import FunctionDialect, Functions, dissolve_all, keep_repeated
from diglot.codegen.inner_models import inner_models, own_layers
from diglot.codegen.keras_source import (
    build_function,
    build_sequence,
    docstring,
    finish,
)
from diglot.codegen.labels import Labels
from diglot.codegen.limits import refused
from diglot.codegen.lists import Growing, Lists, Parameter
from diglot.codegen.program import Program
from diglot.codegen.region import RegionWriter
from diglot.codegen.source import (
    Written,
    compose,
    definitions,
    line_map,
    statement_lines,
    structure_ast,
)
from diglot.codegen.statements import Key, Statement
from diglot.errors import Unsupported
from diglot.ir.hub import Call, Hub, is_own
from diglot.passes.living import drop_unread_ends, unread_weights


def write_functional(hub: Hub, model: nn.Module | None, float_dtype: torch.dtype) -> Written:
    """Return the program as one Functional model. Raises :class:`Unsupported` listing every problem."""
    drop_unread_ends(hub)
    if hub.is_sequence:
        dissolve_all(hub, inner_models(hub) | own_layers(hub))
    keep_repeated(hub)
    make = functools.partial(FunctionalProgram, hub, model, float_dtype)
    try:
        program, functions, _ = compose(make, hub, Functions)
    except Unsupported:
        if not dissolve_all(hub):
            raise
        # A weight that two blocks share, for one, can be read where everything is in one place.
        program, functions, _ = compose(make, hub, Functions)
    writer = program.writer(hub.root)
    assert isinstance(writer, FunctionalWriter)
    if hub.is_sequence and len(hub.inputs) == 1 and hub.output_structure == "tensor":
        made = sequences.layers_of(writer)
        if made is not None:
            return _write_sequence(program, functions, made)
    ports = program.live_outputs(hub.root)
    results = {p.name: value for p, value in zip(ports, writer.results, strict=True)}
    outputs = structure_ast(hub.output_structure, results, "")
    last = writer.statements[-1].node if writer.statements else None
    if isinstance(last, ast.Assign) and text(last.targets[0]) == text(outputs):
        writer.statements.pop()
        outputs = last.value
    function = build_function(
        program,
        ast.Constant(None),
        program.root_name,
        writer.statements,
        outputs,
        model_inputs(hub),
    )
    blocks = [made.tree for made in functions.classes]
    source = finish(program, [*blocks, function], docstring(program))
    lines, spans = line_map(source, functions.classes)
    body = definitions(source)["build_model"].body
    lines += statement_lines(writer.statements, body[1 + len(hub.inputs) :])
    return Written(source, program, functions.classes, None, lines, spans)


def _write_sequence(
    program: Program, functions: Classes, made: list[tuple[ast.expr, Statement]]
) -> Written:
    """``model = keras.Sequential([…])``: a line for each layer."""
    layers = [layer for layer, _ in made]
    function = build_sequence(program, layers, program.root_name)
    blocks = [made.tree for made in functions.classes]
    source = finish(program, [*blocks, function], docstring(program))
    own, spans = line_map(source, functions.classes)
    body = definitions(source)["build_model"].body
    construct = next(n.value for n in body if isinstance(n, ast.Assign))
    assert isinstance(construct, ast.Call) and isinstance(construct.args[0], ast.List)
    items = [ast.Expr(e, lineno=e.lineno, end_lineno=e.end_lineno) for e in construct.args[0].elts]
    lines = own + statement_lines([statement for _, statement in made], [*items[1:]])
    return Written(source, program, functions.classes, None, lines, spans)


class PlainLists(Lists):
    """No loop over layers that a list holds: each is applied by a name of its own.

    A model takes its inputs one by one.
    """

    def parameters(self, region: Call) -> list[Parameter]:
        if region.path in self.program.hub.inner_models:
            return [Parameter([port]) for port in self.program.live_inputs(region)]
        return super().parameters(region)

    def growing_at(self, writer: RegionWriter, items: list[Any], position: int) -> Growing | None:
        """None but in a class."""
        return None if writer.in_graph else super().growing_at(writer, items, position)


class FunctionalProgram(Program):
    """A graph of layers, with functions for what it repeats, and classes for layers of the user's own."""

    def __init__(self, hub: Hub, model: nn.Module | None, float_dtype: torch.dtype) -> None:
        super().__init__(hub, model, float_dtype, "functional", FunctionDialect())
        self.problems += refused(self.limits)
        self.lists = PlainLists(self)
        self.labels = Labels(hub)
        self.outside = unread_weights(hub)

    def writer(self, call: Call) -> RegionWriter:
        if call not in self._writers:
            kind = FunctionalWriter if call is self.hub.root else BlockWriter
            kind = InnerModelWriter if call.path in self.hub.inner_models else kind
            kind = RegionWriter if self.is_own(call) else kind
            self._writers[call] = kind(self, call)
            self._writers[call].write()
        return self._writers[call]

    def is_own(self, region: Call) -> bool:
        """Tell whether a region is a layer of the user's own, or in one."""
        return is_own(self.hub, region)

    def target_path(self, region: Call, key: Key | None) -> str:
        """Layers are told apart by name: that of the block, that of the layer in it; in a model that is a layer, below
        the name of that. In a layer of the user's own they are its attributes."""
        if self.is_own(region):
            return super().target_path(region, key)
        parent = self.lexical_parent(region)
        own = self.target_path(parent, self.writer(parent).child_key(region)) if parent else ""
        label = self.labels.of(region.path, key[0]) if key else ""
        between = "." if region.path in self.hub.inner_models else "_"
        return between.join(filter(None, [own, label]))

    def is_sequential(self, region: Call) -> bool:
        """A block is a function, and a model is written as it was."""
        whole = region is self.hub.root or self.is_own(region)
        return whole and super().is_sequential(region)


__all__ = ["Unsupported", "write_functional"]
