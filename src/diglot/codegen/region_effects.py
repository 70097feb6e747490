"""How a region writes what stays after the call: new values of buffers, and of weights that train."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from torch import fx

from diglot.ir.hub import ASSIGN, is_call

if TYPE_CHECKING:
    from diglot.codegen.homes import Home
    from diglot.codegen.opcall import OpCall
    from diglot.codegen.region import RegionWriter


class EffectWriter:
    """Mixed into :class:`RegionWriter`."""

    def effect(self: RegionWriter, op: OpCall, value: fx.Node | None = None) -> None:
        """Write an assignment where it stands; what reads the old value is computed before it.

        ``value`` is assigned in the place of the op's own.
        """
        held = op.node.args[0]
        given = value if value is not None else op.node.args[1]
        assert isinstance(held, fx.Node) and isinstance(given, fx.Node)
        for pending in list(self.inline):
            if pending is not given and self._reads(pending, held):
                self.settle_inline(pending)
        found = self.frames(op.node)
        parameter = self.program.hub.parameters.get(held)
        trains = parameter is not None and not parameter.buffer
        target, made = op.expr("buffer"), self.read(given)
        home = self.program.weights.of_node.get(held)
        if home is not None and home.steps and home.attribute:  # of a layer, which has it turned
            target, made = self._as_layer_has_it(op, home, given, target, made)
        kept = self.program.dialect.keep(target, made, trains=trains)
        self.push(kept, found[-1] if found else None)

    def _as_layer_has_it(
        self: RegionWriter,
        op: OpCall,
        home: Home,
        given: fx.Node,
        target: ast.expr,
        value: ast.expr,
    ) -> tuple[ast.expr, ast.expr]:
        """Return a layer's weight and its new value, both in the layer's order of axes. Raises Refusal."""
        turned = len(home.steps) == 1 and home.steps[0][0] == "permute" and home.combine is None
        if not turned or not isinstance(target, ast.Call):
            raise op.refuse("its layer has it in another form, together with other weights")
        perm, own = list(home.steps[0][1]), target.args[0]
        transposed = self.program.dialect.transposed
        ranks = {a.meta["val"].dim() for a in given.all_input_nodes}
        if isinstance(value, ast.BinOp) and ranks == {len(perm)}:
            sides = [
                own if ast.dump(side) == ast.dump(target) else transposed(side, perm)
                for side in (value.left, value.right)
            ]
            return own, ast.BinOp(sides[0], value.op, sides[1])
        return own, transposed(value, perm)

    def _reads(self: RegionWriter, node: fx.Node, held: fx.Node) -> bool:
        """Tell whether an expression that is still to be written reads what a buffer or a weight holds."""
        seen: set[fx.Node] = set()
        stack = [node]
        while stack:
            current = stack.pop()
            if current is held:
                return True
            if current not in seen and not isinstance(self.exprs.get(current), ast.Name):
                seen.add(current)
                stack += current.all_input_nodes
        return False

    def put_off(self: RegionWriter, weight: fx.Node) -> ast.expr | None:
        """Return what stands for a weight that is assigned before the layer that will hold it is written."""
        if not self.program.dialect.holds_weights or weight in self.program.weights.of_node:
            return None
        if not any(is_call(user, {ASSIGN}) for user in weight.users):
            return None
        name = f"<{weight.name}>"
        self.waiting[name] = weight
        return ast.Name(name, ast.Load())

    def settle_waiting(self: RegionWriter) -> None:
        """Put weights in the places of what stood for them: all layers are known by now."""
        while self.waiting:
            name, weight = self.waiting.popitem()
            put = _Put(name, self.program.weights.read(self, weight))
            for statement in self.statements:
                statement.node = put.visit(statement.node)


class _Put(ast.NodeTransformer):
    def __init__(self, name: str, value: ast.expr) -> None:
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == self.name else node
