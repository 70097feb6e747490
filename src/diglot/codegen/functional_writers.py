"""How a region of a Functional program is written: the whole, a model that is a layer of it, a block of functions."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from diglot.codegen import author, labels, names
from diglot.codegen.classes import Dissolve
from diglot.codegen.expr import E, call, names_in, text, to_ast
from diglot.codegen.homes import Home
from diglot.codegen.keras_source import input_variables
from diglot.codegen.region import RegionWriter
from diglot.codegen.statements import Key, Member, Statement, through, weight_nodes
from diglot.ir.hub import Call, Frame, Hub, is_call, is_mark, target_name
from diglot.ir.sizes import is_static, shape_of

if TYPE_CHECKING:
    from diglot.codegen.functional import FunctionalProgram
    from diglot.codegen.program import Program
    from diglot.ir.hub import Port

_NAMED = 20  # characters of ``, name=f"{name}_…"``
_TABLE = 100  # characters
_TABLES = ("embeddings", "reverse_embeddings")
_LINEAR = "aten.linear.default"
_BATCH = "batch_size_of_the_model"
#: Ops whose result is the same for every item of the batch, where no argument is a batch.
_SAME_ROWS = (
    "aten.expand.", "aten.expand_as.", "aten.broadcast_to.", "aten.repeat.", "aten.tile.", "aten.full.", "aten.zeros.",
    "aten.ones.", "aten.new_full.", "aten.new_zeros.", "aten.new_ones.",
)  # fmt: skip


class FunctionalWriter(RegionWriter):
    """Writes ``x = layers.Dense(…, name="fc")(x)``."""

    program: FunctionalProgram
    nested_length = 40  # a layer is as long as a line
    in_graph = True

    def __init__(self, program: Program, region: Call) -> None:
        super().__init__(program, region)
        self.plain = self.plain or program.hub.is_sequence
        self.results: list[ast.expr] = []
        self.holder["weights"] = "argument"  # of build_model
        self._applied: dict[Key, int] = {}
        self._batch_readers: list[fx.Node | None] = []
        self._variables: dict[Key, str] = {}
        self._from_inputs: dict[fx.Node, bool] = {}
        self._own = set(region.nodes())
        self._tables: dict[str, ast.expr] = {}

    def _refuse_sizes(self) -> None:
        """No Python of a Functional model runs when it is called."""

    def _parameter(self, port: Port) -> None:
        index = self.program.hub.inputs.index(port.value)
        self._input(port, model_inputs(self.program.hub)[index])

    def _input(self, port: Port, name: str) -> None:
        self.params.append(name)
        self.holder[name] = port.node
        self.left[port.node] = 1 << 20  # keras.Model reads it at the end
        self.exprs[port.node] = ast.Name(name, ast.Load())

    def key(self, path: str) -> Key:
        """Layers are told apart by name: the module's whole path."""
        return labels.part(path), None

    def attribute(self, key: Key) -> ast.expr:
        """The layer itself where it is applied; a variable where it is applied several times."""
        if key in self._variables:
            return ast.Name(self._variables[key], ast.Load())
        member = self.members[key]
        if member.child is not None:  # a block, whose function is not known yet
            return super().attribute(key)
        made = copy.deepcopy(member.construct)
        assert isinstance(made, ast.Call)
        times = self._applied.get(key, 0) + 1
        self._applied[key] = times
        label = self.program.labels.of(self.call.path, key[0])
        _name_layer(made, label if times == 1 else f"{label}_{times}")
        if not self._shared(member):
            return made
        variable = names.unique(names.local(label), self.holder)
        self.holder[variable] = "layer"
        self._variables[key] = variable
        self.statements.append(Statement(ast.Assign([ast.Name(variable, ast.Store())], made)))
        return ast.Name(variable, ast.Load())

    def _shared(self, member: Member) -> bool:
        nodes = [n for value in member.weights.values() for n in weight_nodes(value)]
        both = set(_TABLES) <= member.weights.keys()
        return both or any(sum(u in self._own for u in n.users) > 1 for n in nodes)

    def float_dtype_ast(self) -> ast.expr:
        return E("keras.config.floatx()")

    def size(self, size: Any, at: fx.Node | None) -> ast.expr:
        """A Functional model knows every size but the batch: who really reads that is refused at the end."""
        made = super().size(size, at)
        if isinstance(made, ast.Constant):
            return made
        self._batch_readers.append(at)
        return ast.Name(_BATCH, ast.Load())

    def _define(self, node: fx.Node, made: ast.expr, noun: str) -> None:
        """Write what an op computes; a layer learns the size of the batch where the op asks for it."""
        if _BATCH in names_in(made):
            made = self._for_each_item(node, made) or made
        made = _Subscripts().visit(made)
        super()._define(node, _Operators(self._is_symbolic).visit(made), noun)

    def _for_each_item(self, node: fx.Node, made: ast.expr) -> ast.expr | None:
        """Return an expression without the batch's size for a value whose rows are all alike."""
        if not target_name(node).startswith(_SAME_ROWS):
            return None
        shape = shape_of(node.meta["val"])
        layout = node.meta.get("layout")
        size = shape[0]
        if is_static(size) or shape.count(size) != 1 or (layout and layout[0] != 0):
            return None
        given = [shape_of(n.meta["val"]) for n in _tensors(node)]
        if any(size in s for s in given):
            if [len(s) for s in given] != [len(shape)] or given[0][0] != size or layout:
                return None
            times = [1 if a == b else b for a, b in zip(given[0], shape, strict=True)]
            return (
                call("ops.tile", made.args[0], tuple(times)) if isinstance(made, ast.Call) else None
            )
        found = self._near(size, node) or self._far(size)
        if found is None or found[1] != 0:
            return None
        if isinstance(made, ast.Call) and given == [(1, *shape[1:])]:
            one = made.args[0]  # repeated along the batch and nowhere else
        else:
            one = _Replaced(_BATCH, 1).visit(made)
        self.program.helpers.add("RepeatBatch")
        return E("RepeatBatch()(one, x)", one=one, x=self.exprs[found[0]])

    def read(self, node: fx.Node) -> ast.expr:
        """Return a value; for a layer, a tensor of the model even where it follows from no input."""
        if node in self.program.hub.constants and node not in self.exprs:
            self._name_constant(node)
        made = super().read(node)
        if self._is_layer_on_constants(self.at) and node not in self.program.hub.parameters:
            self.program.helpers.add("Constant")
            return E("Constant()(value, x)", value=made, x=self._first_input())
        return made

    def _name_constant(self, node: fx.Node) -> None:
        """Write a table of several lines once, in a variable."""
        value = self.program.hub.constants[node]
        if value.dim() == 0:
            return
        made = self.program.constants.expr(self, node)
        written = text(made)
        if len(written) <= _TABLE:
            return
        if written in self._tables:
            self.exprs[node] = self._tables[written]
            return
        self._assign(node, made, None)
        self.left[node] = 1 << 20  # whoever else reads it
        self._tables[written] = self.exprs[node]

    def _is_layer_on_constants(self, node: fx.Node | Any) -> bool:
        weights = self.program.hub.parameters
        given = _tensors(node) if isinstance(node, fx.Node) else []
        rest = [n for n in given if n not in weights]
        return len(rest) < len(given) and not any(map(self._follows_from_inputs, rest))

    def _follows_from_inputs(self, node: fx.Node) -> bool:
        """Tell whether a value is a tensor of the model: made from an input, or from a weight."""
        known = self._from_inputs.get(node)
        if known is None:
            roots = node in self.program.hub.inputs or node in self.program.hub.parameters
            known = roots or any(self._follows_from_inputs(n) for n in node.all_input_nodes)
            self._from_inputs[node] = known
        return known

    def _is_symbolic(self, tree: ast.expr) -> bool:
        """Tell whether an expression reads a tensor of the model, rather than constants and sizes alone."""
        read = names_in(tree)
        held = [self.holder.get(name) for name in read]
        made = any(isinstance(n, fx.Node) and self._follows_from_inputs(n) for n in held)
        return made or "weight" in held or "self" in read  # a layer's result; a layer of a block's

    def _nests(self, node: fx.Node, made: ast.expr) -> bool:
        """A layer has a line of its own, and so does a block; but for the model's only result."""
        if self.plain:
            return False
        whole = self._whole_results()
        if len(whole) == 1 and through(whole[0]) is node:
            return self._read_here(node)
        members = [self.members[n.attr, None] for n in ast.walk(made) if _is_member(self, n)]
        length = len(text(made)) + sum(len(text(m.construct)) + _NAMED for m in members)
        short = length <= self.nested_length and not any(m.child for m in members)
        return short and super()._nests(node, made)

    def _whole_results(self) -> list[fx.Node]:
        """What the model gives, where this is one."""
        return self.program.hub.outputs

    def _child_arguments(
        self, child: Call, writer: RegionWriter
    ) -> tuple[list[ast.expr], dict[str, ast.expr]]:
        """A model takes several inputs as one list."""
        given, named = super()._child_arguments(child, writer)
        if child.path in self.program.hub.inner_models and len(given) > 1:
            return [ast.List(given, ast.Load())], named
        return given, named

    def noun(self, node: fx.Node, noun: str) -> str:
        """A model's name is for the model."""
        is_model = self.leaf_path(node) in self.program.hub.inner_models and is_mark(node)
        return "x" if is_model else super().noun(node, noun)

    def _author_names(self, item: fx.Node | Call) -> tuple[list[str | None] | None, Frame | None]:
        """What nn.Sequential calls its values is nobody's name for them."""
        found, frame = super()._author_names(item)
        return (None if frame and author.is_of_torch(frame) else found), frame

    def reversible(self, weight: fx.Node) -> bool:
        """Tell whether an embedding's table is a Linear's weight as well: a layer that runs both ways."""
        return any(is_call(user, {_LINEAR}) and user.args[1] is weight for user in weight.users)

    def reverse_of(self, weight: fx.Node) -> fx.Node | None:
        """Return what was the second weight of one layer in the Keras model that the source comes from."""
        hub = self.program.hub
        name = hub.reverses.get(hub.parameters[weight].name)
        found = next((n for n, p in hub.parameters.items() if p.name == name), None)
        users = list(found.users) if found is not None else []
        fits = [
            is_call(u, {_LINEAR}) and u.args[1] is found and u in self.call.items for u in users
        ]
        return found if users and all(fits) else None

    def reversed_layer(self, weight: fx.Node) -> ast.expr | None:
        """Return the embedding layer that holds a Linear's weight."""
        home = self.program.weights.of_node.get(weight)
        if home is None or home.attribute not in _TABLES or home.key not in self.members:
            return None
        made = self.members[home.key].construct
        return self.attribute(home.key) if text(made).startswith("layers.Reversible") else None

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
        known = [self.relative(name) for name in self.program.weights.names_of(node)]
        path = next(filter(None, known), None)
        readers = {self.program.hub.call_of[user].path for user in node.users}
        if len(readers) > 1 and self.call is not self.program.hub.root:
            raise Dissolve(self.call)  # one layer holds it, which the model knows
        if path is None:  # of the whole model, and no block's own
            return self.read_outside(node)
        key = self.key(path)
        if key in self._variables:
            return ast.Name(self._variables[key], ast.Load())
        self.program.helpers.add("Parameter")
        options: dict[str, Any] = {}
        if not parameter.value.dtype.is_floating_point:
            options["dtype"] = "bool" if parameter.value.dtype == torch.bool else "int32"
        if not parameter.trainable:
            options["trainable"] = False
        perm = list(steps[0][1]) if steps else None
        initializer = self.program.initial.initializer(node, perm, lambdas=False)
        if text(initializer) != "'zeros'":
            options = {"initializer": initializer, **options}
        construct = call("Parameter", shape, **options)
        self.members[key] = Member(construct, path, kind="weight")
        home = Home(self.call, key, "value", (node,), steps)
        self.program.weights.homes[(self.call.path, key, "value")] = home
        self.program.weights.of_node[node] = home
        made = call(self.attribute(key), self._first_input())
        variable = names.unique(names.local(self.program.weights.short_name(node)), self.holder)
        self.holder[variable] = "weight"
        self._variables[key] = variable
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


