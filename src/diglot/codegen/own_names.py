"""The names that layers had in the Keras model that a source was translated from, written where Keras gives others.

``self.hidden = layers.Dense(5, name="hidden1")``. A layer of a class has one name in all instances, or none is written;
in the layers of the user's own of a Functional model each instance is given its names.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E

if TYPE_CHECKING:
    from diglot.codegen.statements import Member
    from diglot.ir.hub import Call, Hub

_NUMBERED = re.compile(r"(.*?)(\d+)")


class OwnNames:
    """Knows what to call a member of a class."""

    def __init__(self, hub: Hub) -> None:
        self._given, self._automatic = hub.layer_names, hub.automatic_names
        self._own_layers = hub.own_layers
        self._alike: dict[Any, set[str]] = {}
        if self._given or self._automatic:
            for region in hub.root.walk():
                self._alike.setdefault(region.cls or region.class_name, set()).add(region.path)

    def of(self, region: Call, member: Member, made: ast.expr) -> str | None:
        """The name to write; None where Keras gives a layer of that class the name by itself."""
        if not self._alike or member.kind == "weight" or not isinstance(made, ast.Call):
            return None
        own = member.child.path.removeprefix(f"{region.path}.") if member.child else member.source
        paths = self._alike.get(region.cls or region.class_name, {region.path})
        names = {p: self._name(".".join(filter(None, [p, own])), made) for p in paths}
        if len(set(names.values())) > 1 and None not in names.values() and self._in_own(region):
            return names[region.path]  # which the class is given
        return next(iter(names.values())) if len(set(names.values())) == 1 else None

    def _in_own(self, region: Call) -> bool:
        """Tell whether a region is in a layer of the user's own, which the program makes by a class."""
        return any(region.path == p or region.path.startswith(f"{p}.") for p in self._own_layers)

    def _name(self, path: str, made: ast.Call) -> str | None:
        if path in self._given:
            return self._given[path]
        name = self._automatic.get(path)
        function = made.func.attr if isinstance(made.func, ast.Attribute) else ""
        function = made.func.id if isinstance(made.func, ast.Name) else function
        given = name is not None and re.sub(r"_\d+$", "", name) != _automatic_name(function)
        return name if given else None


def numbered(items: list[ast.expr]) -> ast.expr | None:
    """``[Block(name=f"block_{i}") for i in range(3)]`` for items that differ in the number of their names alone."""
    stems, numbers, rest = set(), [], set()
    for item in items:
        named = item.keywords[-1] if isinstance(item, ast.Call) and item.keywords else None
        if named is None or named.arg != "name" or not isinstance(named.value, ast.Constant):
            return None
        match = _NUMBERED.fullmatch(str(named.value.value))
        if match is None or str(int(match[2])) != match[2]:
            return None
        stems.add(match[1])
        numbers.append(int(match[2]))
        rest.add(ast.dump(ast.Call(item.func, item.args, item.keywords[:-1])))  # type: ignore[attr-defined]
    first = numbers[0] if numbers else 0
    if len(items) < 2 or len(stems) > 1 or len(rest) > 1:
        return None
    if numbers != list(range(first, first + len(items))):
        return None
    one = items[0]
    assert isinstance(one, ast.Call)
    text = [ast.Constant(stems.pop()), ast.FormattedValue(ast.Name("i", ast.Load()), -1)]
    made = ast.Call(
        one.func, one.args, [*one.keywords[:-1], ast.keyword("name", ast.JoinedStr(text))]
    )
    if first == 0:
        return E("[item for i in range(n)]", item=made, n=len(items))
    return E("[item for i in range(a, b)]", item=made, a=first, b=first + len(items))


def _automatic_name(name: str) -> str:
    """A class's name as Keras makes a layer's of it."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
