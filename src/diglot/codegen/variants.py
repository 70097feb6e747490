"""Forms of one class that compute alike but for a part that some lack, whatever their statements look like.

Before: a block with a projection in its shortcut, one without, one that pads first::

    shortcut = self.shortcut(x)                         x_2 = self.conv(x)
    return F.relu(shortcut + self.conv(x))              return F.relu(x + x_2)

After: one form, the larger one's, with a module that does nothing where a part is missing::

    self.shortcut = nn.Sequential(...) if shortcut else nn.Identity()

A sum with the block's own input that some lack becomes ``x + out if self.residual else out``, and padding
that some lack is padding by zero. The values are compared, not the statements: what each name stands for is put in
its place first.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
from typing import Any

from diglot.codegen.expr import E, names_in, text
from diglot.codegen.names import unique
from diglot.codegen.optional import Instance, kind_of, open_numbers
from diglot.codegen.statements import Statement

#: Arguments that are left out where they have their default.
_DEFAULTS = {"padding": 0, "stride": 1, "dilation": 1, "groups": 1, "bias": True}


@dataclasses.dataclass(eq=False)
class _Value:
    """An expression with the values of its variables in their place."""

    form: Any
    parts: list[_Value]
    node: ast.AST
    uses: int = 0


@dataclasses.dataclass
class _Match:
    """How a form is got from a larger one: other constants, parts left out."""

    #: Id of a node -> its value.
    constants: dict[int, Any] = dataclasses.field(default_factory=dict)
    #: Attributes.
    without: set[str] = dataclasses.field(default_factory=set)
    #: Id of a sum -> the side that is left.
    plain: dict[int, str] = dataclasses.field(default_factory=dict)
    #: Id of a node -> its padding.
    padded: dict[int, ast.Call] = dataclasses.field(default_factory=dict)

    def copy(self) -> _Match:
        """Return one to go on with, which may turn out wrong."""
        return _Match(dict(self.constants), set(self.without), dict(self.plain), dict(self.padded))


def merge_variants(instances: list[Instance], nothing: str) -> None:
    """Give instances that compute alike, but for a part that some lack, the same form, in place; ``nothing``
    makes the module that stands for a part that is missing (``nn.Identity()``)."""
    rest = [i for i in instances if _value_of(i) is not None]
    while len(rest) > 1:
        whole = max(rest, key=_size)
        parts = [i for i in rest if i is not whole]
        while any(_align(whole, i) for i in parts):
            pass  # and those before it with what the whole has become
        others = [(i, _matched(whole, i)) for i in parts]
        found = {id(i): m for i, m in others if m is not None}
        if any(m.without or m.plain or m.padded or m.constants for m in found.values()):
            _unify(whole, [(i, m) for i, m in others if m is not None], nothing)
        rest = [i for i in rest if i is not whole and id(i) not in found]


def _size(instance: Instance) -> tuple[int, int, int, int]:
    nodes = [n for s in instance.body for n in ast.walk(s.node)]
    options = sum(isinstance(n, ast.keyword) for _, made in instance.inits for n in ast.walk(made))
    # Padding of its own may be given to a form that lacks it, an option of a layer (``padding=1``) not.
    return len(instance.inits), sum(isinstance(n, ast.BinOp) for n in nodes), options, len(nodes)


# --- values ------------------------------------------------------------------------------------------------


def _value_of(instance: Instance) -> _Value | None:
    """Return what a body returns, in terms of its parameters; ``None`` where it is more than assignments."""
    known = {
        p: _Value(("parameter", i), [], ast.Name(p)) for i, p in enumerate(instance.writer.params)
    }
    for statement in instance.body:
        node = statement.node
        if isinstance(node, ast.Return) and node.value is not None:
            value = _read(node.value, known)
            value.uses += 1
            return value
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            return None
        known[node.targets[0].id] = _read(node.value, known)
    return None


def _is_constant(node: ast.AST) -> bool:
    """Tell whether an expression is a constant, or sizes: ``(1, 7)``."""
    sizes = isinstance(node, ast.Tuple) and all(
        isinstance(e, ast.Constant) and type(e.value) is int for e in node.elts
    )
    return isinstance(node, ast.Constant) or (sizes and bool(node.elts))  # type: ignore[attr-defined]


def _constant(node: Any) -> Any:
    return node.value if isinstance(node, ast.Constant) else tuple(e.value for e in node.elts)


def _read(node: ast.AST, known: dict[str, _Value]) -> _Value:
    if isinstance(node, ast.Name) and node.id in known:
        value = known[node.id]
        if value.form[0] == "parameter":
            value.node = node  # where it is read: what is read once may be given padding there
        return value
    if _is_constant(node):
        return _Value(("constant", kind_of(_constant(node))), [], node)
    form: list[Any] = [type(node).__name__]
    parts = []
    for name, value in ast.iter_fields(node):
        items = value if isinstance(value, list) else [value]
        form.append((name, len(items), [i for i in items if not isinstance(i, ast.AST)]))
        parts += [_read(i, known) for i in items if isinstance(i, ast.AST)]
    for part in parts:
        part.uses += 1
    return _Value(form, parts, node)


# --- matching ----------------------------------------------------------------------------------------------


def _matched(whole: Instance, part: Instance) -> _Match | None:
    """Return how a form is got from a larger one, or ``None`` where it is another."""
    ours, theirs = dict(whole.inits), dict(part.inits)
    if whole.writer.params != part.writer.params or not set(theirs) <= set(ours):
        return None
    match = _Match(without=set(ours) - set(theirs))
    for name, value in theirs.items():
        if not _same(_read(ours[name], {}), _read(value, {}), match):
            return None
    left, right = _value_of(whole), _value_of(part)
    if left is None or right is None or not _same(left, right, match):
        return None
    used = {n for s in part.body for n in _attributes(s.node)}
    return match if not match.without & used else None


def _align(whole: Instance, part: Instance) -> bool:
    """Write out what a form says in fewer words than the other where they are then the same, in place.

    ``[item for _ in range(2)]`` where the other's two items differ; an option that has its default.
    """
    if _matched(whole, part) is not None:
        return False
    ours, theirs = dict(whole.inits), dict(part.inits)
    for name in ours.keys() & theirs.keys():
        ours[name], theirs[name] = _aligned(ours[name], theirs[name])
    first, second = (
        dataclasses.replace(i, inits=list(made.items()))
        for i, made in ((whole, ours), (part, theirs))
    )
    if _matched(first, second) is None:
        return False
    whole.inits, part.inits = first.inits, second.inits
    return True


def _aligned(one: ast.expr, other: ast.expr) -> tuple[ast.expr, ast.expr]:
    """Two expressions with the same items and options, where they are calls or lists of one kind."""
    one, other = _opened(one, other), _opened(other, one)
    if isinstance(one, ast.List) and isinstance(other, ast.List):
        pairs = _all_aligned(one.elts, other.elts)
        return ast.List(pairs[0], ast.Load()), ast.List(pairs[1], ast.Load())
    if not (isinstance(one, ast.Call) and isinstance(other, ast.Call)):
        return one, other
    if text(one.func) != text(other.func):
        return one, other
    first, second = _all_aligned(one.args, other.args)
    return (
        ast.Call(one.func, first, _with_defaults(one.keywords, other.keywords)),
        ast.Call(other.func, second, _with_defaults(other.keywords, one.keywords)),
    )


def _all_aligned(
    ones: list[ast.expr], others: list[ast.expr]
) -> tuple[list[ast.expr], list[ast.expr]]:
    if len(ones) != len(others):
        return ones, others
    pairs = [_aligned(a, b) for a, b in zip(ones, others, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _with_defaults(own: list[ast.keyword], other: list[ast.keyword]) -> list[ast.keyword]:
    """A call's options with those that the other names; these have their defaults."""
    known = {k.arg for k in own}
    added = [k.arg for k in other if k.arg in _DEFAULTS and k.arg not in known]
    made = [*own, *(ast.keyword(n, ast.Constant(_DEFAULTS[n])) for n in added)]  # type: ignore[index]
    places = {k.arg: i for i, k in enumerate(other)}
    return sorted(made, key=lambda k: places.get(k.arg, len(places))) if added else own


