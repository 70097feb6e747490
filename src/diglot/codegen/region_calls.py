"""How a region writes calls of its children: one by one, in loops, with functions handed over."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import sympy
from torch import fx

from diglot.codegen import names
from diglot.codegen.expr import E, call, text, to_ast
from diglot.codegen.opcall import Refusal
from diglot.codegen.statements import Key, Member, assignment
from diglot.ir.hub import Call, Port

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter


class CallWriter:
    """Mixed into :class:`RegionWriter`."""

    def _child(self: RegionWriter, child: Call, target: ast.expr | None = None) -> None:
        if child.function:
            self._function_call(child)
            return
        made = self._call_expression(child, target)
        self._bind_results(child, made)

    def _call_expression(
        self: RegionWriter, child: Call, target: ast.expr | None = None
    ) -> ast.expr:
        writer = self.program.writer(child)
        if target is None:
            key = self.child_key(child)
            if key not in self.members:
                self.members[key] = self.child_member(child)
            target = self.attribute(key)
        positional, named = self._child_arguments(child, writer)
        return call(target, *positional, **named)

    def child_member(self: RegionWriter, child: Call) -> Member:
        """The attribute's value, to be built when the child's class is known."""
        source = self.relative(child.path) or child.path
        return Member(ast.Constant(None), source, child=child, kind="child")

    def child_key(self: RegionWriter, child: Call) -> Key:
        """The attribute that holds a child's layer."""
        if child.path in self.series:
            return self.series[child.path]
        path = self.relative(child.path)
        return self.key(path if path else child.path or "inner")

    def _child_arguments(
        self: RegionWriter, child: Call, writer: RegionWriter
    ) -> tuple[list[ast.expr], dict[str, ast.expr]]:
        """Tensors by position; functions by name, as Keras wants what is no tensor."""
        given = dict(zip(writer.params, self.program.lists.parameters(child), strict=False))
        extra = {name: node for node, name in writer.extra}
        functions = {names.local(n): n for n in self.program.function_parameters(child)}
        arguments: list[ast.expr] = []
        named: dict[str, ast.expr] = {}
        for parameter in self.program.parameter_order(child, writer):
            if parameter in functions:
                named[parameter] = self._function_argument(child, functions[parameter])
            elif parameter in extra and isinstance(extra[parameter], sympy.Basic):
                named[parameter] = self._size_argument(extra[parameter], child)
            elif parameter in extra:
                arguments.append(self.read_again(extra[parameter]))
            elif given[parameter].stem:
                arguments.append(self.list_argument([p.value for p in given[parameter].ports]))
            else:
                arguments.append(self.read(given[parameter].ports[0].value))
        return arguments, named

    def _size_argument(self: RegionWriter, size: Any, child: Call) -> ast.expr:
        """Return the size that a child asks for."""
        at = next(child.nodes())
        try:
            return self.size(size, at)
        except Refusal as refusal:
            self.program.problem(self, at, str(refusal))
            return ast.Constant(None)

    def read_again(self: RegionWriter, node: fx.Node) -> ast.expr:
        """Read a value that a child uses around its arguments."""
        self.left[node] = self.left.get(node, 0) + 1
        return self.read(node)

    def _bind_results(self: RegionWriter, child: Call, made: ast.expr) -> None:
        ports = self.program.live_outputs(child)
        if not ports:
            return
        assigned, origin = self._author_names(child)
        leaf = names.identifier(child.path.rpartition(".")[2])
        noun = leaf if not leaf.startswith("n") or not leaf[1:].isdigit() else "x"
        if len(ports) == 1:
            node = ports[0].node
            name = self._result_name(assigned, ports[0], child)
            if self.left.get(node, 0) == 0:
                return
            if (name is None or self.is_taken(name)) and self._nests(node, made):
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
        self.push(
            ast.Assign([ast.Tuple([ast.Name(t, ast.Store()) for t in targets], ast.Store())], made),
            origin,
        )
        for name, port in zip(targets, ports, strict=True):
            self.holder[name] = port.node
            self.exprs[port.node] = ast.Name(name, ast.Load())

    def _result_name(
        self: RegionWriter, assigned: list[str | None] | None, port: Port, child: Call
    ) -> str | None:
        if not assigned:
            return None
        if len(assigned) == 1:
            return assigned[0] if len(self.program.live_outputs(child)) == 1 else None
        index = port.name.split(".")[0]
        if index.isdigit() and int(index) < len(assigned):
            return assigned[int(index)]
        return assigned[0] if not port.name else None

    # --- functions handed to modules -------------------------------------------------------------------------

    def _function_call(self: RegionWriter, region: Call) -> None:
        """Inside the module that was handed the function: ``sublayer(x)``."""
        made = call(
            names.local(region.function or "function"), *[self.read(p.value) for p in region.inputs]
        )
        node = region.outputs[0].node
        self._alias_result(region, node, made)

    def _alias_result(self: RegionWriter, region: Call, node: fx.Node, made: ast.expr) -> None:
        if self.left.get(node, 0) == 1:
            self.inline[node] = made
        else:
            self._assign(node, made, None, None, "result")

    def _function_argument(self: RegionWriter, child: Call, name: str) -> ast.expr:
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
        self.holder = {
            **outer[1],
            **{k: v for k, v in self.holder.items() if k in outer[1] and k not in params},
        }
        for param in params:
            if param in outer[1]:
                self.holder[param] = outer[1][param]
        if not body:
            direct = (
                isinstance(result, ast.Call)
                and [text(a) for a in result.args] == params
                and not result.keywords
            )
            if direct:
                return result.func
            return ast.Lambda(
                ast.arguments([], [ast.arg(p) for p in params], None, [], [], None, []), result
            )
        function = names.unique(names.local(name), self.holder)
        self.holder[function] = "function"
        definition = ast.FunctionDef(
            function, ast.arguments([], [ast.arg(p) for p in params], None, [], [], None, []),
            [*[s.node for s in body], ast.Return(result)], [],
        )  # fmt: skip
        self.push(definition, None)
        return ast.Name(function, ast.Load())

    # --- loops and returns -----------------------------------------------------------------------------------

    def _loop(self: RegionWriter, run: Any) -> int:
        """``for layer in self.layers: x = layer(x, mask)``."""
        first: Call = run.calls[0]
        for child in run.calls:
            key = self.child_key(child)
            self.members.setdefault(key, self.child_member(child))
        assigned, origin = self._author_names(run.calls[-1])
        frame = self.frames(run.calls[-1])
        origin = origin or (frame[-1] if frame else None)
        final = run.result.node
        wanted = self._result_name(assigned, run.result, first) if assigned else None
        start = self.read(run.start)
        wanted = names.local(wanted or (start.id if isinstance(start, ast.Name) else "x"))
        if not (
            isinstance(start, ast.Name)
            and start.id == wanted
            and self._free_name(wanted, final, start) == wanted
        ):
            wanted = (
                self._free_name(wanted, final, start)
                if not isinstance(start, ast.Name) or start.id != wanted
                else names.unique(wanted, self.holder)
            )
            self.push(assignment(wanted, start), origin)
        self.holder[wanted] = run.start
        variable = names.unique(names.local(run.variable), self.holder)
        self.holder[variable] = "loop"
        known = self.exprs.get(run.start_mark_value)
        self.exprs[run.start_mark_value] = ast.Name(wanted, ast.Load())
        saved = self.left.get(run.start, 0)
        self.left[run.start] = saved + 1
        writer = self.program.writer(first)
        arguments, named = [], {}
        given = dict(zip(writer.params, self.program.live_inputs(first), strict=False))
        extra = {name: node for node, name in writer.extra}
        for parameter in self.program.parameter_order(first, writer):
            port = given.get(parameter)
            if port is not None and port.name == run.chain:
                arguments.append(ast.Name(wanted, ast.Load()))
            elif parameter in extra and isinstance(extra[parameter], sympy.Basic):
                named[parameter] = self._size_argument(extra[parameter], first)
            elif parameter in extra:
                arguments.append(self.read_again(extra[parameter]))
            else:
                expression = self.read(port.value)
                if not isinstance(expression, ast.Name):
                    held = names.unique(names.local(self.program.hint(port.value)), self.holder)
                    self.push(assignment(held, expression), origin)
                    self.holder[held] = port.value
                    expression = ast.Name(held, ast.Load())
                arguments.append(expression)
        for child in run.calls[1:]:
            for port in child.inputs:
                root = self._root_value(port.value)
                if port.name != run.chain:
                    self.left[root] = self.left.get(root, 1) - 1
        body = assignment(wanted, call(ast.Name(variable, ast.Load()), *arguments, **named))
        sequence = E(f"self.{run.attribute}")
        if run.slice is not None:
            low, high = run.slice
            sequence = ast.Subscript(
                sequence,
                ast.Slice(to_ast(low) if low else None, to_ast(high) if high is not None else None),
                ast.Load(),
            )
        loop = ast.For(ast.Name(variable, ast.Store()), sequence, [body], [], None)
        self.push(loop, origin)
        self.left[run.start] = saved
        del self.holder[variable]
        self.holder[wanted] = final
        if known is not None:  # what the loop began with may be read after it
            self.exprs[run.start_mark_value] = known
        self.exprs[final] = ast.Name(wanted, ast.Load())
        return len(run.calls)
