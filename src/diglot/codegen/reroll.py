"""Statements that the author wrote once, in a loop over a ModuleList, and capture unrolled.

A program repeats itself where the same statements follow each other with other numbers: here the numbers are
places in lists (``self.experts[0]``, ``self.experts[1]``, …) or count on with them. Such a run becomes a loop again::

    for i, expert in enumerate(self.experts):
        mask = ops.equal(idx, i)
        out = out + mask * expert(x)

Nothing is reordered: the loop runs the very statements that it stands for.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import itertools
from typing import Any

from diglot.codegen import author, names
from diglot.codegen.expr import E, call, names_in, to_ast
from diglot.codegen.statements import Statement, assignment

_LONGEST = 12  # statements in the body of a loop


@dataclasses.dataclass
class Varying:
    """How one place of a template changes from one repetition to the next: ``first + step * i``."""

    first: int
    step: int


class Reroll:
    """Turns runs of equal statements of one body back into loops; ``lengths`` are those of the list attributes."""

    def __init__(self, lengths: dict[str, int], taken: set[str]) -> None:
        self.lengths = lengths
        self.taken = taken

    def body(self, statements: list[Statement]) -> list[Statement]:
        """Return the statements with every run that repeats itself as a loop or a comprehension."""
        found: list[Statement] = []
        for statement in statements:
            found += self._accumulated(self._branched(statement))
        return self._runs(self._collected(found))

    def _branched(self, statement: Statement) -> Statement:
        """``if training:`` has two bodies."""
        node = statement.node
        if not isinstance(node, ast.If):
            return statement
        bodies = [
            [s.node for s in self.body([dataclasses.replace(statement, node=n) for n in nodes])]
            for nodes in (node.body, node.orelse)
        ]
        return dataclasses.replace(statement, node=ast.If(node.test, *bodies))

    # --- runs of statements ---------------------------------------------------------------------------------

    def _runs(self, statements: list[Statement]) -> list[Statement]:
        done: list[Statement] = []
        position = 0
        while position < len(statements):
            length, times = self._longest(statements[position:])
            if times < 2:
                done.append(statements[position])
                position += 1
                continue
            blocks = [
                [s.node for s in statements[position + i * length :][:length]] for i in range(times)
            ]
            first = statements[position]
            loop = self._loop(blocks, first)
            done.append(dataclasses.replace(first, node=loop))
            position += length * times
        return done

    def _longest(self, rest: list[Statement]) -> tuple[int, int]:
        """Return the length of the block that repeats from here on, and how often, by what it covers."""
        best = (1, 1)
        for length in range(1, min(_LONGEST, len(rest) // 2) + 1):
            nodes = [s.node for s in rest]
            blocks = [nodes[i : i + length] for i in range(0, len(nodes) - length + 1, length)]
            times = 1
            while times < len(blocks) and self._may_repeat(blocks[: times + 1]):
                times += 1
            if length * times > best[0] * best[1] and self._repeats(blocks[:times]):
                best = (length, times)
        return best

    def _may_repeat(self, blocks: list[list[Any]]) -> bool:
        places = varying(blocks)
        return places is not None and bool(self._lists(blocks[0], places))

    def _repeats(self, blocks: list[list[Any]]) -> bool:
        """Tell whether a person would have written a loop. Any two numbers are a progression: of two, 0 and 1."""
        if len(blocks) < 2 or not self._may_repeat(blocks):
            return False
        places = varying(blocks) or {}
        listed = {n for p, n in _indexed(blocks[0]) if _list_item(p) in self.lengths}
        plain = [v for n, v in places.items() if n not in listed]
        return len(blocks) > 2 or all((v.first, v.step) == (0, 1) for v in plain)

    def _loop(self, blocks: list[list[Any]], origin: Statement) -> ast.For:
        target, iterator, body = self._rolled(blocks, origin)
        return ast.For(target, iterator, body, [], None)

    # --- rolling --------------------------------------------------------------------------------------------

    def _lists(self, template: list[Any], places: dict[int, Varying]) -> list[tuple[str, Varying]]:
        """Return the list attributes of which each repetition reads the next item."""
        found: dict[str, Varying] = {}
        for node, number in _indexed(template):
            place = places.get(number)
            name = _list_item(node)
            if place is None or name is None or abs(place.step) != 1 or name not in self.lengths:
                continue
            if found.setdefault(name, place) != place:
                return []  # two places of one list at once
        return list(found.items())

    def _rolled(
        self, blocks: list[list[Any]], origin: Statement
    ) -> tuple[ast.expr, ast.expr, list[Any]]:
        """Return the loop's variables, what it runs over, and its body."""
        places = varying(blocks) or {}
        order = list(self.lengths)
        lists = sorted(self._lists(blocks[0], places), key=lambda item: order.index(item[0]))
        said = author.loop_names(origin.origin) if origin.origin else {}
        taken = {*self.taken, *(n for s in blocks[0] for n in names_in(s))}
        variables: dict[str, str] = {}
        for name, _ in lists:
            wanted = said.get(name) or (said.get("") if len(lists) == 1 else None)
            variables[name] = names.unique(names.local(wanted or names.singular(name)), taken)
            taken.add(variables[name])
        counter = names.unique(names.local(said.get("#") or "i"), taken)
        template = copy.deepcopy(blocks[0])
        rewrite = _Rolled(variables, places, counter)
        body = [rewrite.visit(n) for n in template]
        items = [self._part(name, place, len(blocks)) for name, place in lists]
        target = _names([variables[n] for n, _ in lists])
        iterator = items[0] if len(items) == 1 else call("zip", *items)
        if rewrite.counted:
            target = ast.Tuple([ast.Name(counter, ast.Store()), target], ast.Store())
            iterator = call("enumerate", iterator)
        return target, iterator, body

    def _part(self, name: str, place: Varying, count: int) -> ast.expr:
        """Return a list attribute, or the slice of it that the loop runs over."""
        whole, first = self.lengths[name], place.first
        if place.step < 0:
            return call("reversed", self._part(name, Varying(first - count + 1, 1), count))
        sequence = E(f"self.{name}")
        if first == 0 and count == whole:
            return sequence
        low = to_ast(first) if first else None
        high = to_ast(first + count) if first + count < whole else None
        return ast.Subscript(sequence, ast.Slice(low, high), ast.Load())

    # --- sums -----------------------------------------------------------------------------------------------

    def _accumulated(self, statement: Statement) -> list[Statement]:
        """``out = out + a[0](x) + a[1](x)`` as two statements, which :meth:`_runs` takes for a loop."""
        node = statement.node
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Return) and node.value is not None:
            return [self._summed(statement, node.value)]
        if not (isinstance(node, ast.Assign) and isinstance(target, ast.Name)):
            return [statement]
        terms, name = _terms(node.value), target.id
        for start in range(len(terms) - 1):
            rest = [[t] for t in terms[start:]]
            if not self._repeats(rest):
                continue
            if any(name in names_in(t) for t in terms[start:]):
                return [statement]
            if start == 0:
                return [self._summed(statement, node.value)]
            before = terms[0]
            for term in terms[1:start]:
                before = ast.BinOp(before, ast.Add(), term)
            steps = [ast.BinOp(ast.Name(name, ast.Load()), ast.Add(), t) for t in terms[start:]]
            values = [] if isinstance(before, ast.Name) and before.id == name else [before]
            return [
                dataclasses.replace(statement, node=assignment(name, v)) for v in [*values, *steps]
            ]
        return [statement]

    def _summed(self, statement: Statement, value: ast.expr) -> Statement:
        """``h = sum([embed(x) for embed in self.embeds])``, where every term is a repetition."""
        terms = [[t] for t in _terms(value)]
        if not self._repeats(terms):
            return statement
        target, iterator, body = self._rolled(terms, statement)
        made = call("sum", ast.ListComp(body[0], [_over(target, iterator)]))
        return dataclasses.replace(statement, node=_Swap(value, made).visit(statement.node))

    # --- lists of results -----------------------------------------------------------------------------------

    def _collected(self, statements: list[Statement]) -> list[Statement]:
        """Lists of results that a loop made: appended one by one, or a comprehension."""
        done = list(statements)
        for statement in statements:
            for found in [n for n in ast.walk(statement.node) if isinstance(n, ast.List)]:
                if len(found.elts) > 1 and statement in done:
                    done = self._collect(done, done.index(statement), found)
        return done

    def _collect(
        self, statements: list[Statement], position: int, found: ast.List
    ) -> list[Statement]:
        """Return the statements with one list as a comprehension, or as appended to in a loop."""
        made_by = _makers(statements, position, found)
        items: list[ast.expr] = [
            statements[m].node.value if m is not None else e  # type: ignore[attr-defined]
            for e, m in zip(found.elts, made_by, strict=True)
        ]
        blocks = [[item] for item in items]
        if not self._repeats(blocks):
            return self._appended(statements, position, found, made_by)
        if any(m is not None and not _may_move(statements, m, position) for m in made_by):
            return self._appended(statements, position, found, made_by)
        target, iterator, body = self._rolled(blocks, statements[position])
        comprehension = ast.ListComp(body[0], [_over(target, iterator)])
        gone = {m for m in made_by if m is not None}
        node = _Swap(found, comprehension).visit(statements[position].node)
        kept = [s for i, s in enumerate(statements) if i not in gone]
        kept[kept.index(statements[position])] = dataclasses.replace(
            statements[position], node=node
        )
        return kept

    def _appended(
        self, statements: list[Statement], position: int, found: ast.List, made_by: list[int | None]
    ) -> list[Statement]:
        """Return the statements with ``outputs.append(…)`` for each item, if those are a loop's."""
        inside = [m for m in made_by if m is not None]
        if len(inside) < len(made_by) - 1 or inside != sorted(inside) or not inside:
            return statements
        if made_by[-1] is not None and len(inside) < len(made_by):
            return statements
        used = {n for s in statements for n in names_in(s.node)}
        wanted = names.unique("outputs", {*used, *self.taken})
        changed: list[Statement] = []
        for i, statement in enumerate(statements[:position]):
            if i in inside:
                made = _append(wanted, statement.node.value)  # type: ignore[attr-defined]
                statement = dataclasses.replace(statement, node=made)
            changed.append(statement)
        whole = statements[position]
        if made_by[-1] is None:
            changed.append(dataclasses.replace(whole, node=_append(wanted, found.elts[-1])))
        rolled = self._runs(changed)
        appends = [n for s in rolled for n in ast.walk(s.node) if _is_append(n, wanted)]
        start = next(
            (i for i, s in enumerate(rolled) if isinstance(s.node, ast.For)
             and any(_is_append(n, wanted) for n in ast.walk(s.node))), None,
        )  # fmt: skip
        if len(appends) != 1 or start is None:
            return statements
        empty = dataclasses.replace(rolled[start], node=assignment(wanted, E("[]")))
        node = _Swap(found, ast.Name(wanted, ast.Load())).visit(whole.node)
        end = dataclasses.replace(whole, node=node)
        return [*rolled[:start], empty, *rolled[start:], end, *statements[position + 1 :]]