class InnerModelWriter(FunctionalWriter):
    """Writes the body of a model that is a layer of another."""

    def __init__(self, program: Program, region: Call) -> None:
        super().__init__(program, region)
        self.plain = program.hub.inner_models[region.path].is_sequence

    def write(self) -> RegionWriter:
        """Write the body. Raises :class:`Dissolve` where it is no model of its own."""
        RegionWriter.write(self)
        trees = [*(s.node for s in self.statements), *self.results]
        if self.extra or any(_BATCH in names_in(tree) for tree in trees):
            raise Dissolve(self.call)
        return self

    def _parameter(self, port: Port) -> None:
        one = len(self.program.live_inputs(self.call)) == 1
        name = names.local(self.program.port_name(self.call, port))
        self._input(port, "inputs" if one else names.unique(name, self.holder))

    def _whole_results(self) -> list[fx.Node]:
        return [port.value for port in self.program.live_outputs(self.call)]


class BlockWriter(FunctionalWriter):
    """Writes what becomes a function: ``self.conv1(x)``, until the function's parameters are known."""

    _parameter = RegionWriter._parameter
    _return = RegionWriter._return
    _read_at_end = RegionWriter._read_at_end
    attribute = RegionWriter.attribute
    _child_arguments = RegionWriter._child_arguments

    def _whole_results(self) -> list[fx.Node]:
        return []

    def write(self) -> RegionWriter:
        """Write the body. Raises :class:`Dissolve` where only the whole model knows a size that it needs."""
        RegionWriter.write(self)
        if any(_BATCH in names_in(s.node) for s in self.statements):
            raise Dissolve(self.call)
        return self


