"""Functions for the blocks that a Functional model repeats, each applied to a tensor where it stands.

Before: 40 layers, one after the other, named ``layer1_0_conv1``, ``layer1_0_bn1``, … After::

    def basic_block(x, channels, stride, downsample, name):
        out = layers.Conv2D(channels, 3, strides=stride, name=f"{name}_conv1")(x)
        …

    x = basic_block(x, channels=64, stride=1, downsample=False, name="layer1_0")

Blocks are grouped, merged and given parameters as classes are (classes.py); then each layer is written where it
is applied. The layers, and their names, are those of the flat program.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import keyword
import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import names
from diglot.codegen.classes import Classes, Dissolve, LayerClass
from diglot.codegen.expr import names_in, same, text, to_ast
from diglot.codegen.inner_models import InnerModels, inner_models, own_layers
from diglot.codegen.keras_dialect import KerasDialect
from diglot.codegen.labels import named_apart
from diglot.codegen.rolled import roll
from diglot.codegen.statements import Statement, assignment, weight_nodes
from diglot.codegen.tree import dissolve, is_chain
from diglot.codegen.trees import arguments
from diglot.ir.hub import is_mark

if TYPE_CHECKING:
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter
    from diglot.codegen.statements import Member
    from diglot.ir.hub import Call, Hub

_NAME = "name"  # of a block, below which its layers are named
_LINE = 96  # characters of a statement
_SHORT = 40  # characters of a model that is made where it is applied


def keep_repeated(hub: Hub) -> None:
    """Dissolve, in place, every region but those of modules of one class that the model calls several times, and the
    models that were layers in the Keras model that the source was translated from.

    A function's layers are named alike wherever it is called: where that Keras model called them otherwise, the layers
    are written out, with their names.
    """
    models, own = inner_models(hub), own_layers(hub)
    groups: dict[Any, list[Call]] = {}
    for region in hub.root.walk():
        if region is not hub.root and region not in models | own:
            groups.setdefault(region.cls or region.class_name, []).append(region)
    first = set(_first_calls(hub.root, models, set()))
    kept: set[Call] = set()
    for regions in groups.values():
        written = [r for r in regions if r in first]
        called_once = len({r.path for r in written}) == len(written) > 1
        holds_model = any(c in models for r in written for c in r.walk())
        blocks = called_once and not holds_model and not all(map(_is_one_layer, written))
        if blocks and not any(map(_needs_its_caller, written)):
            kept.update(regions)
    apart = {region.path for region in named_apart(hub)}
    kept = {region for region in kept if region.path not in apart}
    dissolve_all(hub, kept | models | own)


def _first_calls(region: Call, models: Collection[Call], met: set[str]) -> Iterator[Call]:
    """Yield the regions below one, those of a model that is called again only once."""
    for child in region.children:
        if child in models:
            if child.path in met:
                continue
            met.add(child.path)
        yield child
        yield from _first_calls(child, models, met)


def dissolve_all(hub: Hub, kept: Collection[Call] = ()) -> bool:
    """Dissolve, in place, every region but the root and those that are kept; tell whether there was any."""
    found = [r for r in hub.root.walk() if r is not hub.root and r not in kept]
    for region in reversed(found):
        dissolve(hub, region)
    return bool(found)


def _is_one_layer(region: Call) -> bool:
    """Tell whether a region is one op, and so a layer rather than a block of them."""
    return sum(not is_mark(node) for node in region.nodes()) == 1


def _needs_its_caller(region: Call) -> bool:
    """Tell whether a region is no block of its own: a container, or one that functions are handed to."""
    container = is_chain(region) or region.class_name in ("ModuleList", "ModuleDict")
    return container or any(c.function for c in region.walk())


class FunctionDialect(KerasDialect):
    """Keras, with functions in the place of classes."""

    def __init__(self) -> None:
        self.functions: dict[str, bool] = {}  # whether a function names layers

    def parameters(
        self, params: dict[str, list[Any]], places: dict[int, str], instances: list[Instance]
    ) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """No variable of the body may have a parameter's name; a part's number says nothing of the block."""
        if not instances[0].writer.in_graph:
            return super().parameters(params, places, instances)
        taken = {_NAME, *(n for i in instances for n in i.writer.holder)}
        made: dict[str, str] = {}
        for param in params:
            stem = re.sub(r"_\d+$", "", param)
            wanted = stem if stem not in params else param
            if stem == "value" and all(type(v) is int for v in params[param]):
                wanted = "size"  # of an axis: nothing else in a body is a number without a name
            if wanted in taken and all(isinstance(v, bool) for v in params[param]):
                wanted = f"has_{wanted}"
            made[param] = names.unique(wanted, {*taken, *made.values()})
        return {made[p]: v for p, v in params.items()}, {i: made[p] for i, p in places.items()}

    def tree(
        self,
        program: Program,
        name: str,
        params: list[str],
        inits: list[tuple[str, ast.expr]],
        body: list[Statement],
        first: Instance,
    ) -> ast.stmt:
        """``def block(x, …, name)``; ``body`` becomes the function's own statements."""
        if not first.writer.in_graph:
            return super().tree(program, name, params, inits, body, first)
        inlined = Inline(self, first.writer, dict(inits), params, prefixed=True)
        body[:] = roll(inlined.body(body), first.writer)
        named = any(_NAME in names_in(s.node) for s in body)
        self.functions[name] = named
        taken = arguments([*first.writer.params, *params, *([_NAME] if named else [])])
        return ast.FunctionDef(name, taken, [s.node for s in body], [])


