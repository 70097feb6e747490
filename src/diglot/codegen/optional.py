"""Two forms of one class that differ by a part some instances do not have.

Before: ``BasicBlock`` with a ``downsample`` and one without, alike in everything else::

    identity = self.downsample(x)          # the other form reads x where this one reads identity
    out = out + identity

After: one class::

    self.downsample = keras.Sequential([...]) if downsample else None
    ...
    identity = x
    if self.downsample is not None:
        identity = self.downsample(x)

The same for a shortcut that some instances add at the end: ``if self.has_skip: x = x + shortcut``.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
from typing import Any

from diglot.codegen.expr import E, names_in
from diglot.codegen.region import RegionWriter
from diglot.codegen.statements import Statement
from diglot.ir.hub import Call


class Any_:
    """Stands for a number (or a flag, a text) that an instance without the part does not have."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"any {self.kind}"


def kind_of(value: Any) -> str:
    """Return what kind of constant a value is; ints, floats and pairs of sizes are one kind."""
    kind = value.kind if isinstance(value, Any_) else type(value).__name__
    return "number" if kind in ("int", "float", "tuple") else kind


@dataclasses.dataclass
class Instance:
    """One module of the source as it would be written if it had a class to itself."""

    region: Call
    writer: RegionWriter
    inits: list[tuple[str, ast.expr]]
    body: list[Statement]
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)


def merge_optional(instances: list[Instance]) -> None:
    """Give instances with and without optional parts the same form, in place."""
    while _merge_shortcut(instances) or _merge_part(instances):
        pass


def _merge_part(instances: list[Instance]) -> bool:
    for larger in instances:
        others = [i for i in instances if len(i.inits) == len(larger.inits) - 1]
        for smaller in others:
            part = _extra_part(larger, smaller)
            if part is None:
                continue
            alike = [i for i in instances if _same_form(i, larger)]
            lacking = [i for i in others if _extra_part(larger, i) == part]
            _unify(larger, part, alike, lacking)
            return True
    return False


def _extra_part(larger: Instance, smaller: Instance) -> str | None:
    """Return the attribute that only the larger form has, when that is all they differ in."""
    ours, theirs = dict(larger.inits), dict(smaller.inits)
    extra = [n for n in ours if n not in theirs]
    if len(extra) != 1 or [n for n in ours if n != extra[0]] != list(theirs):
        return None
    if any(_form(ours[n]) != _form(theirs[n]) for n in theirs):
        return None
    if larger.writer.params != smaller.writer.params:
        return None
    call = _optional_call(larger, extra[0])
    if call is None:
        return None
    index, name, argument = call
    left = [_with(s.node, name, argument) for i, s in enumerate(larger.body) if i != index]
    right = [s.node for s in smaller.body]
    if [_form(a) for a in left] != [_form(b) for b in right]:
        return None
    return extra[0]


def _optional_call(instance: Instance, attribute: str) -> tuple[int, str, ast.Name] | None:
    """Find ``name = self.attribute(variable)``, the only place the part is used."""
    used = [
        i
        for i, s in enumerate(instance.body)
        if f"self.{attribute}" in ast.unparse(ast.fix_missing_locations(s.node))
    ]
    if len(used) != 1:
        return None
    node = instance.body[used[0]].node
    if not (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Call)
    ):
        return None
    call = node.value
    if (
        ast.dump(call.func) != ast.dump(E(f"self.{attribute}"))
        or len(call.args) != 1
        or call.keywords
    ):
        return None
    argument, name = call.args[0], node.targets[0].id
    if not isinstance(argument, ast.Name):
        return None
    if argument.id == name:  # x = self.downsample(x)
        return used[0], name, argument
    before = {n for s in instance.body[: used[0]] for n in names_in(s.node)}
    return None if name in before else (used[0], name, argument)


def _with(node: ast.stmt, name: str, argument: ast.Name) -> ast.stmt:
    """Return a statement that reads the argument where it read the part's result."""

    class Rename(ast.NodeTransformer):
        def visit_Name(self, item: ast.Name) -> ast.expr:
            if item.id == name and isinstance(item.ctx, ast.Load):
                return ast.Name(argument.id, ast.Load())
            return item

    return Rename().visit(copy.deepcopy(node))


