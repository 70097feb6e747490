"""Questions about the call tree that several writers ask; dissolving a region into its caller."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from diglot.codegen.names import unique
from diglot.codegen.region import RegionWriter
from diglot.codegen.statements import Key, ListIndex, Member
from diglot.ir.hub import Call, Hub, is_mark, target_name
from diglot.ir.leaves import is_leaf_class

if TYPE_CHECKING:
    from diglot.codegen.program import Program

_FREE = {"_operator.getitem", "operator.getitem"}


def is_chain(region: Call) -> bool:
    """Tell whether a region is an ``nn.Sequential``, under whatever name (a Keras model's, say)."""
    if region.class_name == "Sequential":
        return True
    mirrored = region.cls is not None and hasattr(region.cls, "source_class")
    return mirrored and issubclass(region.cls or object, nn.Sequential)


def dissolve(hub: Hub, region: Call) -> None:
    """Write a region's items into its caller, in place; its marks become plain identities."""
    parent = region.parent
    assert parent is not None
    at = parent.items.index(region)
    parent.items[at : at + 1] = region.items
    for item in region.items:
        if isinstance(item, Call):
            item.parent = parent
        else:
            hub.call_of[item] = parent


def dissolve_trivial(hub: Hub) -> None:
    """Dissolve regions that would make classes nobody would write.

    A module that computes nothing; one op without weights (an activation in a class of its own); a subclass of a
    torch.nn layer that comes down to that one layer (``LayerNorm2d``). Innermost first.
    """
    for region in reversed(list(hub.root.walk())):
        if region is hub.root or region.function or region.parent is None:
            continue
        if any(isinstance(i, Call) for i in region.items):
            if not region.outputs:
                dissolve(hub, region)
            continue
        ops = [
            i
            for i in region.items
            if not is_mark(i) and target_name(i) not in _FREE and not i.meta.get("free")
        ]
        if len(ops) > 1 and region.outputs:
            continue
        weights = [w for op in ops for w in op.all_input_nodes if w in hub.parameters]
        is_layer = region.cls is not None and any(
            is_leaf_class(b) for b in region.cls.__mro__[1:-1] if b is not nn.Module
        )
        container = is_chain(region) or region.class_name in ("ModuleList", "ModuleDict")
        if (not ops or not weights or is_layer or not region.outputs) and not (container and ops):
            dissolve(hub, region)


class TreeQueries:
    """Mixed into :class:`Program`."""

    hub: Hub
    keeps_names: bool

    def lexical_parent(self: Program, region: Call) -> Call | None:
        """Return the region in whose source a call is written: a lambda's is where it was defined."""
        parent = region.parent
        while parent is not None and parent.function:
            parent = parent.parent.parent if parent.parent else None
        return parent

    def calls_below(self: Program, region: Call) -> list[Call]:
        """Return the calls written in a region's source, those in functions that it hands on included."""
        found: list[Call] = []

        def inside(items: list[Any]) -> None:
            for item in items:
                if isinstance(item, Call) and not item.function:
                    found.append(item)
                    for inner in item.items:
                        if isinstance(inner, Call) and inner.function:
                            inside(inner.items)

        inside(region.items)
        return found

    def written(self: Program) -> list[Call]:
        """Return every region that is written, the root first."""
        found = [self.hub.root]
        for region in found:
            found.extend(self.calls_below(region))
        return found

    def is_sequential(self: Program, region: Call) -> bool:
        """Tell whether a region is written as ``keras.Sequential``, which checks nothing."""
        if region is self.hub.root and (
            self.root_is_class or any(not limit.enforced for limit in self.limits)
        ):
            return False
        return is_chain(region) and not region.function

    def is_known(self: Program, path: str) -> bool:
        """Tell whether a module's mirror is known to have been one in PyTorch, with these very items."""
        return bool(getattr(self.modules.get(path), "is_known", False))

    def grouped_members(self: Program, region: Call) -> list[tuple[str, Any]]:
        """Return a region's attributes in the author's order, list attributes as lists."""
        writer = self.writer(region)
        order = self._order(region)
        singles: dict[str, Any] = {}
        first: dict[str, float] = {}
        for (name, index), member in writer.members.items():
            before = (
                order.get(member.source.removesuffix("_pad"), len(order)) - 0.5
            )  # padding before its layer
            place = order.get(member.source, before)
            first[name] = min(first.get(name, place), place)
            if index is None:
                singles[name] = member
            else:
                singles.setdefault(name, {})[index] = member
        result = []
        for name in sorted(singles, key=lambda n: (first[n], list(singles).index(n))):
            value = singles[name]
            result.append((name, self._nested(value) if isinstance(value, dict) else value))
        return result

    def _nested(self: Program, members: dict[Any, Any]) -> list[Any] | dict[str, Any]:
        """Return the members of a list or dict attribute as lists and dicts; ``None`` keeps an item's place."""
        held: dict[Any, Any] = {}
        for index, member in members.items():
            first, *rest = index if isinstance(index, tuple) else (index,)
            if rest:
                held.setdefault(first, {})[tuple(rest)] = member
            else:
                held[first] = member
        made = {i: self._nested(m) if isinstance(m, dict) else m for i, m in held.items()}
        if not all(isinstance(i, int) for i in made):
            return {str(i): m for i, m in made.items()}
        places = range(max(made) + 1) if self.keeps_names else sorted(made)
        return [made.get(i) for i in places]

    def _order(self: Program, region: Call) -> dict[str, int]:
        module = self.modules.get(region.path)
        if module is None:
            return {}
        named = [n for n, _ in module.named_parameters(recurse=False)] + [
            n for n, _ in module.named_modules()
        ]
        return {name: i for i, name in enumerate(named)}

    def dense(self: Program, region: Call, key: Key) -> Any:
        """Return the place of a list member when unused ones are left out."""
        if not isinstance(key[1], int) or self.keeps_names:
            return key[1]
        members = self.writer(region).members
        present = sorted(i for n, i in members if n == key[0] and isinstance(i, int))
        return present.index(key[1])

    def dense_indices(self: Program, region: Call, node: ast.AST) -> Any:
        """Return a statement with list places made dense."""
        program = self

        class Remap(ast.NodeTransformer):
            def visit_Subscript(self, item: ast.Subscript) -> ast.AST:
                self.generic_visit(item)
                if isinstance(item.slice, ListIndex):
                    holder, place = item.value, item.slice.value
                    own = isinstance(holder, ast.Attribute) and isinstance(holder.value, ast.Name)
                    if own and holder.value.id == "self":
                        place = program.dense(region, (holder.attr, place))
                    item.slice = ast.Constant(place)
                return item

        return Remap().visit(copy.deepcopy(node))

    def target_path(self: Program, region: Call, key: Key | None) -> str:
        """Return the attribute path, below the root layer, of a member of a region (or of the region itself)."""
        own = self._region_path(region)
        if key is None or key == self.writer(region).inherited:
            return own
        if self.is_sequential(region):
            place = self.sequence_keys(region).index(key)
            sources = [member.source for member in self.sequence(region)]
            whole = self.is_known(region.path)
            return _join(own, self.dialect.sequence_place(place, sources, whole))
        index = self.dense(region, key)
        places = index if isinstance(index, tuple) else () if index is None else (index,)
        return ".".join(filter(None, [own, key[0], *map(str, places)]))

    def _region_path(self: Program, region: Call) -> str:
        parent = self.lexical_parent(region)
        if parent is None:
            return ""
        return self.target_path(parent, self.writer(parent).child_key(region))

    # --- Sequential -------------------------------------------------------------------------------------

    def sequence_keys(self: Program, region: Call) -> list[Key]:
        """Return the members of a Sequential in the order they are applied."""
        return [key for key, _ in self._sequence(region)]

    def sequence(self: Program, region: Call) -> list[Member]:
        """Return the layers of a Sequential in the order they are applied."""
        return [member for _, member in self._sequence(region)]

    def _sequence(self: Program, region: Call) -> list[tuple[Key, Member]]:
        if region.path not in self._sequences:
            self._sequences[region.path] = self._plan_sequence(region)
        return self._sequences[region.path]

    def _plan_sequence(self: Program, region: Call) -> list[tuple[Key, Member]]:
        from diglot.codegen.classes import Dissolve

        writer: RegionWriter = self.writer(region)
        if len(writer.params) != 1 or writer.extra or len(self.live_outputs(region)) != 1:
            raise Dissolve(region)
        found: list[tuple[Key, Member]] = []
        previous = writer.params[0]
        for statement in writer.statements:
            if isinstance(statement.node, ast.Return):
                if not (
                    isinstance(statement.node.value, ast.Name)
                    and statement.node.value.id == previous
                ):
                    raise Dissolve(region)
                continue
            if not isinstance(statement.node, ast.Assign):
                raise Dissolve(region)
            keys = _peel(writer, statement.node.value, previous)
            if keys is None:
                made = self.as_layer(writer, statement)
                if made is None:
                    raise Dissolve(region)
                key = (f"stateless_{len(found)}", None)
                found.append((key, Member(made, self._leaf_name(writer, statement), kind="layer")))
            else:
                found.extend((k, writer.members[k]) for k in keys)
            target = statement.node.targets[0]
            if not isinstance(target, ast.Name):
                raise Dissolve(region)
            previous = target.id
        if len({k for k, _ in found}) != len(found):
            raise Dissolve(region)  # one layer called twice
        if self.keeps_names:
            _name_functions([member for _, member in found])
        if any(self.dialect.stands_apart(self, member) for _, member in found):
            raise Dissolve(region)
        return found

    def as_layer(self: Program, writer: RegionWriter, statement: Any) -> ast.expr | None:
        """Return the layer form of a stateless op (``layers.ReLU()``), where its rule has one."""
        from diglot.codegen.opcall import OpCall, Refusal

        node: fx.Node | None = statement.value
        if node is None or node.op != "call_function":
            return None
        rule = self.dialect.rule(self, node)
        if rule is None:
            return None
        try:
            return self.dialect.as_layer(OpCall(writer, node, rule))
        except Refusal:  # this use of the op is more than one layer
            return None

    def _leaf_name(self: Program, writer: RegionWriter, statement: Any) -> str:
        """Return the name, below a region, of the source module that a statement's value is of."""
        path = writer.leaf_path(statement.value) if statement.value is not None else ""
        return writer.relative(path) or ""


def _name_functions(members: list[Member]) -> None:
    """Give the functions of a sequence whose layers have names some, too, in place: ``gelu``."""
    taken = {member.source: None for member in members if member.source}
    if all(name.isdigit() for name in taken):
        return
    for member in members:
        made = member.construct
        if (
            not member.source
            and isinstance(made, ast.Call)
            and isinstance(made.func, ast.Attribute)
        ):
            member.source = unique(made.func.attr.lower(), taken)
            taken[member.source] = None


def _peel(writer: RegionWriter, value: ast.expr, innermost: str) -> list[Key] | None:
    """Return the members in ``self.b(self.a(x))``, innermost first, or ``None`` if it is anything else."""
    keys: list[Key] = []
    while isinstance(value, ast.Call) and len(value.args) == 1 and not value.keywords:
        key = next(
            (k for k in writer.members if ast.dump(writer.attribute(k)) == ast.dump(value.func)),
            None,
        )
        if key is None:
            return None
        keys.append(key)
        value = value.args[0]
    if not keys or not (isinstance(value, ast.Name) and value.id == innermost):
        return None
    return keys[::-1]


def _join(left: str, right: str) -> str:
    return ".".join(filter(None, [left, right]))
