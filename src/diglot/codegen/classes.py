"""Instances of one module class -> one Layer class; where they differ in numbers, constructor arguments."""

from __future__ import annotations

import ast
import copy
import dataclasses
from typing import TYPE_CHECKING, Any

from diglot.codegen import author, names
from diglot.codegen.expr import E, call
from diglot.codegen.optional import Any_, Instance, Mask
from diglot.codegen.own_names import numbered
from diglot.codegen.reroll import reroll
from diglot.codegen.statements import Member, Statement
from diglot.codegen.table_arguments import Table, merge_tables
from diglot.ir.hub import Call

if TYPE_CHECKING:
    from diglot.codegen.program import Program


class Dissolve(Exception):
    """Raised when a region cannot be a class of its own and must be written into its caller."""

    def __init__(self, region: Call) -> None:
        super().__init__(region.path)
        self.region = region


@dataclasses.dataclass
class LayerClass:
    """A class of the generated program."""

    name: str
    instances: list[Instance]
    params: list[str]
    tree: ast.stmt  # a class, or a function
    statements: list[Statement]  # of ``call``, in order


class Classes:
    """Builds the classes of a program, innermost first."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.classes: list[LayerClass] = []
        self.taken: set[str] = set(program.helpers)  # which are classes beside these
        self._of_path: dict[str, tuple[LayerClass, Instance]] = {}
        self._sequences: dict[str, list[tuple[ast.expr, Any]]] = {}

    def build(self) -> LayerClass | None:
        """Build every class; the root's is last. ``None`` when the root is a plain Sequential."""
        self.build_regions(self.program.written())
        root = self.program.hub.root
        if self.program.is_sequential(root):
            self.program.sequence(root)  # raises Dissolve where it is none after all
        found = self._of_path.get(root.path)
        return found[0] if found else None

    def build_regions(self, regions: list[Call]) -> None:
        """Build the classes of these regions, innermost first."""
        levels: dict[int, dict[Any, dict[str, list[Call]]]] = {}
        for region in regions:
            if self.program.is_sequential(region):
                continue
            level = levels.setdefault(self._height(region), {})
            level.setdefault(region.cls or region.class_name, {}).setdefault(
                region.path, []
            ).append(region)
        for height in sorted(levels):
            for group in levels[height].values():
                self._build_group(group)

    def _height(self, region: Call) -> int:
        inner = [self._height(c) for c in self.program.calls_below(region)]
        own = 0 if self.program.is_sequential(region) else 1
        return own + max(inner, default=0)

    # --- instances ---------------------------------------------------------------------------------------

    def _build_group(self, group: dict[str, list[Call]]) -> None:
        instances = []
        for calls in group.values():
            made = [self._instance(c) for c in calls]
            for other in made[1:]:
                if _dump(other) != _dump(made[0]):
                    raise Dissolve(other.region)
            instances.append(made[0])
        self.program.dialect.merge(instances)
        merge_tables(instances)
        variants: dict[tuple[str, str], list[Instance]] = {}
        for instance in instances:
            frozen = self.program.dialect.frozen(self.program, instance)
            variants.setdefault((_dump(instance, mask=True), frozen), []).append(instance)
        base = self.program.dialect.class_name(instances[0].region.class_name)
        for members in variants.values():
            self._build_class(base, members, len(variants) > 1, list(variants.values()))

    def _instance(self, region: Call) -> Instance:
        writer = self.program.writer(region)
        inits: list[tuple[str, ast.expr]] = []
        for name, members in self.program.grouped_members(region):
            inits.append((name, self._attribute(members, region)))
        body = [
            dataclasses.replace(s, node=self.program.dense_indices(region, s.node))
            for s in writer.statements
        ]
        return Instance(region, writer, inits, reroll(body, inits, writer.params))

    def _attribute(self, members: Any, region: Call) -> ast.expr:
        """Return a member's construction, or the list or dict of several."""
        dialect = self.program.dialect
        if isinstance(members, list):
            return dialect.listed(self._list([self._attribute(m, region) for m in members]))
        if isinstance(members, dict):
            return dialect.keyed({key: self._attribute(m, region) for key, m in members.items()})
        if members is None:
            return dialect.absent()
        made = self._construct(members)
        name = self.program.own_names.of(region, members, made)
        if name and isinstance(made, ast.Call):
            made.keywords.append(ast.keyword("name", ast.Constant(name)))
        return self._whole(members, made)

    def _whole(self, member: Member, made: ast.expr) -> ast.expr:
        """Say of a part whether it is trained."""
        if member.child is None:
            return made
        return self.program.dialect.whole(self.program, member.child.path, made)

    def _construct(self, member: Member) -> ast.expr:
        if member.child is None:
            return copy.deepcopy(member.construct)
        if self.program.is_sequential(member.child):
            return self.sequence(member.child)
        found, instance = self._of_path[member.child.path]
        return call(found.name, **instance.arguments)

    def _list(self, items: list[ast.expr]) -> ast.expr:
        if len(items) > 1 and all(ast.dump(i) == ast.dump(items[0]) for i in items):
            return E("[item for _ in range(n)]", item=items[0], n=len(items))
        return numbered(items) or ast.List(self.program.dialect.rows(items), ast.Load())

    def sequence(self, region: Call) -> ast.expr:
        """Return ``keras.Sequential([...])`` or ``nn.Sequential(...)``."""
        members = self.program.sequence(region)
        items = [self._whole(m, self._construct(m)) for m in members]
        own = isinstance(items[0], ast.Call) and isinstance(items[0].func, ast.Name)
        run = own or len(items) > 2  # two alike of the framework's own layers are written out
        written = self._list(items) if run else ast.List(items, ast.Load())
        names, whole = [m.source for m in members], self.program.is_known(region.path)
        return self.program.dialect.sequence(names, items, written, whole)

    # --- classes -------------------------------------------------------------------------------------------

    def _build_class(
        self, base: str, instances: list[Instance], several: bool, variants: list[list[Instance]]
    ) -> None:
        name = self._class_name(base, instances, several, variants)
        self.taken.add(name)
        dialect = self.program.dialect
        params, places = self._parameters(instances)
        params, places = dialect.parameters(params, places, instances)
        dialect.positional = {**dialect.positional, name: tuple(params)}
        first = next(i for i in instances if not any(isinstance(v, Any_) for v in _constants(i)))
        for instance in instances:
            instance.arguments = {
                p: values[instances.index(instance)] for p, values in params.items()
            }
        inits = [(n, copy.deepcopy(e)) for n, e in first.inits]
        body = [dataclasses.replace(s, node=copy.deepcopy(s.node)) for s in first.body]
        _Replace(places).apply(inits, body)
        tree = dialect.tree(self.program, name, list(params), inits, body, first)
        made = LayerClass(name, instances, list(params), tree, body)
        self.classes.append(made)
        for instance in instances:
            self._of_path[instance.region.path] = (made, instance)

    def _class_name(
        self, base: str, mine: list[Instance], several: bool, variants: list[list[Instance]]
    ) -> str:
        if (not several or base not in self.taken) and (
            not any(len(v[0].inits) > len(mine[0].inits) for v in variants)
            or base not in self.taken
        ):
            return names.unique(base, self.taken)
        others = {n for v in variants if v is not mine for n, _ in v[0].inits}
        own = sorted(
            (n for n, _ in mine[0].inits if n not in others), key=lambda n: n.endswith("_pad")
        )
        if own:
            suffix = "".join(part.title() for part in own[0].split("_"))
            return names.unique(f"{base}With{suffix}", self.taken)
        number = 2
        while f"{base}{number}" in self.taken:
            number += 1
        return f"{base}{number}"

    def _parameters(self, instances: list[Instance]) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """Find the constants in which instances differ; name one parameter for each distinct row of values."""
        rows = [_constants(i) for i in instances]
        params: dict[str, list[Any]] = {}
        slots: dict[str, str] = {}
        places: dict[int, str] = {}
        known = [self._author_values(i) for i in instances]
        contexts = _contexts(instances[0])
        for place in range(len(rows[0])):
            values = [row[place] for row in rows]
            certain = [v for v in values if not isinstance(v, Any_)]
            constant = not certain or all(_equal(v, certain[0]) for v in certain)
            slot = contexts[place][1]
            like = {n: v for n, v in params.items() if not constant or _is_like(slots[n], slot)}
            name = self._known_parameter(like, values, constant)
            if constant and name is None:
                continue
            if name in dict(instances[0].inits) and not contexts[place][0]:
                name = None  # in the body, the attribute is the layer itself
            if name is None:
                name = self._parameter_name(instances, values, known, contexts[place])
                table = isinstance(certain[0], Table)
                if (
                    name in dict(instances[0].inits)
                    and not table
                    and not _is_flag(contexts[place], certain)
                ):
                    name = f"{name}_{contexts[place][1]}"  # the attribute holds the layer itself
                name = names.unique(name, params)
                params[name], slots[name] = values, slot
            places[place] = name
        filled = {name: _filled(name, params) for name in params}
        return filled, places

    def _known_parameter(
        self, params: dict[str, list[Any]], values: list[Any], constant: bool
    ) -> str | None:
        """Return a parameter that already has these values; each fills in what the other leaves open.

        A number that is the same wherever it is there at all is a parameter's only where it is not always there.
        """
        if constant and not (
            any(isinstance(v, Any_) for v in values)
            and len({v for v in values if not isinstance(v, Any_) and v is not True and v}) == 1
        ):
            return None
        for name, known in params.items():
            if all(_equal(a, b) for a, b in zip(known, values, strict=True)):
                known[:] = [
                    b if isinstance(a, Any_) else a for a, b in zip(known, values, strict=True)
                ]
                return name
        return None

    def _author_values(self, instance: Instance) -> dict[str, Any]:
        module = self.program.modules.get(instance.region.path)
        return author.constructor_values(module) if module is not None else {}

    def _parameter_name(
        self,
        instances: list[Instance],
        values: list[Any],
        known: list[dict[str, Any]],
        context: tuple[str, str],
    ) -> str:
        """Name a parameter as the author did: by what is passed to the layer, then by an equal value."""
        attribute, slot = context
        if slot == "name" and attribute:
            return names.local(f"{attribute}_name".lower())
        if _is_flag(context, values):
            held = None if attribute else self._held_by_modules(instances, values)
            return self.program.dialect.attribute(attribute or held or "residual")
        cls = instances[0].region.cls
        own = author.constructor_parameters(cls) if cls is not None else ()
        if isinstance(values[0], Table):
            return attribute
        if slot == "count":  # of layers in a list
            counts = author.loop_counts(cls) if cls is not None else ()
            return self.program.dialect.attribute(
                counts[0] if len(counts) == 1 else f"num_{attribute}"
            )
        for torch_slot in self.program.dialect.source_slots.get(slot, (slot,)):
            expression = (
                author.slot_expression(cls, attribute, torch_slot) if cls is not None else None
            )
            if expression in own:
                return self.program.dialect.attribute(names.local(expression))
        for name in known[0]:
            if all(name in k and _equal(k[name], v) for k, v in zip(known, values, strict=True)):
                return self.program.dialect.attribute(names.local(name))
        held = self._held_by_modules(instances, values)
        if held is not None:
            return self.program.dialect.attribute(names.local(held))
        return self.program.dialect.attribute(names.local(slot))

    def _held_by_modules(self, instances: list[Instance], values: list[Any]) -> str | None:
        """Return the plain attribute of the source modules that holds these values (``head_dim``)."""
        modules = [self.program.modules.get(i.region.path) for i in instances]
        if any(m is None for m in modules):
            return None
        modules = [author.written_object(m) for m in modules]
        pairs = [(m, v) for m, v in zip(modules, values, strict=True) if not isinstance(v, Any_)]
        flags = all(isinstance(v, bool) for _, v in pairs)
        for name, value in vars(modules[0]).items():
            plain = isinstance(value, (int, float)) and isinstance(value, bool) == flags
            if (
                plain
                and not name.startswith("_")
                and all(_equal(vars(m).get(name), v) for m, v in pairs)
            ):
                return name
        return None


