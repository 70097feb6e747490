"""One region of the call tree -> the body of one ``call`` method.

Statements are the author's: a value gets a variable where the author assigned one, under the author's name, and
is written in place where the author nested it.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import names
from diglot.codegen.branches import Branch, branched
from diglot.codegen.expr import E, names_in, text
from diglot.codegen.limits import checks
from diglot.codegen.lists import ListWriter
from diglot.codegen.opcall import OpCall, Refusal
from diglot.codegen.region_branches import BranchWriter
from diglot.codegen.region_calls import CallWriter
from diglot.codegen.region_effects import EffectWriter
from diglot.codegen.region_layers import LayerWriter
from diglot.codegen.region_names import NameWriter
from diglot.codegen.region_parts import PartWriter
from diglot.codegen.region_sizes import SizeWriter
from diglot.codegen.statements import (
    Key,
    Member,
    Statement,
    flat,
    is_pure,
    through,
)
from diglot.ir.hub import Call, Frame, Port, is_call, is_mark

if TYPE_CHECKING:
    from diglot.codegen.program import Program

_SLICE = {"aten.slice.Tensor"}


class RegionWriter(
    NameWriter,
    SizeWriter,
    LayerWriter,
    CallWriter,
    PartWriter,
    ListWriter,
    EffectWriter,
    BranchWriter,
):
    """Writes one region. ``members`` are the attributes it declares, ``statements`` its body."""

    nested_length = 110
    """Characters of what is written inside another expression, at most."""
    in_graph = False
    """Whether the statements make a graph of layers, as those of a Functional model do."""

    def __init__(self, program: Program, region: Call) -> None:
        self.program = program
        self.call = region
        self.members: dict[Key, Member] = {}
        self.statements: list[Statement] = []
        self.params: list[str] = []
        self.returns: list[fx.Node] = []
        self.exprs: dict[fx.Node, ast.expr] = {}
        self.inline: dict[fx.Node, ast.expr] = {}
        self.holder: dict[str, fx.Node | str] = {}
        self.left: dict[fx.Node, int] = {}
        self.extra: list[
            tuple[Any, str]
        ] = []  # values (or dynamic sizes) that come around the arguments
        self.plain = program.is_sequential(
            region
        )  # every value gets a variable: the layers are read off them
        self.sizes: dict[Any, str] = {}
        self.lists: dict[str, list[fx.Node]] = {}  # variables that hold lists of values
        self.series: dict[str, tuple[str, int]] = {}  # numbered children that became a list
        self.waiting: dict[str, fx.Node] = {}  # weights that are assigned before their layers
        self.used_rules: list[str] = []
        self.reads_training = False
        self.at: Any = None  # the item being written
        self._prefix = (
            len(self._frames_of_call(region))
            if region is not program.hub.root
            else self._root_prefix()
        )

    @property
    def inherited(self) -> Key | None:
        """The layer that the region's class is a subclass of; most are of none."""
        return None

    # --- running ---------------------------------------------------------------------------------------

    def write(self) -> RegionWriter:
        """Write parameters, statements and the return."""
        self._count_uses()
        for parameter in self.program.lists.parameters(self.call):
            if parameter.stem:
                self.list_parameter(parameter)
            else:
                self._parameter(parameter.ports[0])
        for name in self.program.function_parameters(self.call):
            self.params.append(names.local(name))
            self.holder[names.local(name)] = name
        if self.call is self.program.hub.root:
            self._refuse_sizes()
        plain = self.in_graph or self.call.function
        self._items(self.call.items if plain else branched(self.call, self._made_late()))
        self._return()
        self.settle_waiting()
        self._drop_unread()
        return self

    def _made_late(self) -> set[fx.Node]:
        """The weights of layers that make them when they are first called: none is the region's own."""
        if self.program.dialect.holds_weights:
            return set()
        held = self.program.hub.parameters.items()
        return {node for node, p in held if p.name.rpartition(".")[0] != self.call.path}

    def _refuse_sizes(self) -> None:
        """Begin with checks on the sizes for which the program does not hold."""
        for port in self.call.inputs:
            for limit in self.program.limits:
                if limit.input is port.value:
                    for check in checks(limit, self.exprs[port.node]):
                        self.push(check, None)

    def _drop_unread(self) -> None:
        """Drop values (sizes, initial states) that were made for an op whose rule did without them."""
        kept: list[Statement] = []
        read = self._read_at_end()
        for statement in reversed(self.statements):
            node = statement.node
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if (
                isinstance(target, ast.Name)
                and target.id not in read
                and is_pure(node.value, self.program.dialect)
            ):
                continue
            read |= (
                names_in(node)
                if target is None or not isinstance(target, ast.Name)
                else names_in(node.value)
            )
            kept.append(statement)
        self.statements = kept[::-1]

    def _read_at_end(self) -> set[str]:
        """Return the variables that are read after the last statement."""
        return set()

    def _parameter(self, port: Port) -> None:
        name = names.local(self.program.port_name(self.call, port))
        if name in self.holder:
            name = names.unique(name, self.holder)
        self.params.append(name)
        self.holder[name] = port.node
        self.exprs[port.node] = ast.Name(name, ast.Load())

    def _count_uses(self) -> None:
        inside = set(self.call.nodes())
        for node in inside:
            count = 0
            for user in node.users:
                if user in inside or is_mark(node):
                    count += sum(1 for a in user.all_input_nodes if a is node) or 1
                    again = [a for a in flat((user.args, user.kwargs)) if a is node]
                    count += max(0, len(again) - 1)
            # A result without a mark, as a mask that tensors carry with them, is read at the end.
            count += 0 if is_mark(node) else sum(p.node is node for p in self.call.outputs)
            self.left[node] = count

    def _items(self, items: list[Any]) -> None:
        position = 0
        while position < len(items):
            item = items[position]
            self.at = item
            if isinstance(item, Branch):
                self.branch(item)
            elif isinstance(item, Call):
                grown = self.program.lists.growing_at(self, items, position)
                if grown:
                    self.grow(grown)
                    position = items.index(grown.calls[-1]) + 1
                    continue
                run = self.program.loops.run_at(self, items, position)
                if run:
                    position += self._loop(run)
                    continue
                self._child(item)
            elif not is_mark(item):
                self._op(item)
            elif item not in self.exprs:
                self._own_mark(item)
            position += 1

    def _own_mark(self, node: fx.Node) -> None:
        """An output mark of this region, or a mark of a dissolved one: the value itself."""
        if node in {p.node for p in self.call.outputs}:
            return
        self._alias(node, node.args[0])

    def _alias(self, node: fx.Node, source: fx.Node) -> None:
        """Let a node stand for another's value; an unread inline expression moves over."""
        if source in self.inline:
            self.inline[node] = self.inline.pop(source)
            self.left[source] = 0
            if self.left.get(node, 0) > 1:
                self._assign(node, self.inline.pop(node), None)
            return
        self.exprs[node] = self.read(source)
        # the alias reads the same variable: the variable lives as long as the alias does
        root = self._root_value(source)
        self.left[root] = self.left.get(root, 0) + self.left.get(node, 0)
        self.program.alias[node] = root

    def _root_value(self, node: fx.Node) -> fx.Node:
        while node in self.program.alias:
            node = self.program.alias[node]
        return node

    def read(self, node: fx.Node) -> ast.expr:
        """Return an expression for a value, and count the reading."""
        if node in self.program.hub.constants and node not in self.exprs:
            return self.program.constants.expr(self, node)
        if node in self.inline:
            self.left[node] = self.left.get(node, 1) - 1
            return self.inline.pop(node)
        root = self._root_value(node)
        self.left[root] = self.left.get(root, 1) - 1
        if node in self.exprs:
            return self.exprs[node]
        if node in self.program.hub.parameters:
            return self.put_off(node) or self.program.weights.read(self, node)
        if is_mark(node) and node not in set(self.call.nodes()):
            return self.read_outside(node)
        return self.read_outside(node)

    def settle_inline(self, node: fx.Node) -> None:
        """Give a value that is written in place a variable of its own, since a formula reads it twice."""
        if node in self.inline:
            made = self.inline.pop(node)
            if isinstance(made, (ast.Name, ast.Constant)):
                self.exprs[node] = made
            else:
                self._assign(node, made, None)

    def read_outside(self, node: fx.Node) -> ast.expr:
        """Return a parameter for a value that reaches this region around its arguments."""
        name = names.unique(names.local(self.program.hint(node)), self.holder)
        self.params.append(name)
        self.extra.append((node, name))
        self.holder[name] = node
        self.left[node] = 1 << 20
        self.exprs[node] = ast.Name(name, ast.Load())
        return self.exprs[node]

    # --- ops ---------------------------------------------------------------------------------------------

    def _op(self, node: fx.Node) -> None:
        if node in self.program.hub.constants:
            return
        if node.target is operator.getitem:
            self._getitem(node)
            return
        rule = self.program.dialect.rule(self.program, node)
        if rule is None:
            self.program.problem(self, node, "no rule for this op")
            self.exprs[node] = ast.Name("unsupported", ast.Load())
            return
        op = OpCall(self, node, rule)
        try:
            if rule.effect:
                self.effect(op)
                return
            made = self.program.dialect.write(op)
        except Refusal as refusal:
            self.program.problem(self, node, str(refusal))
            self.exprs[node] = ast.Name("unsupported", ast.Load())
            return
        self.used_rules.append(rule.op)
        self.program.met.append((rule, self.call, node))
        self._define(node, made, rule.noun)

    def _getitem(self, node: fx.Node) -> None:
        if node in self.exprs or node in self.inline:
            return
        source, index = node.args
        parts = self.program.parts.get((self.call, source))
        if parts is not None:
            self.exprs[node] = parts[index]
        elif source in self.exprs or source in self.inline:
            base = self.read(source)
            part = base.elts[index] if isinstance(base, ast.Tuple) else E("x[i]", x=base, i=index)
            self._define(node, part, "part")

    def _define(self, node: fx.Node, made: ast.expr, noun: str) -> None:
        value = node.meta.get("val")
        if isinstance(value, (list, tuple)):
            self._define_parts(node, made, noun)
            return
        assigned, origin = self._author_names(node)
        trivial = isinstance(made, (ast.Name, ast.Constant))
        if trivial:
            self.exprs[node] = made
            if isinstance(made, ast.Name):
                held = self.holder.get(made.id)
                if isinstance(held, fx.Node):
                    self.left[held] = self.left.get(held, 0) + self.left.get(node, 0)
                    self.program.alias[node] = held
            return
        if not (self.left.get(node, 0) or self._is_returned(node) or node in self.program.ends):
            return
        name = assigned[0] if assigned and len(assigned) == 1 else None
        if (name is None or self.is_taken(name)) and self._nests(node, made):
            self.inline[node] = made
            return
        self._assign(node, made, name, origin, noun)

    def _nests(self, node: fx.Node, made: ast.expr) -> bool:
        """Tell whether a value without a name is written inside the expression that reads it."""
        if self.plain or self.left.get(node, 0) != 1 or not self._read_here(node):
            return False
        return len(text(made)) <= self.nested_length or self._goes_on(node) or self._is_all(node)

    def _is_all(self, node: fx.Node) -> bool:
        """Tell whether a value is what the region returns, and nothing else is."""
        ports = self.program.live_outputs(self.call)
        if len(ports) != 1:
            return False
        value = through(ports[0].value)
        while value is not node and value.meta.get("free"):  # turned without a word
            value = through(value.args[0])
        return value is node

    def _goes_on(self, node: fx.Node) -> bool:
        """Tell whether a value is the first slice of several, which are one subscript."""
        reader = next(iter(node.users), None)
        return is_call(node, _SLICE) and is_call(reader, _SLICE) and reader.args[0] is node  # type: ignore[union-attr]

    def _read_here(self, node: fx.Node) -> bool:
        """Tell whether the only reader is in this region itself (not in a function handed on)."""
        for user in node.users:
            region = self.program.hub.call_of.get(user)
            if (
                is_mark(user)
                and user not in self.exprs
                and region is not None
                and region.parent is self.call
            ):
                return not self.program.in_loop(region)
            if region is self.call or (region is not None and self._is_own_result(region, user)):
                continue
            return False
        return True

    def _is_own_result(self, region: Call, user: fx.Node) -> bool:
        """Tell whether a mark is the result of a function that this region defines and hands on."""
        if (
            not region.function
            or region.parent is None
            or user not in {p.node for p in region.outputs}
        ):
            return False
        return self.program.lexical_parent(region.parent) is self.call

    def _is_returned(self, node: fx.Node) -> bool:
        return any(p.value is node for p in self.call.outputs)

    def _assign(
        self,
        node: fx.Node,
        made: ast.expr,
        name: str | None,
        origin: Frame | None = None,
        noun: str = "",
    ) -> None:
        if origin is None:
            found = self.frames(node)
            origin = found[-1] if found else None
        wanted = names.local(name or self.noun(node, noun))
        chosen = self._free_name(wanted, node, made)
        self.push(ast.Assign([ast.Name(chosen, ast.Store())], made), origin, node)
        self.holder[chosen] = node
        self.exprs[node] = ast.Name(chosen, ast.Load())

    def noun(self, node: fx.Node, noun: str) -> str:
        """Return a name for a value that the author did not name."""
        return self.program.noun_for(self, node, noun)

    def put_aside(self, node: fx.Node) -> str:
        """A name for a value that is written down before its reader, as what it is made of is about to change."""
        return self.program.noun_for(self, node, "")

    def push(self, statement: ast.stmt, origin: Frame | None, value: fx.Node | None = None) -> None:
        self.statements.append(Statement(statement, origin, tuple(self.used_rules), value))
        self.used_rules = []

    def _return(self) -> None:
        ports = self.program.live_outputs(self.call)
        result = self.result()
        origin = None
        if ports:
            found = self.frames(through(ports[0].value))
            origin = found[0] if found else None
        self.push(ast.Return(result), origin)

    def result(self) -> ast.expr:
        """Return the value that the region returns: one, or a tuple."""
        values = [self.read(p.value) for p in self.program.live_outputs(self.call)]
        return values[0] if len(values) == 1 else ast.Tuple(values, ast.Load())
