"""Where each weight of the source lives in the target: in which class, under which attribute, turned how."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

from diglot.codegen.expr import E
from diglot.codegen.names import unique
from diglot.codegen.statements import Key, Member, place_of, placed_at
from diglot.ir.hub import ASSIGN, Call, is_call, target_name
from diglot.ir.weight_entry import WeightEntry

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter


@dataclasses.dataclass
class Home:
    """One target weight: ``attribute`` below the layer at ``key`` of ``region`` (or the weight itself)."""

    region: Call
    key: Key
    attribute: str
    nodes: tuple[fx.Node, ...]
    steps: list[Any]
    combine: str | None = None
    made_by: str | None = None  # the op whose layer holds it
    member: Member | None = None  # the attribute, of a weight that no layer holds


class Homes:
    """Finds, settles and reads the homes of weights."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.homes: dict[tuple[str, Key, str], Home] = {}
        self.of_node: dict[fx.Node, Home] = {}
        self._names: dict[str, list[str]] = {}
        for alias, canonical in program.hub.aliases.items():
            self._names.setdefault(canonical, []).append(alias)

    def names_of(self, node: fx.Node) -> list[str]:
        """Return every name the source knows a weight by, the exported one first."""
        name = self.program.hub.parameters[node].name
        return list(dict.fromkeys([name, *self._names.get(name, [])]))

    def short_name(self, node: fx.Node) -> str:
        """Return a short name for a weight: ``pos_embed``, ``wte_weight``."""
        parts = self.program.hub.parameters[node].name.split(".")
        if parts[-1] in ("weight", "bias") and len(parts) > 1 and not parts[-2].isdigit():
            return "_".join(parts[-2:])
        return parts[-1]

    # --- layers ------------------------------------------------------------------------------------

    def home_of_layer(
        self, writer: RegionWriter, node: fx.Node, weights: list[fx.Node]
    ) -> str | None:
        """Return the path (below the region) of a layer that can own these weights, or ``None``."""
        nodes = [w for w in weights if isinstance(w, fx.Node)]
        if not nodes or any(w not in self.program.hub.parameters for w in nodes):
            return None
        leaf = writer.leaf_path(node)
        if leaf in self.program.hub.kept:
            layer = self.program.hub.kept[leaf].layer
            own = all(self.program.hub.parameters[w].name in layer.sources for w in nodes)
            return writer.relative(leaf) if own else None
        candidates = []
        for name in self.names_of(nodes[0]):
            owner = name.rpartition(".")[0]
            relative = writer.relative(owner)
            if relative is not None:
                candidates.append((owner != leaf, relative, owner))
        if not candidates:
            return None
        _, relative, owner = min(candidates, key=lambda c: c[0])
        beside = {self.program.hub.reverses.get(name) for name in self.names_of(nodes[0])}
        for weight in nodes:
            known = self.names_of(weight)
            if (
                owner
                and beside.isdisjoint(known)
                and not any(n.startswith(f"{owner}.") for n in known)
            ):
                return None
            home = self.of_node.get(weight)
            if home is not None and (home.region.path != writer.call.path or home.attribute == ""):
                return None
            if home is not None and home.made_by not in (None, target_name(node)):
                return None
        if relative == "" and leaf and writer.relative(leaf):
            return writer.relative(leaf)
        return relative

    def settle(
        self,
        writer: RegionWriter,
        key: Key,
        weights: dict[str, Any],
        made_by: fx.Node,
    ) -> None:
        """Record where a new layer's weights come from."""
        for attribute, value in weights.items():
            if isinstance(value, dict):
                nodes = tuple(value["nodes"])
                home = Home(
                    writer.call,
                    key,
                    attribute,
                    nodes,
                    list(value.get("steps", [])),
                    value.get("combine"),
                )
            else:
                source, steps = value
                nodes = tuple(source) if isinstance(source, (list, tuple)) else (source,)
                home = Home(writer.call, key, attribute, nodes, list(steps))
            home.made_by = target_name(made_by)
            self.homes[(writer.call.path, key, attribute)] = home
            for node in nodes:
                self.of_node.setdefault(node, home)

    def check_same(
        self, writer: RegionWriter, member: Member, construct: ast.expr, node: fx.Node
    ) -> None:
        """A layer that is called twice must be built alike both times."""
        if ast.dump(member.construct) != ast.dump(construct):
            self.program.problem(
                writer, node, "one module is called in two ways that need different layers"
            )

    # --- plain weights -------------------------------------------------------------------------------

    def read(self, writer: RegionWriter, node: fx.Node) -> ast.expr:
        """Return an expression for a weight in PyTorch's orientation (or in the layout its uses share)."""
        home = self.of_node.get(node)
        if writer.in_graph:
            return self._read_functional(writer, node, home)
        if home is None:
            home = self._declare(writer, node)
        if home is None:
            return writer.read_outside(node)
        inner = self._descend(writer, home.region)
        if inner is None:
            return writer.read_outside(node)
        if home.member is not None and home.region.path == writer.call.path:
            writer.members.setdefault(home.key, home.member)  # another call of the same module
        base = self._attribute(inner, home)
        return self._undo(base, home)

    def _read_functional(self, writer: Any, node: fx.Node, home: Home | None) -> ast.expr:
        from diglot.codegen.opcall import Refusal

        if home is not None and home.attribute != "value":
            raise Refusal(
                "a layer's weight is used a second time, which a Functional model cannot show; use style='layers'"
            )
        shape, steps = self._layout(node, tuple(self.program.hub.parameters[node].value.shape))
        return writer.weight(node, shape, steps)

    def _attribute(self, base: ast.expr, home: Home) -> ast.expr:
        result: ast.expr = ast.Attribute(base, home.key[0], ast.Load())
        if home.key[1] is not None:
            result = placed_at(result, home.key[1])
        for part in filter(None, home.attribute.split(".")):
            result = ast.Attribute(result, part, ast.Load())
        return result

    def _undo(self, base: ast.expr, home: Home) -> ast.expr:
        """Turn a layer's weight back into PyTorch's orientation."""
        if not home.steps or home.attribute == "":
            return base
        if len(home.steps) == 1 and home.steps[0][0] == "permute" and home.combine is None:
            perm = list(home.steps[0][1])
            inverse = [perm.index(i) for i in range(len(perm))]
            return self.program.dialect.transposed(base, inverse)
        return base

    def _descend(self, writer: RegionWriter, region: Call) -> ast.expr | None:
        """Return ``self`` or ``self.a.b`` for the layer of a region at or below the writer's own."""
        if region.path == writer.call.path:
            return E("self")
        chain: list[Call] = []
        current: Call | None = region
        while current is not None and current.path != writer.call.path:
            chain.append(current)
            current = self.program.lexical_parent(current)
        if current is None:
            return None
        base: ast.expr = E("self")
        for inner, outer in zip(reversed(chain), [current, *reversed(chain)], strict=False):
            owner = writer if outer is writer.call else self.program.writer(outer)
            key = owner.child_key(inner)
            base = ast.Attribute(base, key[0], ast.Load())
            if key[1] is not None:
                base = placed_at(base, key[1])
        return base

    def _declare(self, writer: RegionWriter, node: fx.Node) -> Home | None:
        """Give a weight that no layer holds a home of its own in the region that its name belongs to."""
        region = self._owner_region(node)
        if region is not writer.call and region.path != writer.call.path:
            if not self._inside(writer.call, region):
                return None
        owner = writer if region.path == writer.call.path else None
        if owner is None:
            return None
        name = next((r for n in self.names_of(node) if (r := owner.relative(n)) is not None), None)
        if name is None:
            return None
        parameter = self.program.hub.parameters[node]
        shape, steps = self._layout(node, tuple(parameter.value.shape))
        key = self._key(owner, name, parameter.buffer)
        perm = list(steps[0][1]) if steps else None
        made = self.program.dialect.weight(self.program, node, key[0], shape, perm)
        member = owner.members[key] = Member(made, name, kind="weight")
        home = Home(owner.call, key, "", (node,), steps, member=member)
        self.homes[(owner.call.path, key, "")] = home
        self.of_node[node] = home
        return home

    def _key(self, owner: RegionWriter, name: str, buffer: bool) -> Key:
        """Return the attribute of a weight that no layer holds, by its name below the region's module."""
        # weight_norm keeps a layer's weight as parametrizations.weight.original0 and original1
        parts = [part for part in name.split(".") if part != "parametrizations"]
        attribute = self.program.dialect.attribute
        if len(parts) > 1 and parts[-1].isdigit():
            return owner.key(name)
        taken = {name for name, _ in owner.members}
        first, *rest = name.split(".")
        if rest and not buffer and self.program.keeps_names:
            if (attribute(first), None) not in owner.members:
                return attribute(first), place_of(rest)
        whole = "_".join(parts)
        short = "_".join(parts[-2:]) if parts[-1] in ("weight", "bias") else whole
        free = next((n for n in (short, whole) if attribute(n) not in taken), whole)
        return unique(attribute(free), dict.fromkeys(taken)), None

    def _layout(self, node: fx.Node, shape: tuple[int, ...]) -> tuple[tuple[int, ...], list[Any]]:
        """Return the stored shape and the steps from PyTorch's shape, by the layout its uses share."""
        perm = node.meta.get("stored")
        if not perm:
            return shape, []
        return tuple(shape[p] for p in perm), [["permute", list(perm)]]

    def _owner_region(self, node: fx.Node) -> Call:
        """Return the deepest written region whose module holds a weight and that reads it or holds the readers."""
        best = self.program.hub.root
        for region in self.program.hub.root.walk():
            if region.function:
                continue
            for name in self.names_of(node):
                if name.startswith(region.path + ".") and len(region.path) > len(best.path):
                    best = region
        users = {
            self.program.hub.call_of[u].path for u in node.users if u in self.program.hub.call_of
        }
        while best is not self.program.hub.root and not all(
            u == best.path or u.startswith(best.path + ".") for u in users
        ):
            best = self.program.lexical_parent(best) or self.program.hub.root
        return best

    def _inside(self, inner: Call, outer: Call) -> bool:
        current: Call | None = inner
        while current is not None:
            if current is outer:
                return True
            current = self.program.lexical_parent(current)
        return False

    # --- the map ---------------------------------------------------------------------------------------

    def entries(self) -> list[WeightEntry]:
        """Return the weight map's entries, targets as attribute paths below the root layer."""
        result = []
        for home in self.homes.values():
            if self.program.outside.issuperset(home.nodes):
                continue
            parameters = [self.program.hub.parameters[n] for n in home.nodes]
            place = self.program.target_path(home.region, home.key)
            target = ".".join(filter(None, [place, home.attribute]))
            shapes = [tuple(p.value.shape) for p in parameters]
            first = parameters[0]
            entry = WeightEntry(
                target=target,
                sources=[p.name for p in parameters],
                shape=stored_shape(shapes, home.steps, home.combine),
                source_shapes=shapes,
                combine=home.combine,
                steps=home.steps,
                dtype=str(first.value.dtype).removeprefix("torch."),
                trainable=any(p.trainable for p in parameters),
                kind="buffer" if first.buffer else "parameter",
                persistent=first.persistent,
                written=any(is_call(u, {ASSIGN}) for n in home.nodes for u in n.users),
            )
            result.append(entry)
        return result


def stored_shape(
    shapes: list[tuple[int, ...]], steps: list[Any], combine: str | None
) -> tuple[int, ...]:
    """Return the shape of the target weight made from sources of these shapes."""
    from diglot.ir.weight_entry import forward_step

    arrays = [np.broadcast_to(np.zeros((), np.int8), s) for s in shapes]
    for step in steps:
        arrays = [forward_step(tuple(step), a) for a in arrays]
    if combine == "stack":
        return (len(arrays), *arrays[0].shape)
    if combine and combine.startswith("concat:"):
        return np.concatenate(arrays, axis=int(combine.split(":")[1])).shape
    return arrays[0].shape