class Functions(Classes):
    """Builds the functions of a Functional program, innermost first."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._models = InnerModels(self, self._inline)

    def build(self) -> LayerClass | None:
        """Build every function, and put the calls of the root's blocks in its body."""
        self.build_regions(self.program.written()[1:])
        self._inline(self.program.writer(self.program.hub.root))
        return None

    def _inline(self, writer: RegionWriter) -> None:
        """Put every layer of a model where it is applied."""
        inits = {
            n: self._construct(m)
            for n, m in self.program.grouped_members(writer.call)
            if m.child is not None
        }
        dialect = self.program.dialect
        assert isinstance(dialect, FunctionDialect)
        inlined = Inline(dialect, writer, inits, [], prefixed=False)
        writer.statements = roll(inlined.body(writer.statements), writer)

    def _build_group(self, group: dict[str, list[Call]]) -> None:
        for path in group.keys() & self.program.hub.inner_models.keys():
            self._models.build(group[path])
        blocks = {path: calls for path, calls in group.items() if path not in self._models.made}
        if blocks:
            super()._build_group(blocks)

    def _construct(self, member: Member) -> ast.expr:
        if member.child is not None and member.child.path in self._models.made:
            return copy.deepcopy(self._models.made[member.child.path])
        return super()._construct(member)

    def _build_class(
        self, base: str, instances: list[Instance], several: bool, variants: list[list[Instance]]
    ) -> None:
        if not instances[0].writer.in_graph:
            super()._build_class(base, instances, several, variants)
            return
        if len(instances) < 2 or any(map(_asks_for_sizes, instances)):
            raise Dissolve(instances[0].region)
        super()._build_class(base, instances, several, variants)

    def _class_name(
        self, base: str, mine: list[Instance], several: bool, variants: list[list[Instance]]
    ) -> str:
        """``basic_block``; no variable of the program may hide it."""
        if not mine[0].writer.in_graph:
            return super()._class_name(base, mine, several, variants)
        regions = self.program.written()
        taken = {n for r in regions for n in (*self.program.writer(r).holder, *self.taken)}
        wanted = names.snake(super()._class_name(base, mine, several, variants))
        if wanted in taken or keyword.iskeyword(wanted) or hasattr(builtins, wanted):
            wanted = f"apply_{wanted}" if wanted.endswith("block") else f"{wanted}_block"
        return names.unique(wanted, taken)


def _asks_for_sizes(instance: Instance) -> bool:
    """Tell whether a block reads a size that only its caller knows."""
    return any(not isinstance(value, fx.Node) for value, _ in instance.writer.extra)


