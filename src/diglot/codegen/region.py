"""One region of the call tree -> the body of one ``call`` method.

Statements are the author's: a value gets a variable where the author assigned one, under the author's name, and
is written in place where the author nested it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Any

import sympy
import torch
from torch import fx

from diglot.codegen import author, names
from diglot.codegen.expr import E, call, names_in, text, to_ast
from diglot.codegen.opcall import OpCall, Refusal
from diglot.ir.hub import Call, Frame, Port, is_mark, target_name
from diglot.ir.sizes import is_static, shape_of, size_of

if TYPE_CHECKING:
    from diglot.codegen.program import Program

_LONG = 110


@dataclasses.dataclass
class Statement:
    """One statement of a body, with the author's line it came from."""

    node: ast.stmt
    origin: Frame | None = None
    rules: tuple[str, ...] = ()
    value: fx.Node | None = None  # the value that the statement computes


@dataclasses.dataclass
class Member:
    """One attribute of the class: how it is built, and where it came from."""

    construct: ast.expr
    source: str  # path of the source module or weight, below the region's own
    child: Call | None = None
    weights: dict[str, Any] = dataclasses.field(default_factory=dict)
    source_class: str = ""
    kind: str = "layer"  # "layer" | "weight" | "child"
    node: fx.Node | None = None  # the op whose value is the layer's result
    layout: Any = ...  # of that value
    output_shape: tuple[Any, ...] = ()
    whole: bool = False  # the layer computes exactly what the source module does