def _is_like(slot: str, other: str) -> bool:
    """Tell whether two arguments are the same, or both sizes of what goes in or comes out: channels, not kernels."""
    sizes = ("channels", "features", "filters", "units", "dim", "shape")
    return slot == other or all(any(size in s for size in sizes) for s in (slot, other))


class _Replace(ast.NodeTransformer):
    """Replace the constants at given places by parameters: the bare name in ``__init__``, ``self.name`` in ``call``."""

    def __init__(self, places: dict[int, str]) -> None:
        self.places = places
        self.count = -1
        self.in_init = True

    def apply(self, inits: list[tuple[str, ast.expr]], body: list[Statement]) -> None:
        self.in_init = True
        for i, (name, value) in enumerate(inits):
            inits[i] = (name, self.visit(value))
        self.in_init = False
        for statement in body:
            statement.node = self.visit(statement.node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        self.count += 1
        name = self.places.get(self.count)
        if name is None:
            return node
        return ast.Name(name, ast.Load()) if self.in_init else E(f"self.{name}")


class _Collect(ast.NodeVisitor):
    def __init__(self, positional: dict[str, tuple[str, ...]]) -> None:
        self.positional = positional
        self.values: list[Any] = []
        self.contexts: list[tuple[str, str]] = []  # (attribute, argument)
        self.attribute = ""
        self._context = ["value"]

    def visit_Constant(self, node: ast.Constant) -> None:
        self.values.append(node.value)
        self.contexts.append((self.attribute, self._context[-1]))

    def visit_Call(self, node: ast.Call) -> None:
        function = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        self.visit(node.func)
        slots = self.positional.get(function, ())
        for i, argument in enumerate(node.args):
            self._context.append(
                slots[i] if i < len(slots) else self._context[-1] if not slots else function.lower()
            )
            self.visit(argument)
            self._context.pop()
        for keyword in node.keywords:
            self._context.append(keyword.arg or "value")
            self.visit(keyword.value)
            self._context.pop()


def _collect(instance: Instance) -> _Collect:
    collector = _Collect(instance.writer.program.dialect.positional)
    for name, value in instance.inits:
        collector.attribute = name
        collector.visit(value)
    collector.attribute = ""
    for statement in instance.body:
        collector.visit(statement.node)
    return collector


def _constants(instance: Instance) -> list[Any]:
    return _collect(instance).values


def _contexts(instance: Instance) -> list[tuple[str, str]]:
    return _collect(instance).contexts


def _filled(name: str, params: dict[str, list[Any]]) -> list[Any]:
    """Return a parameter's values; what an instance leaves open is its other size, else what the first one has."""
    values = params[name]
    kind = name.rpartition("_")[2]
    alike = [v for n, v in params.items() if n != name and kind in n.split("_") and "_" in name]
    usual = next(v for v in values if not isinstance(v, Any_))
    return [
        next((a[i] for a in alike if not isinstance(a[i], Any_)), usual)
        if isinstance(v, Any_)
        else v
        for i, v in enumerate(values)
    ]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Any_) or isinstance(b, Any_):
        return True
    return type(a) is type(b) and a == b


def _dump(instance: Instance, mask: bool = False) -> str:
    parts = [f"{n}={_text(e, mask)}" for n, e in instance.inits]
    parts += [_text(s.node, mask) for s in instance.body]
    return "\n".join([",".join(instance.writer.params), *parts])


def _text(node: ast.AST, mask: bool) -> str:
    return ast.dump(Mask().visit(copy.deepcopy(node)) if mask else node)


def _is_flag(context: tuple[str, str], values: list[Any]) -> bool:
    """Tell whether a constant says that an optional part is there (``… if downsample else None``)."""
    return context[1] == "value" and all(isinstance(v, (bool, Any_)) for v in values)


__all__ = ["Classes", "Dissolve", "LayerClass"]