def reroll(
    statements: list[Statement], inits: list[tuple[str, ast.expr]], params: list[str]
) -> list[Statement]:
    """Return a body in which statements that repeat themselves over lists of layers are loops."""
    lengths = {name: n for name, value in inits if (n := _length(value)) is not None}
    if not lengths:
        return statements
    taken = {*params, *(n for s in statements for n in names_in(s.node))}
    return Reroll(lengths, taken).body(statements)


def varying(blocks: list[list[Any]]) -> dict[int, Varying] | None:
    """Return the places of the first block (by order) whose whole number counts on; ``None`` if more differs."""
    shapes = [[ast.dump(_Blank().visit(copy.deepcopy(n))) for n in b] for b in blocks]
    if any(s != shapes[0] for s in shapes[1:]):
        return None
    rows = [[c.value for _, _, c in _numbers(b)] for b in blocks]
    found: dict[int, Varying] = {}
    for place, values in enumerate(zip(*rows, strict=True)):
        step = values[1] - values[0]
        if any(b - a != step for a, b in itertools.pairwise(values)):
            return None
        if step:
            found[place] = Varying(values[0], step)
    return found


def _whole(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


class _Blank(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Constant("<int>") if _whole(node) else node


def _numbers(block: list[Any]) -> list[tuple[ast.AST, ast.AST, Any]]:
    """Return ``(parent, …, constant)`` for each whole number, in the order of a visit."""
    found: list[tuple[ast.AST, ast.AST, Any]] = []

    def visit(node: ast.AST, parent: ast.AST) -> None:
        if _whole(node):
            found.append((parent, parent, node))
        for child in ast.iter_child_nodes(node):
            visit(child, node)

    for statement in block:
        visit(statement, statement)
    return found


def _indexed(block: list[Any]) -> list[tuple[ast.AST, int]]:
    """Return the parent and the place of each whole number."""
    return [(parent, i) for i, (parent, _, _) in enumerate(_numbers(block))]


def _list_item(node: ast.AST) -> str | None:
    """Return ``name`` of ``self.name[number]``."""
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute)):
        return None
    owner = node.value.value
    return node.value.attr if isinstance(owner, ast.Name) and owner.id == "self" else None


