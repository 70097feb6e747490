"""How a region declares layers, and under which attribute."""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from diglot.codegen import names
from diglot.codegen.expr import E
from diglot.codegen.statements import Key, Member, placed_at, weight_nodes
from diglot.ir.sizes import shape_of

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter

_BESIDE = re.compile(r"(\d+)_([a-z]\w*)")


class LayerWriter:
    """Mixed into :class:`RegionWriter`."""

    def relative(self: RegionWriter, path: str) -> str | None:
        """Return a module path below this region's own, or ``None``."""
        own = self.call.path
        if not own:
            return path
        if path == own:
            return ""
        return path[len(own) + 1 :] if path.startswith(own + ".") else None

    def leaf_path(self: RegionWriter, node: fx.Node) -> str:
        """Return the path of the innermost module that made a node."""
        stack = [p for p, _ in (node.meta.get("nn_module_stack") or {}).values() if p]
        return stack[-1] if stack else ""

    def owns(self: RegionWriter, node: fx.Node, weights: list[fx.Node]) -> bool:
        """Tell whether a layer made of these weights can be an attribute here."""
        return self.program.weights.home_of_layer(self, node, weights) is not None

    def layer(
        self: RegionWriter,
        node: fx.Node,
        construct: ast.expr,
        weights: dict[str, Any],
        default: str,
        suffix: str = "",
        stands: bool = True,
    ) -> ast.expr:
        """Declare a layer (once) and return the expression that names it."""
        nodes = [n for value in weights.values() for n in weight_nodes(value)]
        construct = self.program.dialect.trained(self, construct, nodes)
        path = self.program.weights.home_of_layer(self, node, nodes) if nodes else None
        if path is None:
            leaf = self.leaf_path(node)
            path = self.relative(leaf) if leaf else ""
            path = "" if path is None else path
        module = path
        if not path and not suffix and (held := self._held(construct, weights)) is not None:
            return self.attribute(held)
        if suffix:
            path = f"{path or names.identifier(default or 'layer')}_{suffix}"
        key = self.key(path or f"{names.identifier(default or 'layer')}")
        if not path:
            key = self._fresh_key(key, node)
        if self._is_of_others(key, nodes, node):
            if (held := self._held(construct, weights)) is not None:
                return self.attribute(held)
            key, path, module = self._fresh_key(key, node), "", ""
        if key in self.members:
            self.program.weights.check_same(self, self.members[key], construct, node)
        else:
            member = self._member(node, construct, module if suffix and stands else path, weights)
            self.members[key] = dataclasses.replace(member, whole=member.whole and stands)
            self.program.weights.settle(self, key, weights, node)
        return self.attribute(key)

    def _is_of_others(self: RegionWriter, key: Key, nodes: list[fx.Node], node: fx.Node) -> bool:
        """Tell whether a name is that of a layer of other weights: a module has several of its own."""
        if (
            not nodes
            or key not in self.members
            or self.program.is_leaf_module(self.leaf_path(node))
        ):
            return False
        held = [n for value in self.members[key].weights.values() for n in weight_nodes(value)]
        return bool(held) and not set(held) & set(nodes)

    def _held(self: RegionWriter, construct: ast.expr, weights: dict[str, Any]) -> Key | None:
        """The layer that holds weights of the region's own already, which a function uses a second time."""
        if not weights:
            return None
        wanted = {name: weight_nodes(value) for name, value in weights.items()}
        for key, member in self.members.items():
            if member.kind == "layer" and member.weights and not member.source:
                held = {name: weight_nodes(value) for name, value in member.weights.items()}
                if held == wanted and ast.dump(member.construct) == ast.dump(construct):
                    return key
        return None

    def _member(
        self: RegionWriter, node: fx.Node, construct: ast.expr, path: str, weights: dict[str, Any]
    ) -> Member:
        value = node.meta.get("val")
        single = isinstance(value, torch.Tensor)
        leaf = self.leaf_path(node)
        alike = single and not node.meta.get("feature_order")
        return Member(
            construct, path, weights=weights, source_class=self.program.leaf_class(node), node=node,
            layout=node.meta.get("layout") if alike else ..., output_shape=shape_of(value) if single else (),
            whole=bool(path) and self.relative(leaf) == path and self.program.is_leaf_module(leaf),
        )  # fmt: skip

    def _fresh_key(self: RegionWriter, key: Key, node: fx.Node) -> Key:
        name, number = key[0], 2
        while (name, None) in self.members and self.program.made_by.get(
            (self.call, name)
        ) is not node:
            name = f"{key[0]}_{number}"
            number += 1
        self.program.made_by[(self.call, name)] = node
        return (name, None)

    def key(self: RegionWriter, path: str) -> Key:
        """Turn a relative module path into an attribute, or a place in a list attribute."""
        column = self.program.columns.place(self.call, path)
        if column is not None:
            return column
        parts = self.placed(path.split("."))
        if parts[0].isdigit():  # a layer of a sequence that is written as a class after all
            parts[0] = self._name_in_sequence(parts[0])
        holder = ".".join(filter(None, [self.call.path, *parts[:-1]]))
        if len(parts) > 1 and isinstance(self.program.modules.get(holder), nn.ModuleDict):
            return self.program.dialect.attribute("_".join(parts[:-1])), parts[-1]
        if len(parts) > 1 and parts[-1].isdigit():
            return self.program.dialect.attribute("_".join(parts[:-1])), int(parts[-1])
        beside = _BESIDE.fullmatch(parts[-1]) if len(parts) > 1 else None
        if beside:  # the padding before each convolution of a list
            stem = names.singular("_".join(parts[:-1]))
            listed = names.plural(f"{stem}_{beside[2]}")
            return self.program.dialect.attribute(listed), int(beside[1])
        return self.program.dialect.attribute("_".join(parts)), None

    def _name_in_sequence(self: RegionWriter, place: str) -> str:
        """Call ``1`` of a sequence ``lstm``; ``linear_1`` and ``linear_2`` where there are several."""
        path = ".".join(filter(None, [self.call.path, place]))
        own, holder = self.program.modules.get(path), self.program.modules.get(self.call.path)
        if own is None or holder is None:
            return place
        alike = [n for n, m in holder.named_children() if type(m).__name__ == type(own).__name__]
        name = names.snake(type(own).__name__)
        return f"{name}_{alike.index(place) + 1}" if len(alike) > 1 else name

    def placed(self: RegionWriter, parts: list[str]) -> list[str]:
        """Return a path's parts without the number of the only layer of a sequence."""
        lonely = len(parts) > 1 and parts[-1].isdigit() and self._stands_alone(parts)
        return parts[:-1] if lonely else parts

    def _stands_alone(self: RegionWriter, parts: list[str]) -> bool:
        """Tell whether an item is all that a mirror's sequence holds: its other layers have no module."""
        path = ".".join(filter(None, [self.call.path, *parts[:-1]]))
        holder = self.program.modules.get(path)
        if self.program.is_known(path):
            return False
        if not (isinstance(holder, nn.Sequential) and hasattr(holder, "source_class")):
            return False
        return sum(1 for child in holder.children() if any(True for _ in child.parameters())) == 1

    def attribute(self: RegionWriter, key: Key) -> ast.expr:
        """Return ``self.name`` or ``self.name[i]`` (``i`` is made dense at the end)."""
        base = E(f"self.{key[0]}")
        if key[1] is None:
            return base
        return placed_at(base, key[1])

    def reversible(self: RegionWriter, weight: fx.Node) -> bool:
        """Tell whether an embedding's layer must give its table to a Linear, too: classes read it off the layer."""
        return False

    def reverse_of(self: RegionWriter, weight: fx.Node) -> fx.Node | None:
        """Return the weight of a Linear that an embedding's layer holds beside its table, if there is one."""
        return None

    def reversed_layer(self: RegionWriter, weight: fx.Node) -> ast.expr | None:
        """Return the embedding layer whose ``reverse=True`` stands for a Linear, if there is one."""
        return None

    def float_dtype_ast(self: RegionWriter) -> ast.expr:
        """The layer's own float type."""
        return E("self.compute_dtype")