class RegionWriter:
    """Writes one region. ``members`` are the attributes it declares, ``statements`` its body."""

    def __init__(self, program: Program, region: Call) -> None:
        self.program = program
        self.call = region
        self.members: dict[tuple[str, int | None], Member] = {}
        self.statements: list[Statement] = []
        self.params: list[str] = []
        self.returns: list[fx.Node] = []
        self.exprs: dict[fx.Node, ast.expr] = {}
        self.inline: dict[fx.Node, ast.expr] = {}
        self.holder: dict[str, fx.Node | str] = {}
        self.left: dict[fx.Node, int] = {}
        self.extra: list[tuple[fx.Node, str]] = []
        self.plain = program.is_sequential(region)  # every value gets a variable: the layers are read off them
        self.sizes: dict[Any, str] = {}
        self.used_rules: list[str] = []
        self.at: Any = None  # the item being written
        self._prefix = len(self._frames_of_call(region)) if region is not program.hub.root else self._root_prefix()

    # --- the author's statements -----------------------------------------------------------------------

    def _frames_of_call(self, region: Call) -> tuple[Frame, ...]:
        ports = region.inputs or region.outputs
        return self.program.frames(ports[0].node) if ports else ()

    def _root_prefix(self) -> int:
        ports = self.call.inputs or self.call.outputs
        return len(self.program.frames(ports[0].node)) if ports else 0

    def frames(self, item: fx.Node | Call) -> tuple[Frame, ...]:
        """Return the frames of an item from this region's own ``forward`` inwards."""
        found = self._frames_of_call(item) if isinstance(item, Call) else self.program.frames(item)
        return found[self._prefix :]

    def where(self, node: fx.Node) -> str:
        """Return ``file:line`` of a node."""
        found = self.program.frames(node)
        return f"{found[-1].file}:{found[-1].line}" if found else "?"

    def _author_names(self, item: fx.Node | Call) -> tuple[list[str | None] | None, Frame | None]:
        """Return the names the author assigned this item's value to, when the item ends that statement."""
        found = self.frames(item)
        for depth in range(len(found), 0, -1):
            key = found[:depth]
            if self._last_of.get(key) is not item:
                return None, found[-1]
            assigned = author.assigned_names(found[depth - 1])
            if assigned is not None:
                return assigned, found[depth - 1]
            if not author.is_return(found[depth - 1]):
                return None, found[-1]
        return None, found[-1] if found else None

    @functools.cached_property
    def _last_of(self) -> dict[tuple[Frame, ...], Any]:
        last: dict[tuple[Frame, ...], Any] = {}

        def visit(items: list[Any]) -> None:
            for item in items:
                if isinstance(item, fx.Node) and (is_mark(item) or target_name(item).endswith("getitem")):
                    continue
                if isinstance(item, Call) and item.function:
                    continue
                found = self.frames(item)
                for depth in range(1, len(found) + 1):
                    last[found[:depth]] = item

        visit(self.call.items)
        return last

    # --- running ---------------------------------------------------------------------------------------

    def write(self) -> RegionWriter:
        """Write parameters, statements and the return."""
        self._count_uses()
        for port in self.program.live_inputs(self.call):
            self._parameter(port)
        for name in self.program.function_parameters(self.call):
            self.params.append(names.local(name))
            self.holder[names.local(name)] = name
        self._items(self.call.items)
        self._return()
        self._drop_unread()
        return self

    def _drop_unread(self) -> None:
        """Drop values (sizes, initial states) that were made for an op whose rule did without them."""
        kept: list[Statement] = []
        read = self._read_at_end()
        for statement in reversed(self.statements):
            node = statement.node
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and target.id not in read and _is_pure(node.value):
                continue
            read |= names_in(node) if target is None or not isinstance(target, ast.Name) else names_in(node.value)
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
                    flat = [a for a in _flat((user.args, user.kwargs)) if a is node]
                    count += max(0, len(flat) - 1)
            self.left[node] = count

    def _items(self, items: list[Any]) -> None:
        position = 0
        while position < len(items):
            item = items[position]
            self.at = item
            if isinstance(item, Call):
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
            return self.program.weights.read(self, node)
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
        rule = self.program.rules.get(target_name(node))
        if rule is None:
            self.program.problem(self, node, "no rule for this op")
            self.exprs[node] = ast.Name("unsupported", ast.Load())
            return
        op = OpCall(self, node, rule)
        try:
            reason = rule.refuse(op) if rule.refuse else None
            if reason:
                raise Refusal(reason)
            made = op.template(rule.keras) if isinstance(rule.keras, str) else rule.keras(op)
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
        if self.left.get(node, 0) == 0 and not self._is_returned(node):
            return
        name = assigned[0] if assigned and len(assigned) == 1 else None
        if name is None and self._nests(node, made):
            self.inline[node] = made
            return
        self._assign(node, made, name, origin, noun)

    def _nests(self, node: fx.Node, made: ast.expr) -> bool:
        """Tell whether a value without a name is written inside the expression that reads it."""
        if self.plain or self.left.get(node, 0) != 1 or not self._read_here(node):
            return False
        return len(text(made)) <= _LONG

    def _read_here(self, node: fx.Node) -> bool:
        """Tell whether the only reader is in this region itself (not in a function handed on)."""
        for user in node.users:
            region = self.program.hub.call_of.get(user)
            if is_mark(user) and user not in self.exprs and region is not None and region.parent is self.call:
                return not self.program.in_loop(region)
            if region is self.call or (region is not None and self._is_own_result(region, user)):
                continue
            return False
        return True

    def _is_own_result(self, region: Call, user: fx.Node) -> bool:
        """Tell whether a mark is the result of a function that this region defines and hands on."""
        if not region.function or region.parent is None or user not in {p.node for p in region.outputs}:
            return False
        return self.program.lexical_parent(region.parent) is self.call

    def _is_returned(self, node: fx.Node) -> bool:
        return any(p.value is node for p in self.call.outputs)

    def _define_parts(self, node: fx.Node, made: ast.expr, noun: str) -> None:
        """A value of several parts: ``q, k, v = ops.split(…)``."""
        items = {u.args[1]: u for u in node.users if u.target is operator.getitem}
        count = len(node.meta["val"])
        assigned, origin = self._author_names(node)
        if assigned and origin and len(assigned) != count:
            flat = author.part_names(origin)
            assigned = flat if len(flat) == count else assigned
        given = self._only_part(made)
        if given is not None:
            self._define_part(items.get(given), made.elts[given], assigned, origin, noun, given)
            return
        read = {i for i, u in items.items() if self.left.get(u, 0)}
        if len(read) <= 1 and (not assigned or len(assigned) != count):
            self.left[node] = 1
            self.inline[node] = made
            return
        targets = []
        for i in range(count):
            if i not in items or not self.left.get(items[i], 0):
                targets.append("_")
                continue
            hint = assigned[i] if assigned and len(assigned) == count else None
            hint = hint or _part_noun(node, i, noun)
            chosen = self._free_name(names.local(hint), items[i], made)
            if chosen in targets:
                chosen = names.unique(names.local(hint), {*targets, *self.holder})
            targets.append(chosen)
        if isinstance(made, ast.Tuple) and not names_in(made) & set(targets):
            for name, part in zip(targets, made.elts, strict=True):
                if name != "_":
                    self._push(E_assign(name, part), origin)
        else:
            target = ast.Tuple([ast.Name(t, ast.Store()) for t in targets], ast.Store())
            self._push(ast.Assign([target], made), origin)
        for i, name in enumerate(targets):
            if i in items and name != "_":
                self.holder[name] = items[i]
                self.exprs[items[i]] = ast.Name(name, ast.Load())
        self.program.parts[(self.call, node)] = {i: self.exprs[items[i]] for i in items if items[i] in self.exprs}

    def _only_part(self, made: ast.expr) -> int | None:
        """Return the place of the only part that a rule gives: ``(x, None)``."""
        if not isinstance(made, ast.Tuple):
            return None
        given = [i for i, e in enumerate(made.elts) if not (isinstance(e, ast.Constant) and e.value is None)]
        return given[0] if len(given) == 1 else None

    def _define_part(
        self, item: fx.Node | None, made: ast.expr, assigned: Any, origin: Any, noun: str, index: int
    ) -> None:
        """Define the one part of a tuple that anybody reads."""
        if item is None or (self.left.get(item, 0) == 0 and not self._is_returned(item)):
            return
        name = None
        if assigned:
            name = assigned[0] if len(assigned) == 1 else assigned[index] if index < len(assigned) else None
        if name is None and self._nests(item, made):
            self.inline[item] = made
        else:
            self._assign(item, made, name, origin, noun)

    def _assign(
        self, node: fx.Node, made: ast.expr, name: str | None, origin: Frame | None = None, noun: str = ""
    ) -> None:
        if origin is None:
            found = self.frames(node)
            origin = found[-1] if found else None
        wanted = names.local(name or self.program.noun_for(self, node, noun))
        chosen = self._free_name(wanted, node, made)
        self._push(ast.Assign([ast.Name(chosen, ast.Store())], made), origin, node)
        self.holder[chosen] = node
        self.exprs[node] = ast.Name(chosen, ast.Load())

    def _free_name(self, wanted: str, node: fx.Node, made: ast.expr) -> str:
        """Return a name that no living value holds, moving an old value aside where the author did."""
        held = self.holder.get(wanted)
        if held is None or held is node:
            return wanted
        if isinstance(held, fx.Node) and self.left.get(held, 0) <= 0:
            self._flush_readers(wanted)
            self._save_sizes(held)
            return wanted
        aside = self._author_copy(wanted) if isinstance(held, fx.Node) else None
        if aside and self.holder.get(aside) is None:
            self._push(E_assign(aside, ast.Name(wanted, ast.Load())), None)
            self.holder[aside] = held
            for value, expression in self.exprs.items():
                if isinstance(expression, ast.Name) and expression.id == wanted:
                    self.exprs[value] = ast.Name(aside, ast.Load())
            self._flush_readers(wanted)
            return wanted
        return names.unique(wanted, self.holder)

    def _author_copy(self, name: str) -> str | None:
        location = author.class_location(self.call.cls) if self.call.cls else None
        if location is None:
            return None
        for copy in author.copies(*location).get(name, []):
            return names.local(copy)
        return None

    def _flush_readers(self, name: str) -> None:
        """Write out unread inline expressions that read a variable about to change."""
        for node, made in list(self.inline.items()):
            if name in names_in(made):
                del self.inline[node]
                found = self.frames(node)
                chosen = names.unique(names.local(self.program.noun_for(self, node, "")), self.holder)
                self._push(E_assign(chosen, made), found[-1] if found else None)
                self.holder[chosen] = node
                self.exprs[node] = ast.Name(chosen, ast.Load())

    def _push(self, statement: ast.stmt, origin: Frame | None, value: fx.Node | None = None) -> None:
        self.statements.append(Statement(statement, origin, tuple(self.used_rules), value))
        self.used_rules = []

    # --- sizes -------------------------------------------------------------------------------------------

    def size(self, size: Any, at: fx.Node) -> ast.expr:
        """Return a size as an expression over tensors that this region can see, the nearest first."""
        size = size_of(size)
        if is_static(size):
            return to_ast(size)
        if not isinstance(size, sympy.Symbol):
            known = {s: self.size(s, at) for s in sorted(size.free_symbols, key=str)}
            return size_ast(size, known)
        near = self._near(size, at)
        if near is None and size in self.sizes:
            return ast.Name(self.sizes[size], ast.Load())
        found = near or self._far(size)
        if found is None:
            raise Refusal(f"the size {size} cannot be read from any tensor in {self.call.path or 'the model'}")
        node, axis = found
        if node in self._parameters:
            if size in self.sizes:
                return ast.Name(self.sizes[size], ast.Load())
            if self.program.size_reads(self.call, size) >= 2:
                return self._declare_size(size, node, axis)
        return E("ops.shape(x)[i]", x=self.exprs[node], i=axis)

    @property
    def _parameters(self) -> set[fx.Node]:
        return {p.node for p in self.call.inputs} | {n for n, _ in self.extra}

    def _near(self, size: Any, at: fx.Node) -> tuple[fx.Node, int] | None:
        """Find a size on the variables that an op's own operands come from."""
        queue, seen = list(at.all_input_nodes), set()
        while queue:
            node = queue.pop(0)
            if node in seen:
                continue
            seen.add(node)
            found = self._axis_of(node, size)
            if found is not None:
                return node, found
            if node not in self.exprs or not isinstance(self.exprs[node], ast.Name):
                queue.extend(node.all_input_nodes)
            elif is_mark(node) and node not in self._parameters:
                queue.extend(node.all_input_nodes)
        return None

    def _far(self, size: Any) -> tuple[fx.Node, int] | None:
        """Find a size on any variable."""
        for node in self.exprs:
            found = self._axis_of(node, size)
            if found is not None:
                return node, found
        return None

    def _axis_of(self, node: fx.Node, size: Any) -> int | None:
        """Return the axis of a living variable that has a size."""
        expression = self.exprs.get(node)
        value = node.meta.get("val") if isinstance(node, fx.Node) else None
        if not isinstance(value, torch.Tensor) or not isinstance(expression, ast.Name):
            return None
        held = self.holder.get(expression.id)
        if not isinstance(held, fx.Node) or (held is not node and self._root_value(node) is not self._root_value(held)):
            return None
        shape = shape_of(value)
        if size not in shape:
            return None
        layout = node.meta.get("layout")
        return layout.index(shape.index(size)) if layout else shape.index(size)

    def _save_sizes(self, held: fx.Node) -> None:
        """Read sizes that later statements need off a parameter that is about to change."""
        value = held.meta.get("val")
        if held not in self._parameters or not isinstance(value, torch.Tensor):
            return
        for size in shape_of(value):
            if isinstance(size, sympy.Symbol) and size not in self.sizes and self.program.reads_later(self, size):
                axis = self._axis_of(held, size)
                if axis is not None:
                    self._declare_size(size, held, axis)

    def _declare_size(self, size: Any, node: fx.Node, axis: int) -> ast.expr:
        variable = self.exprs[node]
        logical = shape_of(node.meta["val"]).index(size)
        wanted = "batch" if logical == 0 else "length" if logical == 1 else "size"
        if wanted in self.holder:
            wanted = f"{text(variable)}_{wanted}"
        name = names.unique(wanted, self.holder)
        self.statements.append(Statement(E_assign(name, E("ops.shape(x)[i]", x=variable, i=axis))))
        self.holder[name] = "size"
        self.sizes[size] = name
        return ast.Name(name, ast.Load())

    # --- layers ---------------------------------------------------------------------------------------------

    def relative(self, path: str) -> str | None:
        """Return a module path below this region's own, or ``None``."""
        own = self.call.path
        if not own:
            return path
        if path == own:
            return ""
        return path[len(own) + 1 :] if path.startswith(own + ".") else None

    def leaf_path(self, node: fx.Node) -> str:
        """Return the path of the innermost module that made a node."""
        stack = [p for p, _ in (node.meta.get("nn_module_stack") or {}).values() if p]
        return stack[-1] if stack else ""

    def owns(self, node: fx.Node, weights: list[fx.Node]) -> bool:
        """Tell whether a layer made of these weights can be an attribute here."""
        return self.program.weights.home_of_layer(self, node, weights) is not None

    def layer(
        self,
        node: fx.Node,
        construct: ast.expr,
        weights: dict[str, Any],
        default: str,
        suffix: str = "",
        stands: bool = True,
    ) -> ast.expr:
        """Declare a layer (once) and return the expression that names it."""
        nodes = [n for value in weights.values() for n in _nodes(value)]
        path = self.program.weights.home_of_layer(self, node, nodes) if nodes else None
        if path is None:
            leaf = self.leaf_path(node)
            path = self.relative(leaf) if leaf else ""
            path = "" if path is None else path
        module = path
        if suffix:
            path = f"{path or names.identifier(default or 'layer')}_{suffix}"
        key = self.key(path or f"{names.identifier(default or 'layer')}")
        if not path:
            key = self._fresh_key(key, node)
        if key in self.members:
            self.program.weights.check_same(self, self.members[key], construct, node)
        else:
            member = self._member(node, construct, module if suffix and stands else path, weights)
            self.members[key] = dataclasses.replace(member, whole=member.whole and stands)
            self.program.weights.settle(self, key, weights, node)
        return self.attribute(key)

    def _member(self, node: fx.Node, construct: ast.expr, path: str, weights: dict[str, Any]) -> Member:
        value = node.meta.get("val")
        single = isinstance(value, torch.Tensor)
        leaf = self.leaf_path(node)
        return Member(
            construct, path, weights=weights, source_class=self.program.leaf_class(node), node=node,
            layout=node.meta.get("layout") if single else ..., output_shape=shape_of(value) if single else (),
            whole=bool(path) and self.relative(leaf) == path and self.program.is_leaf_module(leaf),
        )  # fmt: skip

    def _fresh_key(self, key: tuple[str, int | None], node: fx.Node) -> tuple[str, int | None]:
        name, number = key[0], 2
        while (name, None) in self.members and self.program.made_by.get((self.call, name)) is not node:
            name = f"{key[0]}_{number}"
            number += 1
        self.program.made_by[(self.call, name)] = node
        return (name, None)

    def key(self, path: str) -> tuple[str, int | None]:
        """Turn a relative module path into an attribute, or a place in a list attribute."""
        parts = path.split(".")
        if len(parts) > 1 and parts[-1].isdigit():
            return names.attribute("_".join(parts[:-1])), int(parts[-1])
        return names.attribute("_".join(parts)), None

    def attribute(self, key: tuple[str, int | None]) -> ast.expr:
        """Return ``self.name`` or ``self.name[i]`` (``i`` is made dense at the end)."""
        base = E(f"self.{key[0]}")
        if key[1] is None:
            return base
        return ast.Subscript(base, ListIndex(key[1]), ast.Load())

    def float_dtype_ast(self) -> ast.expr:
        """The layer's own float type."""
        return E("self.compute_dtype")

    # --- inner calls ------------------------------------------------------------------------------------

    def _child(self, child: Call, target: ast.expr | None = None) -> None:
        if child.function:
            self._function_call(child)
            return
        made = self._call_expression(child, target)
        self._bind_results(child, made)

    def _call_expression(self, child: Call, target: ast.expr | None = None) -> ast.expr:
        writer = self.program.writer(child)
        if target is None:
            key = self.child_key(child)
            if key not in self.members:
                self.members[key] = Member(ast.Constant(None), child.path, child=child, kind="child")
            target = self.attribute(key)
        positional, named = self._child_arguments(child, writer)
        return call(target, *positional, **named)

    def child_key(self, child: Call) -> tuple[str, int | None]:
        """The attribute that holds a child's layer."""
        path = self.relative(child.path)
        return self.key(path if path else child.path or "inner")

    def _child_arguments(
        self, child: Call, writer: RegionWriter
    ) -> tuple[list[ast.expr], dict[str, ast.expr]]:
        """Tensors by position; functions by name, as Keras wants what is no tensor."""
        given = {names_of: port for names_of, port in zip(writer.params, self.program.live_inputs(child), strict=False)}
        extra = {name: node for node, name in writer.extra}
        functions = {names.local(n): n for n in self.program.function_parameters(child)}
        arguments: list[ast.expr] = []
        named: dict[str, ast.expr] = {}
        for parameter in self.program.parameter_order(child, writer):
            if parameter in functions:
                named[parameter] = self._function_argument(child, functions[parameter])
            elif parameter in extra:
                arguments.append(self.read_again(extra[parameter]))
            else:
                arguments.append(self.read(given[parameter].value))
        return arguments, named

    def read_again(self, node: fx.Node) -> ast.expr:
        """Read a value that a child uses around its arguments."""
        self.left[node] = self.left.get(node, 0) + 1
        return self.read(node)

    def _bind_results(self, child: Call, made: ast.expr) -> None:
        ports = self.program.live_outputs(child)
        if not ports:
            return
        assigned, origin = self._author_names(child)
        leaf = names.identifier(child.path.rpartition(".")[2])
        noun = leaf if not leaf.startswith("n") or not leaf[1:].isdigit() else "x"
        if len(ports) == 1:
            node = ports[0].node
            name = self._result_name(assigned, ports[0], child)
            if self.left.get(node, 0) == 0 and not self._outside(node):
                return
            if name is None and self._nests(node, made):
                self.inline[node] = made
                return
            self._assign(node, made, name, origin, noun)
            return
        targets = []
        for port in ports:
            hint = self._result_name(assigned, port, child) or self.program.output_noun(port, noun)
            chosen = names.local(hint)
            if chosen not in targets:
                chosen = self._free_name(chosen, port.node, made)
            if chosen in targets:  # results of one name, and neither may overwrite a living value
                chosen = names.unique(names.local(hint), {*targets, *self.holder})
            targets.append(chosen)
        self._push(ast.Assign([ast.Tuple([ast.Name(t, ast.Store()) for t in targets], ast.Store())], made), origin)
        for name, port in zip(targets, ports, strict=True):
            self.holder[name] = port.node
            self.exprs[port.node] = ast.Name(name, ast.Load())

    def _outside(self, node: fx.Node) -> bool:
        return False

    def _result_name(self, assigned: list[str | None] | None, port: Port, child: Call) -> str | None:
        if not assigned:
            return None
        if len(assigned) == 1:
            return assigned[0] if len(self.program.live_outputs(child)) == 1 else None
        index = port.name.split(".")[0]
        if index.isdigit() and int(index) < len(assigned):
            return assigned[int(index)]
        return assigned[0] if not port.name else None

    # --- functions handed to modules -------------------------------------------------------------------------

    def _function_call(self, region: Call) -> None:
        """Inside the module that was handed the function: ``sublayer(x)``."""
        made = call(names.local(region.function or "function"), *[self.read(p.value) for p in region.inputs])
        node = region.outputs[0].node
        self._alias_result(region, node, made)

    def _alias_result(self, region: Call, node: fx.Node, made: ast.expr) -> None:
        if self.left.get(node, 0) == 1:
            self.inline[node] = made
        else:
            self._assign(node, made, None, None, "result")

    def _function_argument(self, child: Call, name: str) -> ast.expr:
        """In the caller: the ``lambda`` that is handed over."""
        region = next(c for c in child.children if c.function == name)
        outer = (self.statements, dict(self.holder), self.inline)
        self.statements, self.inline = [], {}
        params = []
        for port in region.inputs:
            hint = self.program.function_argument(child, name, port)
            param = names.local(hint)
            params.append(param)
            self.holder[param] = port.node
            self.exprs[port.node] = ast.Name(param, ast.Load())
            self.left[port.node] = self.left.get(port.node, 0)
        self._items([i for i in region.items if i not in {p.node for p in region.outputs}])
        result = self.read(region.outputs[0].value)
        body, self.statements, self.inline = self.statements, outer[0], outer[2]
        self.holder = {**outer[1], **{k: v for k, v in self.holder.items() if k in outer[1] and k not in params}}
        for param in params:
            if param in outer[1]:
                self.holder[param] = outer[1][param]
        if not body:
            direct = isinstance(result, ast.Call) and [text(a) for a in result.args] == params and not result.keywords
            if direct:
                return result.func
            return ast.Lambda(ast.arguments([], [ast.arg(p) for p in params], None, [], [], None, []), result)
        function = names.unique(names.local(name), self.holder)
        self.holder[function] = "function"
        definition = ast.FunctionDef(
            function, ast.arguments([], [ast.arg(p) for p in params], None, [], [], None, []),
            [*[s.node for s in body], ast.Return(result)], [],
        )  # fmt: skip
        self._push(definition, None)
        return ast.Name(function, ast.Load())

    # --- loops and returns -----------------------------------------------------------------------------------

    def _loop(self, run: Any) -> int:
        """``for layer in self.layers: x = layer(x, mask)``."""
        first: Call = run.calls[0]
        for child in run.calls:
            key = self.child_key(child)
            self.members.setdefault(key, Member(ast.Constant(None), child.path, child=child, kind="child"))
        assigned, origin = self._author_names(run.calls[-1])
        frame = self.frames(run.calls[-1])
        origin = origin or (frame[-1] if frame else None)
        final = run.result.node
        wanted = self._result_name(assigned, run.result, first) if assigned else None
        start = self.read(run.start)
        wanted = names.local(wanted or (start.id if isinstance(start, ast.Name) else "x"))
        if not (isinstance(start, ast.Name) and start.id == wanted and self._free_name(wanted, final, start) == wanted):
            wanted = self._free_name(wanted, final, start) if not isinstance(start, ast.Name) or start.id != wanted else names.unique(wanted, self.holder)
            self._push(E_assign(wanted, start), origin)
        self.holder[wanted] = run.start
        variable = names.unique(names.local(run.variable), self.holder)
        self.holder[variable] = "loop"
        self.exprs[run.start_mark_value] = ast.Name(wanted, ast.Load())
        saved = self.left.get(run.start, 0)
        self.left[run.start] = saved + 1
        writer = self.program.writer(first)
        arguments = []
        given = dict(zip(writer.params, self.program.live_inputs(first), strict=False))
        extra = {name: node for node, name in writer.extra}
        for parameter in self.program.parameter_order(first, writer):
            port = given.get(parameter)
            if port is not None and port.name == run.chain:
                arguments.append(ast.Name(wanted, ast.Load()))
            elif parameter in extra:
                arguments.append(self.read_again(extra[parameter]))
            else:
                expression = self.read(port.value)
                if not isinstance(expression, ast.Name):
                    held = names.unique(names.local(self.program.hint(port.value)), self.holder)
                    self._push(E_assign(held, expression), origin)
                    self.holder[held] = port.value
                    expression = ast.Name(held, ast.Load())
                arguments.append(expression)
        for child in run.calls[1:]:
            for port in child.inputs:
                root = self._root_value(port.value)
                if port.name != run.chain:
                    self.left[root] = self.left.get(root, 1) - 1
        body = E_assign(wanted, call(ast.Name(variable, ast.Load()), *arguments))
        sequence = E(f"self.{run.attribute}")
        if run.slice is not None:
            low, high = run.slice
            sequence = ast.Subscript(sequence, ast.Slice(to_ast(low) if low else None, to_ast(high) if high is not None else None), ast.Load())
        loop = ast.For(ast.Name(variable, ast.Store()), sequence, [body], [], None)
        self._push(loop, origin)
        self.left[run.start] = saved
        del self.holder[variable]
        self.holder[wanted] = final
        self.exprs[final] = ast.Name(wanted, ast.Load())
        return len(run.calls)

    def _return(self) -> None:
        ports = self.program.live_outputs(self.call)
        values = [self.read(p.value) for p in ports]
        result = values[0] if len(values) == 1 else ast.Tuple(values, ast.Load())
        origin = None
        if ports:
            found = self.frames(through(ports[0].value))
            origin = found[0] if found else None
        self._push(ast.Return(result), origin)