class _Rolled(ast.NodeTransformer):
    """Puts the loop's variables in the place of list items and of numbers that count on."""

    def __init__(self, variables: dict[str, str], places: dict[int, Varying], counter: str) -> None:
        self.variables, self.places, self.counter = variables, places, counter
        self.number = -1
        self.counted = False

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        name = _list_item(node)
        if name in self.variables and _whole(node.slice) and self.number + 1 in self.places:
            self.number += 1
            return ast.Name(self.variables[name], ast.Load())
        self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not _whole(node):
            return node
        self.number += 1
        place = self.places.get(self.number)
        if place is None:
            return node
        self.counted = True
        made: ast.expr = ast.Name(self.counter, ast.Load())
        if place.step != 1:
            made = ast.BinOp(to_ast(place.step), ast.Mult(), made)
        return ast.BinOp(made, ast.Add(), to_ast(place.first)) if place.first else made


class _Swap(ast.NodeTransformer):
    """Puts one expression in the place of another."""

    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else super().visit(node)


def _makers(statements: list[Statement], position: int, found: ast.List) -> list[int | None]:
    """Return, for each item of a list, the statement that made it for this list alone."""
    result: list[int | None] = []
    for item in found.elts:
        maker = None
        if isinstance(item, ast.Name):
            sets = [i for i, s in enumerate(statements[:position]) if _sets(s, item.id)]
            if sets:
                reads = sum(
                    isinstance(n, ast.Name) and n.id == item.id and isinstance(n.ctx, ast.Load)
                    for s in statements[sets[-1] + 1 : position + 1]
                    for n in ast.walk(s.node)
                )
                after = next((s for s in statements[position:] if _sets(s, item.id)), None)
                later = (
                    any(item.id in names_in(s.node) for s in statements[position + 1 :])
                    and after is None
                )
                maker = sets[-1] if reads == 1 and not later else None
        result.append(maker)
    return result