def _opened(made: ast.expr, other: ast.expr) -> ast.expr:
    """A list's items one by one, where the other form's are and there are as many."""
    if not isinstance(made, ast.ListComp) or not isinstance(other, ast.List):
        return made
    if text(made.generators[0]).strip() != f"for _ in range({len(other.elts)})":
        return made
    return ast.List([copy.deepcopy(made.elt) for _ in other.elts], ast.Load())


def _attributes(node: ast.AST) -> set[str]:
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _parts_of(value: _Value) -> set[str]:
    """Return the attributes that a value is made with."""
    own = {value.node.attr} if isinstance(value.node, ast.Attribute) else set()
    return own.union(*(_parts_of(part) for part in value.parts))


def _same(ours: _Value, theirs: _Value, match: _Match) -> bool:
    """Tell whether two values are alike but for what one of them lacks; on success, ``match`` says how."""
    tries = [lambda found: _alike(ours, theirs, found)]
    tries += [lambda found, i=i: _left_out(ours, theirs, i, found) for i in _without(ours, match)]
    if _is_padding(theirs.node):
        tries.append(lambda found: _padded(ours, theirs, found))
    for attempt in tries:
        found = match.copy()
        if attempt(found):
            vars(match).update(vars(found))
            return True
    return False


def _alike(ours: _Value, theirs: _Value, match: _Match) -> bool:
    if _is_constant(ours.node) and _is_constant(theirs.node):
        value = _constant(theirs.node)
        return (
            ours.form == theirs.form and match.constants.setdefault(id(ours.node), value) == value
        )
    if isinstance(ours.node, ast.Call) and isinstance(theirs.node, ast.Call):
        return _calls(ours, theirs, match)
    if ours.form != theirs.form or len(ours.parts) != len(theirs.parts):
        return False
    return all(_same(a, b, match) for a, b in zip(ours.parts, theirs.parts, strict=True))


