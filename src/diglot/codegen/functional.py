"""The other style: one Functional model, every layer where it is applied. Only the batch may vary."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from diglot.codegen import names
from diglot.codegen.expr import E, call, names_in, to_ast
from diglot.codegen.homes import Home
from diglot.codegen.keras_source import (
    Written,
    build_function,
    docstring,
    finish,
    statement_lines,
    structure_ast,
)
from diglot.codegen.limits import refused
from diglot.codegen.program import Program
from diglot.codegen.region import RegionWriter
from diglot.codegen.statements import Member, Statement, weight_nodes
from diglot.codegen.tree import dissolve
from diglot.errors import Unsupported
from diglot.ir.hub import Call, Hub

if TYPE_CHECKING:
    from diglot.ir.hub import Port


def write_functional(hub: Hub, model: nn.Module | None, float_dtype: torch.dtype) -> Written:
    """Return the program as one Functional model. Raises :class:`Unsupported` listing every problem."""
    for region in reversed(list(hub.root.walk())):
        if region is not hub.root:
            dissolve(hub, region)
    program = FunctionalProgram(hub, model, float_dtype, "functional")
    program.problems += refused(program.limits)
    writer = program.run()
    assert isinstance(writer, FunctionalWriter)
    ports = program.live_outputs(hub.root)
    results = {p.name: value for p, value in zip(ports, writer.results, strict=True)}
    outputs = structure_ast(hub.output_structure, results, "")
    function = build_function(
        program,
        ast.Constant(None),
        program.package,
        writer.statements,
        outputs,
        input_variables(hub),
    )
    source = finish(program, [function], docstring(program))
    body = next(
        n
        for n in ast.parse(source).body
        if isinstance(n, ast.FunctionDef) and n.name == "build_model"
    ).body
    lines = statement_lines(writer.statements, body[1 + len(hub.inputs) :])
    return Written(source, program, [], None, lines, {})


_BATCH = "batch_size_of_the_model"


class FunctionalProgram(Program):
    """A program without classes."""

    def writer(self, call: Call) -> RegionWriter:
        if call not in self._writers:
            self._writers[call] = FunctionalWriter(self, call)
            self._writers[call].write()
        return self._writers[call]

    def target_path(self, region: Call, key: tuple[str, int | None] | None) -> str:
        return key[0] if key else ""


class FunctionalWriter(RegionWriter):
    """Writes ``x = layers.Dense(…, name="fc")(x)``."""

    def __init__(self, program: Program, region: Call) -> None:
        super().__init__(program, region)
        self.results: list[ast.expr] = []
        self._applied: dict[tuple[str, int | None], int] = {}
        self._batch_readers: list[fx.Node | None] = []
        self._variables: dict[tuple[str, int | None], str] = {}

    def _refuse_sizes(self) -> None:
        """No Python of a Functional model runs when it is called."""

    def _parameter(self, port: Port) -> None:
        index = self.program.hub.inputs.index(port.value)
        name = input_variables(self.program.hub)[index]
        self.params.append(name)
        self.holder[name] = port.node
        self.left[port.node] = 1 << 20  # keras.Model reads it at the end
        self.exprs[port.node] = ast.Name(name, ast.Load())

    def key(self, path: str) -> tuple[str, int | None]:
        """Layers are told apart by name: the module's whole path."""
        return names.identifier(path.replace(".", "_")), None

    def attribute(self, key: tuple[str, int | None]) -> ast.expr:
        """The layer itself where it is applied; a variable where it is applied several times."""
        if key in self._variables:
            return ast.Name(self._variables[key], ast.Load())
        member = self.members[key]
        made = copy.deepcopy(member.construct)
        assert isinstance(made, ast.Call)
        times = self._applied.get(key, 0) + 1
        self._applied[key] = times
        _name_layer(made, key[0] if times == 1 else f"{key[0]}_{times}")
        if not self._shared(member):
            return made
        variable = names.unique(names.local(key[0]), self.holder)
        self.holder[variable] = "layer"
        self._variables[key] = variable
        self.statements.append(Statement(ast.Assign([ast.Name(variable, ast.Store())], made)))
        return ast.Name(variable, ast.Load())

    def _shared(self, member: Member) -> bool:
        nodes = [n for value in member.weights.values() for n in weight_nodes(value)]
        return any(len(n.users) > 1 for n in nodes)

    def float_dtype_ast(self) -> ast.expr:
        return E("keras.config.floatx()")

    def size(self, size: Any, at: fx.Node | None) -> ast.expr:
        """A Functional model knows every size but the batch: who really reads that is refused at the end."""
        made = super().size(size, at)
        if isinstance(made, ast.Constant):
            return made
        self._batch_readers.append(at)
        return ast.Name(_BATCH, ast.Load())

    def write(self) -> RegionWriter:
        """Write the body; ops that a rule did without (an RNN's first state) may have read the batch."""
        super().write()
        trees = [*(s.node for s in self.statements), *self.results]
        if any(_BATCH in names_in(tree) for tree in trees):
            hint = "this needs the size of the batch, which a Functional model does not know"
            for node in self._batch_readers:
                if node is not None:
                    self.program.problem(self, node, f"{hint}; use style='layers'")
        return self

    def weight(self, node: fx.Node, shape: tuple[int, ...], steps: list[Any]) -> ast.expr:
        """Declare a weight that no layer holds: a layer that returns it."""
        parameter = self.program.hub.parameters[node]
        key = (names.identifier(parameter.name.replace(".", "_")), None)
        if key in self._variables:
            return ast.Name(self._variables[key], ast.Load())
        self.program.helpers.add("Parameter")
        options: dict[str, Any] = {}
        if not parameter.value.dtype.is_floating_point:
            options["dtype"] = "bool" if parameter.value.dtype == torch.bool else "int32"
        if not parameter.trainable:
            options["trainable"] = False
        construct = call("Parameter", shape, **options, name=key[0])
        self.members[key] = Member(construct, parameter.name, kind="weight")
        home = Home(self.call, key, "value", (node,), steps)
        self.program.weights.homes[(self.call.path, key, "value")] = home
        self.program.weights.of_node[node] = home
        variable = names.unique(names.local(self.program.weights.short_name(node)), self.holder)
        self.holder[variable] = "weight"
        self._variables[key] = variable
        made = call(construct, self._first_input())
        self.statements.append(Statement(ast.Assign([ast.Name(variable, ast.Store())], made)))
        return ast.Name(variable, ast.Load())

    def _first_input(self) -> ast.expr:
        """Name any living tensor: a Functional layer must be called on one."""
        for name, held in self.holder.items():
            if isinstance(held, fx.Node):
                return ast.Name(name, ast.Load())
        return ast.Name(self.params[0], ast.Load())

    def _return(self) -> None:
        self.results = [self.read(p.value) for p in self.program.live_outputs(self.call)]

    def _read_at_end(self) -> set[str]:
        return {name for result in self.results for name in names_in(result)}


def input_variables(hub: Hub) -> list[str]:
    """Name the variables of the inputs, which must outlive the author's reuse of ``x``."""
    return ["inputs"] if len(hub.inputs) == 1 else [names.local(n) for n in hub.input_names]


def _name_layer(made: ast.Call, name: str) -> None:
    if not any(k.arg == "name" for k in made.keywords):
        made.keywords.append(ast.keyword("name", to_ast(name)))


__all__ = ["Unsupported", "write_functional"]
