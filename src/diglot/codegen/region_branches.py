"""How a region writes what one mode alone runs: ``if self.training:``, and ``else:``."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import names
from diglot.codegen.branches import EVALUATION, TRAINING, Branch
from diglot.codegen.expr import names_in
from diglot.codegen.opcall import OpCall
from diglot.codegen.statements import Statement, assignment, flat
from diglot.ir.hub import Call

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter


class BranchWriter:
    """Mixed into :class:`RegionWriter`."""

    def branch(self: RegionWriter, branch: Branch) -> None:
        """Write both bodies; what is read after them has one name in both."""
        self.reads_training = True
        read = {n for mode in (TRAINING, EVALUATION) for n in self._read_by(branch, mode)}
        for pending in [n for n in self.inline if n not in read]:
            self.settle_inline(pending)  # a body may use its variables again
        outer = dict(self.left)
        reads = [self._read_by(branch, mode) for mode in (TRAINING, EVALUATION)]
        before = self._scope()
        results = [m for m in branch.members if len(m.users) > (m in branch.kept)]
        arms: list[tuple[list[Statement], list[ast.expr]]] = []
        unread = set(before[2])
        for mode in (TRAINING, EVALUATION):
            self._enter(before)
            self.left = _less(outer, reads[1 - mode])
            arms.append(self._arm(branch, mode, results))
            unread &= set(self.inline)
        self._enter(before)
        self.inline = {node: made for node, made in before[2].items() if node in unread}
        self.left = _less(_less(outer, reads[TRAINING]), reads[EVALUATION])
        chosen = self._result_names(results, arms)
        bodies = [_finished(body, values, chosen) for body, values in arms]
        if not bodies[TRAINING] and not bodies[EVALUATION]:
            return
        origin = next((s.origin for s in [*arms[0][0], *arms[1][0]] if s.origin), None)
        self.push(self._if(*bodies), origin)

    def _if(self: RegionWriter, body: list[ast.stmt], orelse: list[ast.stmt]) -> ast.stmt:
        test = self.program.dialect.mode()
        if not body:
            return ast.If(ast.UnaryOp(ast.Not(), test), orelse, [])
        return ast.If(test, body, orelse)

    def _scope(self: RegionWriter) -> tuple[Any, ...]:
        return self.statements, self.holder, self.inline, self.sizes, self.lists

    def _enter(self: RegionWriter, before: tuple[Any, ...]) -> None:
        """Begin where the bodies begin."""
        self.statements = before[0]
        self.holder, self.inline, self.sizes, self.lists = (dict(part) for part in before[1:])

    def _read_by(self: RegionWriter, branch: Branch, mode: int) -> dict[fx.Node, int]:
        """Count what one body reads."""
        found: dict[fx.Node, int] = {}
        items = branch.arms[mode]
        nodes = [n for i in items for n in (i.nodes() if isinstance(i, Call) else [i])]
        given = [a for n in nodes for a in flat((n.args, n.kwargs))]
        for value in [*given, *(m.args[mode] for m in branch.members)]:
            if isinstance(value, fx.Node):
                root = self._root_value(value)
                found[root] = found.get(root, 0) + 1
        return found

    def _arm(
        self: RegionWriter, branch: Branch, mode: int, results: list[fx.Node]
    ) -> tuple[list[Statement], list[ast.expr]]:
        """Return the statements of one body, and what the results are at its end."""
        self.statements = []
        self._items(branch.arms[mode])
        for member, kept in branch.kept.items():
            value = member.args[mode]
            if mode == TRAINING:
                self.left[value] = self.left.get(value, 0) + (member in results)  # type: ignore[index, arg-type]
                self._keep_here(kept, value)  # type: ignore[arg-type]
        values = [self.read(m.args[mode]) for m in results]  # type: ignore[arg-type]
        return self.statements, values

    def _keep_here(self: RegionWriter, kept: fx.Node, value: fx.Node) -> None:
        rule = self.program.dialect.rule(self.program, kept)
        assert rule is not None
        self.effect(OpCall(self, kept, rule), value)

    def _result_names(
        self: RegionWriter,
        results: list[fx.Node],
        arms: list[tuple[list[Statement], list[ast.expr]]],
    ) -> list[str]:
        """Name the results as the author did, and hold them."""
        chosen: list[str] = []
        for i, node in enumerate(results):
            assigned, _ = self._author_names(node)
            ends = {v.id for _, values in arms if isinstance(v := values[i], ast.Name)}
            said = assigned[0] if assigned and len(assigned) == 1 else None
            wanted = said or (min(ends, key=len) if ends else None) or self.noun(node, "x")
            name = self._free_name(names.local(wanted), node, ast.Constant(None))
            if name in chosen:
                name = names.unique(name, {*chosen, *self.holder})
            chosen.append(name)
            self.holder[name] = node
            self.exprs[node] = ast.Name(name, ast.Load())
        return chosen


def _less(left: dict[fx.Node, int], reads: dict[fx.Node, int]) -> dict[fx.Node, int]:
    return {**left, **{n: left[n] - count for n, count in reads.items() if n in left}}


def _finished(body: list[Statement], values: list[ast.expr], chosen: list[str]) -> list[ast.stmt]:
    """Return a body's statements, at the end of which the results have their names."""
    statements = [s.node for s in body]
    taken = {n for s in statements for n in names_in(s)} | _stored(statements)
    ends = dict(zip(chosen, values, strict=True))
    for name, value in list(ends.items()):
        own = isinstance(value, ast.Name) and value.id in _stored(statements)
        alone = own and sum(ast.dump(v) == ast.dump(value) for v in values) == 1
        if alone and name not in taken and value.id not in chosen:  # type: ignore[attr-defined]
            rename = _Rename(value.id, name)  # type: ignore[attr-defined]
            statements = [rename.visit(copy.deepcopy(s)) for s in statements]
            ends[name] = ast.Name(name, ast.Load())
            taken.add(name)
    rest = {n: v for n, v in ends.items() if not (isinstance(v, ast.Name) and v.id == n)}
    if any(n in names_in(v) for n in rest for m, v in rest.items() if m != n):
        targets = ast.Tuple([ast.Name(n, ast.Store()) for n in rest], ast.Store())
        return [*statements, ast.Assign([targets], ast.Tuple([*rest.values()], ast.Load()))]
    return [*statements, *(assignment(n, v) for n, v in rest.items())]


def _stored(statements: list[ast.stmt]) -> set[str]:
    nodes = [n for s in statements for n in ast.walk(s) if isinstance(n, ast.Name)]
    return {n.id for n in nodes if isinstance(n.ctx, ast.Store)}


class _Rename(ast.NodeTransformer):
    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self.new, node.ctx) if node.id == self.old else node