class Inline(ast.NodeTransformer):
    """``self.conv1(x)`` -> ``layers.Conv2D(…, name=f"{name}_conv1")(x)``, ``self.stride`` -> ``stride``."""

    def __init__(
        self,
        dialect: FunctionDialect,
        writer: RegionWriter,
        inits: dict[str, ast.expr],
        params: list[str],
        *,
        prefixed: bool,
    ) -> None:
        self.dialect = dialect
        self.writer = writer
        self.inits = inits
        self.params = params
        self.prefixed = prefixed
        self.taken = {*writer.holder, *writer.params, *params, _NAME}
        self.before: list[ast.stmt] = []
        self.applied: dict[str, int] = {}
        self.variables: dict[str, str] = {}  # of layers that are applied several times
        self.own = set(writer.call.nodes())

    def body(self, statements: list[Statement]) -> list[Statement]:
        """Return the statements with every layer where it is applied."""
        made: list[Statement] = []
        for statement in _chained(statements, self.inits):
            self.before = []
            node = self.visit(copy.deepcopy(statement.node))
            self._unnest(node)
            made += [dataclasses.replace(statement, node=n, value=None) for n in self.before]
            made.append(dataclasses.replace(statement, node=node))
        return made

    def _unnest(self, node: ast.stmt) -> None:
        """Give a layer that is applied inside another a line of its own, where both take more than one."""
        while len(text(node)) > _LINE:
            inner = next(filter(_is_layer_on_layer, ast.walk(node)), None)
            if inner is None:
                return
            first = inner.args[0]
            padded = "padding" in text(first.func).lower()
            variable = names.unique("padded" if padded else "x", self.taken)
            self.before.append(assignment(variable, first))
            inner.args[0] = ast.Name(variable, ast.Load())

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """``self.part is not None`` -> ``part``."""
        part = _own(node.left)
        if part in self.inits and isinstance(node.ops[0], ast.IsNot):
            made = self.inits[part]
            assert isinstance(made, ast.IfExp)
            return copy.deepcopy(made.test)
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """A parameter by its name; a layer that is handed on."""
        part = _own(node)
        if part in self.inits:
            return self._layer(part)
        if part in self.params:
            return ast.Name(node.attr, ast.Load())
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """A layer, or a block, where it is applied."""
        part = _own(node.func)
        if part not in self.inits:
            self.generic_visit(node)
            return node
        made = self.inits[part]
        if isinstance(made, ast.IfExp) and not isinstance(made.orelse, ast.Constant):
            return self._optional(node, made.test)
        node.args = [self.visit(a) for a in node.args]
        node.keywords = [self.visit(k) for k in node.keywords]
        return self._apply(part, node)

    def _made(self, part: str) -> ast.Call:
        made = copy.deepcopy(self.inits[part])
        made = made.body if isinstance(made, ast.IfExp) else made
        assert isinstance(made, ast.Call)
        return made

    def _apply(self, part: str, node: ast.Call) -> ast.expr:
        made = self._made(part)
        function = made.func.id if isinstance(made.func, ast.Name) else ""
        if function not in self.dialect.functions:
            return ast.Call(self._layer(part), node.args, node.keywords)
        named = [*node.keywords, *made.keywords]
        if self.dialect.functions[function]:
            named.append(ast.keyword("name", self._named(part)))
        return ast.Call(made.func, [*node.args, *made.args], named)

    def _layer(self, part: str) -> ast.expr:
        if part in self.variables:
            return ast.Name(self.variables[part], ast.Load())
        made = self._made(part)
        times = self.applied[part] = self.applied.get(part, 0) + 1
        model = self._is_model(part)
        if not model and not any(k.arg == "name" for k in made.keywords):
            made.keywords.append(ast.keyword("name", self._named(part, times)))
        if not model and (child := self.writer.members[part, None].child) is not None:
            made = self.dialect.whole(self.writer.program, child.path, made)
        long = model and not self.writer.plain and len(text(made)) > _SHORT
        if self._is_shared(part) or long:
            variable = names.unique(names.local(part), self.taken)
            self.taken.add(variable)
            self.variables[part] = variable
            self.before.append(assignment(variable, made))
            return ast.Name(variable, ast.Load())
        return made

    def _is_shared(self, part: str) -> bool:
        member = self.writer.members[part, None]
        if member.child is not None:
            path, items = member.child.path, self.writer.call.items
            return sum(getattr(item, "path", None) == path for item in items) > 1
        nodes = [n for value in member.weights.values() for n in weight_nodes(value)]
        return any(sum(u in self.own for u in n.users) > 1 for n in nodes)

    def _is_model(self, part: str) -> bool:
        child = self.writer.members[part, None].child
        return child is not None and child.path in self.writer.program.hub.inner_models

    def _named(self, part: str, times: int = 1) -> ast.expr:
        part = self.writer.program.labels.of(self.writer.call.path, part)
        part = part if times == 1 else f"{part}_{times}"
        if not self.prefixed:
            return to_ast(part)
        prefix = ast.FormattedValue(ast.Name(_NAME, ast.Load()), -1)
        return ast.JoinedStr([prefix, ast.Constant(f"_{part}")])

    def _optional(self, node: ast.expr, test: ast.expr) -> ast.expr:
        """``shortcut = x``, and under a condition what some blocks make of it; the variable."""
        parts: list[ast.Call] = []
        while isinstance(node, ast.Call) and (part := _own(node.func)) in self.inits:
            made = self.inits[part]
            if not (isinstance(made, ast.IfExp) and same(made.test, test)):
                break
            parts.append(node)
            node = node.args[0]
        start = self.visit(node)
        own = isinstance(start, ast.Name) and start.id in self.writer.params
        variable = names.unique("shortcut" if own else "x", self.taken)
        self.taken.add(variable)
        self.before.append(assignment(variable, start))
        outer, self.before = self.before, []
        for applied in reversed(parts):
            one = ast.Call(applied.func, [ast.Name(variable, ast.Load())], applied.keywords)
            self.before.append(assignment(variable, self._apply(str(_own(one.func)), one)))
        self.before = [*outer, ast.If(copy.deepcopy(test), self.before, [])]
        return ast.Name(variable, ast.Load())


