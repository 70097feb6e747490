"""How a region writes a value of several parts: ``q, k, v = ops.split(…)``."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import author, names
from diglot.codegen.expr import names_in
from diglot.codegen.statements import assignment, part_noun

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter


class PartWriter:
    """Mixed into :class:`RegionWriter`."""

    def _define_parts(self: RegionWriter, node: fx.Node, made: ast.expr, noun: str) -> None:
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
        bound = self._names_bound(made)
        targets = []
        for i in range(count):
            if i not in items or not self.left.get(items[i], 0):
                targets.append("_")
                continue
            hint = assigned[i] if assigned and len(assigned) == count else None
            hint = hint or (bound[i] if bound else part_noun(node, i, noun))
            chosen = self._free_name(names.local(hint), items[i], made)
            if chosen in targets:
                chosen = names.unique(names.local(hint), {*targets, *self.holder})
            targets.append(chosen)
        if bound:
            self._rename({a: b for a, b in zip(bound, targets, strict=True) if a != "_"})
        elif isinstance(made, ast.Tuple) and not names_in(made) & set(targets):
            for name, part in zip(targets, made.elts, strict=True):
                if name != "_":
                    self.push(assignment(name, part), origin)
        else:
            target = ast.Tuple([ast.Name(t, ast.Store()) for t in targets], ast.Store())
            self.push(ast.Assign([target], made), origin)
        for i, name in enumerate(targets):
            if i in items and name != "_":
                self.holder[name] = items[i]
                self.exprs[items[i]] = ast.Name(name, ast.Load())
        self.program.parts[(self.call, node)] = {
            i: self.exprs[items[i]] for i in items if items[i] in self.exprs
        }

    def _names_bound(self: RegionWriter, made: ast.expr) -> list[str] | None:
        """Return the names to which the op's rule has assigned the parts already; they are free again."""
        if not isinstance(made, ast.Tuple) or not self.statements:
            return None
        bound = [e.id for e in made.elts if isinstance(e, ast.Name)]
        last = self.statements[-1].node
        if len(bound) < len(made.elts) or not isinstance(last, ast.Assign):
            return None
        if not names_in(last.targets[0]) <= {*bound}:
            return None
        for name in bound:
            self.holder.pop(name, None)
        return bound

    def _rename(self: RegionWriter, names_: dict[str, str]) -> None:
        """Give what the last statements assign other names."""
        for statement in self.statements[-2:]:
            for name in ast.walk(statement.node):
                if isinstance(name, ast.Name) and name.id in names_:
                    name.id = names_[name.id]

    def _only_part(self: RegionWriter, made: ast.expr) -> int | None:
        """Return the place of the only part that a rule gives: ``(x, None)``."""
        if not isinstance(made, ast.Tuple):
            return None
        given = [
            i
            for i, e in enumerate(made.elts)
            if not (isinstance(e, ast.Constant) and e.value is None)
        ]
        return given[0] if len(given) == 1 else None

    def _define_part(
        self: RegionWriter,
        item: fx.Node | None,
        made: ast.expr,
        assigned: Any,
        origin: Any,
        noun: str,
        index: int,
    ) -> None:
        """Define the one part of a tuple that anybody reads."""
        if item is None or (self.left.get(item, 0) == 0 and not self._is_returned(item)):
            return
        name = None
        if assigned:
            name = (
                assigned[0]
                if len(assigned) == 1
                else assigned[index]
                if index < len(assigned)
                else None
            )
        if (name is None or self.is_taken(name)) and self._nests(item, made):
            self.inline[item] = made
        else:
            self._assign(item, made, name, origin, noun)