class ListIndex(ast.Constant):
    """A place in a list attribute by the author's numbering; made dense when the class is finished."""


def through(node: fx.Node) -> fx.Node:
    """Follow marks to the node that computed a value."""
    while is_mark(node):
        node = node.args[0]
    return node


def _is_pure(value: ast.expr) -> bool:
    """Tell whether an expression calls nothing but functions of ``keras.ops``."""
    return all(text(n.func).startswith("ops.") for n in ast.walk(value) if isinstance(n, ast.Call))


def E_assign(name: str, value: ast.expr) -> ast.Assign:  # noqa: N802
    """``name = value``."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _part_noun(node: fx.Node, index: int, noun: str) -> str:
    """Return a name for one of an op's results: its name in the schema (``values``), or a number."""
    returns = getattr(getattr(node.target, "_schema", None), "returns", ())
    name = returns[index].name if len(returns) > 1 and index < len(returns) else ""
    return name or f"{noun or 'part'}_{index + 1}"


def _flat(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in _flat(v)]
    if isinstance(value, dict):
        return [x for v in value.values() for x in _flat(v)]
    return [value]


def _nodes(value: Any) -> list[fx.Node]:
    """Return the weight nodes of a layer's weight entry."""
    source = value["nodes"] if isinstance(value, dict) else value[0]
    return list(source) if isinstance(source, (list, tuple)) else [source]


def size_ast(size: Any, known: dict[Any, ast.expr]) -> ast.expr:
    """Turn a sympy size into an expression, given one for each symbol."""
    if size in known:
        return known[size]
    if size.is_Integer:
        return to_ast(int(size))
    name = type(size).__name__
    parts = [size_ast(a, known) for a in size.args]
    if size.is_Add:
        numbers = [p for p, a in zip(parts, size.args, strict=True) if a.is_Number]
        rest = [p for p, a in zip(parts, size.args, strict=True) if not a.is_Number]
        total = functools.reduce(lambda a, b: E("a + b", a=a, b=b), rest)
        for number in numbers:
            value = ast.literal_eval(number)
            total = E("a - b", a=total, b=-value) if value < 0 else E("a + b", a=total, b=value)
        return total
    if size.is_Mul:
        return functools.reduce(lambda a, b: E("a * b", a=a, b=b), parts[::-1])
    if name in ("FloorDiv", "CleanDiv"):
        return E("a // b", a=parts[0], b=parts[1])
    if name in ("Mod", "PythonMod"):
        return E("a % b", a=parts[0], b=parts[1])
    if size.is_Pow:
        return E("a ** b", a=parts[0], b=parts[1])
    raise Refusal(f"the size {size} has no plain form")