def _is_layer_on_layer(node: ast.AST) -> bool:
    """Tell whether an expression is ``layer(…)(layer(…)(x))``."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and node.args):
        return False
    first = node.args[0]
    return isinstance(first, ast.Call) and isinstance(first.func, ast.Call)


def _chained(statements: list[Statement], inits: dict[str, ast.expr]) -> list[Statement]:
    """Put ``y = self.b(x)``, and what ``x`` is, in one expression again, where some blocks lack both."""

    def optional(node: ast.AST) -> str | None:
        part = _own(node.func) if isinstance(node, ast.Call) else None
        made = inits.get(part or "")
        there = isinstance(made, ast.IfExp) and not isinstance(made.orelse, ast.Constant)
        return text(made.test) if there else None

    made: list[Statement] = []
    held: dict[str, ast.expr] = {}
    for position, statement in enumerate(statements):
        node = copy.deepcopy(statement.node)
        node = _Put({n: v for n, v in held.items() if n in names_in(node)}).visit(node)
        held = {n: v for n, v in held.items() if n not in names_in(statement.node)}
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        after = [s.node for s in statements[position + 1 :]]
        if isinstance(target, ast.Name) and optional(node.value):
            if after and target.id in names_in(after[0]) and _times(target.id, after) == 1:
                held[target.id] = node.value
                continue
        made.append(dataclasses.replace(statement, node=node))
    return made


def _times(name: str, after: list[ast.stmt]) -> int:
    """Return how often a variable is read before it is assigned again."""
    count = 0
    for node in after:
        found = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == name]
        count += sum(isinstance(n.ctx, ast.Load) for n in found)
        if any(isinstance(n.ctx, ast.Store) for n in found):
            break
    return count


class _Put(ast.NodeTransformer):
    """Puts expressions in the places of names."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def _own(node: ast.AST) -> str | None:
    """Return ``x`` of ``self.x``."""
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    return node.attr if own and node.value.id == "self" else None  # type: ignore[attr-defined]


__all__ = ["FunctionDialect", "Functions", "dissolve_all", "keep_repeated"]