class Mask(ast.NodeTransformer):
    """Hides the constants of a tree, so that trees can be compared in form."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Constant(f"<{kind_of(node.value)}>")


def _form(node: ast.AST) -> str:
    return ast.dump(Mask().visit(copy.deepcopy(node)))


def _same_form(a: Instance, b: Instance) -> bool:
    return (
        [n for n, _ in a.inits] == [n for n, _ in b.inits]
        and [_form(e) for _, e in a.inits] == [_form(e) for _, e in b.inits]
        and [_form(s.node) for s in a.body] == [_form(s.node) for s in b.body]
    )


def _unify(larger: Instance, part: str, alike: list[Instance], lacking: list[Instance]) -> None:
    found = _optional_call(larger, part)
    assert found is not None
    index, name, argument = found
    # Take the templates before any instance changes.
    construct = dict(larger.inits)[part]
    order = [n for n, _ in larger.inits]
    forms = [(s, i == index) for i, s in enumerate(larger.body)]
    for instance in alike:
        inits = dict(instance.inits)
        inits[part] = _either(inits[part], True)
        instance.inits = [(n, inits[n]) for n in order]
        instance.body = _conditional(instance.body, index, part, name, argument)
    for instance in lacking:
        inits = dict(instance.inits)
        inits[part] = _either(open_numbers(construct), False)
        instance.inits = [(n, inits[n]) for n in order]
        rest = iter(instance.body)
        body = []
        for statement, optional in forms:
            own = statement if optional else next(rest)
            node = statement.node if optional else _fill(statement.node, own.node)
            body.append(dataclasses.replace(own, node=copy.deepcopy(node)))
        instance.body = _conditional(body, index, part, name, argument)


# --- shortcuts --------------------------------------------------------------------------------------------


def _merge_shortcut(instances: list[Instance]) -> bool:
    """Give instances that add their input at the end and those that do not the same form."""
    for larger in instances:
        found = _shortcut(larger)
        if found is None:
            continue
        added = found[1]
        rest = [s for i, s in enumerate(larger.body) if i not in found]
        shorter = dataclasses.replace(larger, body=rest)
        lacking = [i for i in instances if _same_form(i, shorter) and _same_params(i, larger)]
        if not lacking:
            continue
        alike = [i for i in instances if _same_form(i, larger) and _same_params(i, larger)]
        template = {i: larger.body[i] for i in found}
        for instance in lacking:
            own = iter(instance.body)
            instance.body = [
                _copied(template[i]) if i in template else next(own)
                for i in range(len(larger.body))
            ]
        for instance in [*alike, *lacking]:
            last = instance.body[added]
            test = ast.Constant(any(instance is a for a in alike))
            instance.body[added] = dataclasses.replace(last, node=ast.If(test, [last.node], []))
        return True
    return False


def _copied(statement: Statement) -> Statement:
    return dataclasses.replace(statement, node=copy.deepcopy(statement.node))


def _same_params(a: Instance, b: Instance) -> bool:
    return a.writer.params == b.writer.params


def _shortcut(instance: Instance) -> tuple[int, int] | None:
    """Find ``shortcut = x`` and ``x = x + shortcut``, the only places that name the shortcut."""
    for i, statement in enumerate(instance.body):
        node = statement.node
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)):
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Name):
            continue
        named = [j for j, s in enumerate(instance.body) if target.id in names_in(s.node)]
        if len(named) == 2 and named[0] == i and _adds(instance.body[named[1]].node, target.id):
            return i, named[1]
    return None


def _adds(node: ast.AST, shortcut: str) -> bool:
    """Tell whether a statement is ``x = x + shortcut`` (either way round)."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp)):
        return False
    target, value = node.targets[0], node.value
    if not (isinstance(target, ast.Name) and isinstance(value.op, ast.Add)):
        return False
    both = [value.left, value.right]
    if not all(isinstance(side, ast.Name) for side in both):
        return False
    return sorted(side.id for side in both) == sorted([target.id, shortcut])  # type: ignore[attr-defined]


def _either(construct: ast.expr, present: bool) -> ast.expr:
    return E("made if present else None", made=construct, present=present)


def open_numbers(construct: ast.expr) -> ast.expr:
    """Return a construct whose numbers may be anything."""

    class Open(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.expr:
            return ast.Constant(Any_(kind_of(node.value)))  # type: ignore[arg-type]

    return Open().visit(copy.deepcopy(construct))


def _fill(template: ast.stmt, own: ast.stmt) -> ast.stmt:
    """Return the template with the instance's own numbers."""
    numbers = iter([n.value for n in ast.walk(own) if isinstance(n, ast.Constant)])
    made = copy.deepcopy(template)
    for node in ast.walk(made):
        if isinstance(node, ast.Constant):
            node.value = next(numbers)
    return made


def _conditional(
    body: list[Statement], index: int, part: str, name: str, argument: ast.Name
) -> list[Statement]:
    call = body[index]
    first = Statement(
        ast.Assign([ast.Name(name, ast.Store())], copy.deepcopy(argument)), call.origin
    )
    before = body[:index] if argument.id == name else [*body[:index], first]
    test = E(f"self.{part} is not None")
    second = dataclasses.replace(call, node=ast.If(test, [copy.deepcopy(call.node)], []))
    return [*before, second, *body[index + 1 :]]


__all__ = ["Any_", "Instance", "Mask", "kind_of", "merge_optional", "open_numbers"]