def model_inputs(hub: Hub) -> list[str]:
    """Name the variables of the inputs, which must outlive the author's reuse of ``x``."""
    return ["inputs"] if len(hub.inputs) == 1 else input_variables(hub)


def _tensors(node: fx.Node) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]


def _is_member(writer: RegionWriter, node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and (node.attr, None) in writer.members


class _Subscripts(ast.NodeTransformer):
    """``x[None]`` and ``x[1:]``: a tensor of a Functional model takes only numbers and tuples."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.slice, ast.Constant) and node.slice.value is None:
            return E("ops.expand_dims(x, axis=0)", x=node.value)
        if isinstance(node.slice, ast.Slice) and isinstance(node.value, ast.Name):
            node.slice = ast.Tuple([node.slice, ast.Constant(...)], ast.Load())
        return node


_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide", ast.FloorDiv: "floor_divide",
    ast.Mod: "mod", ast.Pow: "power", ast.MatMult: "matmul", ast.BitAnd: "logical_and", ast.BitOr: "logical_or",
    ast.BitXor: "logical_xor", ast.Lt: "less", ast.LtE: "less_equal", ast.Gt: "greater", ast.GtE: "greater_equal",
}  # fmt: skip


class _Operators(ast.NodeTransformer):
    """``ops.less(ops.arange(5), x)``: a backend's own tensor on the left has no operator for one of the model's."""

    def __init__(self, is_symbolic: Callable[[ast.expr], bool]) -> None:
        self._is_symbolic = is_symbolic

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._function(node, node.left, node.op, node.right)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return self._function(node, node.left, node.ops[0], node.comparators[0])

    def _function(
        self, node: ast.expr, left: ast.expr, operator: ast.AST, right: ast.expr
    ) -> ast.expr:
        name = _OPERATORS.get(type(operator))
        number = not any(isinstance(n, (ast.Name, ast.Call)) for n in ast.walk(left))
        if name is None or number or self._is_symbolic(left) or not self._is_symbolic(right):
            return node
        return call(f"ops.{name}", left, right)


class _Replaced(ast.NodeTransformer):
    """Puts a number in the place of a name."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(self.value) if node.id == self.name else node


def _name_layer(made: ast.Call, name: str) -> None:
    if not any(k.arg == "name" for k in made.keywords):
        made.keywords.append(ast.keyword("name", to_ast(name)))


__all__ = ["BlockWriter", "FunctionalWriter", "InnerModelWriter", "model_inputs"]