def _calls(ours: _Value, theirs: _Value, match: _Match) -> bool:
    """The same function on the same arguments; one that is left out has its default."""
    (own, named), (other, given) = _arguments(ours), _arguments(theirs)
    if len(own) != len(other) or not set(given) <= set(named):
        return False
    for name in set(named) - set(given):
        node = named[name].node
        if name not in _DEFAULTS or not _is_constant(node):
            return False
        match.constants[id(node)] = _DEFAULTS[name]
    pairs = [*zip(own, other, strict=True), *((named[n], given[n]) for n in given)]
    return all(_same(a, b, match) for a, b in pairs)


def _arguments(value: _Value) -> tuple[list[_Value], dict[str, _Value]]:
    """Return a call's function and positional arguments, and its arguments by name."""
    node = value.node
    assert isinstance(node, ast.Call)
    count = 1 + len(node.args)
    named = {
        k.arg or "": p.parts[0] for k, p in zip(node.keywords, value.parts[count:], strict=True)
    }
    return value.parts[:count], named


def _without(value: _Value, match: _Match) -> list[_Value]:
    """Return what is left of a value without what some instances lack: a part's call, padding, a shortcut."""
    node = value.node
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and value.parts[1:]:
        if node.func.attr in match.without and len(node.args) == 1:
            return [value.parts[1]]
        if _is_padding(node):
            return [value.parts[1]]
    if isinstance(node, ast.IfExp) and match.without & _parts_of(value.parts[1]):
        # What an identity in the place of a dropout does while training changes nothing.
        return [value.parts[2]]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [value.parts[0], value.parts[2]]
        return [b for a, b in (sides, sides[::-1]) if a.form == ("parameter", 0)]
    return []