def _sets(statement: Statement, name: str) -> bool:
    node = statement.node
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
    )


def _may_move(statements: list[Statement], start: int, position: int) -> bool:
    """Tell whether a statement's value may be computed later: nothing that it reads changes until then."""
    reads = names_in(statements[start].node.value)  # type: ignore[attr-defined]
    between = statements[start + 1 : position]
    stored = {
        n.id
        for s in between
        for n in ast.walk(s.node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return not reads & stored


def _append(name: str, value: ast.expr) -> ast.Expr:
    return ast.Expr(E("xs.append(value)", xs=ast.Name(name, ast.Load()), value=value))


def _is_append(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "append"
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    )


def _terms(value: ast.expr) -> list[ast.expr]:
    """Return the terms of ``a + b + c``, from the left."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return [*_terms(value.left), value.right]
    return [value]


def _over(target: ast.expr, iterator: ast.expr) -> ast.comprehension:
    return ast.comprehension(target, iterator, [], 0)


def _names(found: list[str]) -> ast.expr:
    made: list[ast.expr] = [ast.Name(n, ast.Store()) for n in found]
    return made[0] if len(made) == 1 else ast.Tuple(made, ast.Store())


def _length(value: ast.expr) -> int | None:
    """Return the length of a list of layers as a constructor builds it."""
    if isinstance(value, ast.List):
        found = [1 if not isinstance(e, ast.Starred) else _length(e.value) for e in value.elts]
        return None if None in found else sum(n for n in found if n is not None)
    if isinstance(value, ast.ListComp) and isinstance(value.generators[0].iter, ast.Call):
        count = value.generators[0].iter.args[-1]
        return count.value if isinstance(count, ast.Constant) and _whole(count) else None  # type: ignore[return-value]
    return None


__all__ = ["reroll"]