def _is_padding(node: ast.AST) -> bool:
    """Tell whether an expression pads with one value: ``F.pad(x, (0, 1, 0, 1))``."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if len(node.args) != 2 or any(k.arg != "value" for k in node.keywords):
        return False
    return node.func.attr == "pad" and _is_constant(node.args[1])


def _no_padding(node: Any) -> tuple[int, ...]:
    return (0,) * len(_constant(node.args[1]))


def _left_out(ours: _Value, theirs: _Value, inner: _Value, match: _Match) -> bool:
    """The larger form without its shortcut, its part or its padding."""
    if isinstance(ours.node, ast.BinOp):
        match.plain[id(ours.node)] = "left" if inner is ours.parts[0] else "right"
    elif _is_padding(ours.node):
        match.constants[id(ours.node.args[1])] = _no_padding(ours.node)  # type: ignore[attr-defined]
    return _same(inner, theirs, match)


def _padded(ours: _Value, theirs: _Value, match: _Match) -> bool:
    """The larger form with padding where the other has some; only where its value is used once."""
    known = match.padded.get(
        id(ours.node), theirs.node
    )  # a value that is read twice is compared twice
    if ours.uses != 1 or known is not theirs.node:
        return False
    match.padded[id(ours.node)] = theirs.node  # type: ignore[assignment]
    return _same(ours, theirs.parts[1], match)


# --- one form ----------------------------------------------------------------------------------------------


def _unify(whole: Instance, others: list[tuple[Instance, _Match]], nothing: str) -> None:
    """Write all instances as the largest, each with its own constants and its flags for what it lacks."""
    lacking = set().union(*(m.without for _, m in others))
    plain = {node: side for _, m in others for node, side in m.plain.items()}
    padded = {node: pad for _, m in others for node, pad in m.padded.items()}
    body, inits = whole.body, whole.inits
    sum_name = unique("out", {n for s in body for n in names_in(s.node)})
    own = _Match(constants={id(n): _constant(n) for n in _sizes(whole)})
    for instance, match in [*others, (whole, own)]:
        fill = _Fill(match, plain, padded, sum_name)
        instance.body = [s for statement in body for s in fill.statement(statement)]
        instance.inits = []
        for name, value in inits:
            made = fill.visit(value)
            if name in match.without:
                made = open_numbers(_Fill(own, plain, padded, sum_name).visit(value))
            if name in lacking:
                there = name not in match.without
                made = E(f"made if there else {nothing}", made=made, there=there)
            instance.inits.append((name, made))


def _sizes(instance: Instance) -> list[ast.AST]:
    """Return the constants of several sizes, which others may have as one number."""
    parts = [*(v for _, v in instance.inits), *(s.node for s in instance.body)]
    return [n for p in parts for n in ast.walk(p) if isinstance(n, ast.Tuple) and _is_constant(n)]


class _Fill:
    """Copies statements with other constants, and sums that are made only where a flag says so."""

    def __init__(
        self, match: _Match, plain: dict[int, str], padded: dict[int, ast.Call], name: str
    ) -> None:
        self.match, self.plain, self.padded = match, plain, padded
        self.before: list[tuple[str, ast.expr]] = []
        self.name = name  # for what a sum adds to the input

    def statement(self, statement: Statement) -> list[Statement]:
        """Return the statement, after those that name what a sum adds to the block's input."""
        self.before = []
        node = self.visit(statement.node)
        first = [
            dataclasses.replace(statement, node=ast.Assign([ast.Name(n, ast.Store())], v))
            for n, v in self.before
        ]
        return [*first, dataclasses.replace(statement, node=node)]

    def visit(self, node: Any) -> Any:
        """Return the copy of a node, or of a list of them."""
        if isinstance(node, list):
            return [self.visit(n) for n in node]
        if not isinstance(node, ast.AST):
            return node
        if isinstance(node, ast.Constant) or id(node) in self.match.constants:
            return ast.Constant(self.match.constants.get(id(node), getattr(node, "value", None)))
        made = type(node)(**{name: self.visit(value) for name, value in ast.iter_fields(node)})
        if id(node) in self.padded:
            padding = copy.deepcopy(self.match.padded.get(id(node)) or self.padded[id(node)])
            if id(node) not in self.match.padded:
                padding.args[1] = ast.Constant(_no_padding(padding))  # type: ignore[arg-type]
            padding.args = [made, ast.Constant(_constant(padding.args[1]))]
            return padding
        if id(node) not in self.plain or not isinstance(made, ast.BinOp):
            return made
        return self._either(made, self.plain[id(node)], id(node) not in self.match.plain)

    def _either(self, made: ast.BinOp, side: str, there: bool) -> ast.expr:
        """``x + out if self.residual else out``, where ``out`` is the ``side`` that is left without the input."""
        other = getattr(made, side)
        if not isinstance(other, ast.Name):
            self.before.append((self.name, other))
            other = ast.Name(self.name, ast.Load())
            setattr(made, side, other)
        return ast.IfExp(ast.Constant(there), made, copy.deepcopy(other))


__all__ = ["merge_variants"]
