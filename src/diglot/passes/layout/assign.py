"""Give every tensor a layout; put in the few conversions that are really needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name
from diglot.ir.sizes import is_static, shape_of
from diglot.passes.layout import perms
from diglot.passes.layout.flatten import feature_order, settle_shared
from diglot.passes.layout.unflatten import becomes_maps
from diglot.passes.layout.wants import Wants
from diglot.rules.registry import Rule

#: Layouts of inputs and of outputs, in order.
Boundary = tuple[Sequence[perms.Perm | None], Sequence[perms.Perm | None]]
_VIEWS = {"aten.view.default", "aten.reshape.default", "aten.unsqueeze.default"}
_AXIS_REMOVED = {"aten.select.int", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default"}


def assign_layouts(
    hub: Hub,
    rules: dict[str, Rule],
    io_layout: str = "native",
    target: str = "keras",
    boundary: Boundary | None = None,
) -> None:
    """Annotate every node with ``meta["layout"]``, in place.

    ``io_layout="native"`` lets inputs and outputs be channels-last where they meet a convolution; ``"same"``
    keeps PyTorch's order at the boundary. For ``target="torch"`` the roles are swapped: the hub's images are
    channels-last, as Keras means them, with a permute on either side of each convolution; stored channels-first
    these permutes are free. With ``boundary`` the layouts of inputs and outputs are known, and ``"native"`` is these.
    """
    Assigner(hub, rules, io_layout, target, boundary).run()


class Assigner:
    """One walk over the graph."""

    def __init__(
        self,
        hub: Hub,
        rules: dict[str, Rule],
        io_layout: str,
        target: str,
        boundary: Boundary | None = None,
    ) -> None:
        self.hub = hub
        self.rules = rules
        self.native = io_layout == "native"
        inputs, outputs = boundary if boundary is not None and self.native else ([], [])
        self.given = inputs if len(inputs) == len(hub.inputs) else None
        self.returned = outputs if len(outputs) == len(hub.outputs) else None
        self.to_keras = target == "keras"
        self.images = perms.channels_last if self.to_keras else perms.channels_first
        self.wants = Wants(rules, target)
        self.towards_images = self._towards_images()
        self._made: dict[tuple[fx.Node, perms.Perm | None], fx.Node] = {}
        self._sequences = False  # channels-first at the boundary

    def run(self) -> None:
        """Assign every layout."""
        for node in list(self.hub.graph.nodes):
            if node in self.hub.inputs:
                if self.given is not None:
                    node.meta["layout"] = self.given[self.hub.inputs.index(node)]
                elif self.native and self.wants.images(node):
                    rank = node.meta["val"].dim()
                    node.meta["layout"] = self.images(rank)
                    self._sequences |= rank == 3 and not self.to_keras
            elif node.op == "call_function" and node not in self.hub.constants:
                self._assign(node)
        settle_shared(self.hub, self._insert)
        for i, node in enumerate(self.hub.outputs):
            self._output(i, node)
        self.hub.graph.lint()

    def _towards_images(self) -> set[fx.Node]:
        """Return the nodes that outputs which are known to be images are made of, one for one."""
        found: set[fx.Node] = set()
        stack = [
            node
            for node, layout in zip(self.hub.outputs, self.returned or (), strict=False)
            if layout is not None and layout == self.images(node.meta["val"].dim())
        ]
        while stack:
            node = stack.pop()
            found.add(node)
            rule = self.rules.get(target_name(node)) if node.op == "call_function" else None
            if node.op == "call_function" and is_mark(node):
                stack.append(node.args[0])
            elif rule is not None and rule.layout == "elementwise":
                stack += [argument for argument in tensors(node) if argument not in found]
        return found

    def _output(self, index: int, node: fx.Node) -> None:
        layout = node.meta.get("layout")
        wanted = self.returned[index] if self.returned is not None else None
        if layout == wanted:
            return
        native = self.native and layout == self.images(node.meta["val"].dim())
        if self.returned is None and native:
            return
        # the conversion goes in front of the root's output mark
        source = node.args[0] if is_mark(node) else node
        if is_mark(node):
            node.args = (self.convert(source, wanted, node), *node.args[1:])
            node.meta["layout"] = wanted

    def _assign(self, node: fx.Node) -> None:
        name = target_name(node)
        if is_mark(node) or name.endswith("getitem"):
            self._copy(node)
            return
        rule = self.rules.get(name)
        kind = rule.layout if rule else "logical"
        value = node.meta.get("val")
        if not isinstance(value, (torch.Tensor, list, tuple)):
            return
        getattr(self, f"_{kind}")(node)

    def _copy(self, node: fx.Node) -> None:
        source = node.args[0]
        if is_mark(node) and not self.to_keras:
            self._enter(node)
            source = node.args[0]
        for key in ("layout", "feature_order"):
            node.meta[key] = source.meta.get(key)

    def _enter(self, mark: fx.Node) -> None:
        """Let a caller turn a sequence that a module reads in the other order: once, and in no block of a kind."""
        value = mark.meta.get("val")
        region = self.hub.call_of.get(mark)
        if not isinstance(value, torch.Tensor) or value.dim() != 3 or region is None:
            return
        if region.parent is None or all(port.node is not mark for port in region.inputs):
            return
        layout, images = mark.args[0].meta.get("layout"), perms.channels_first(3)
        if layout is None and self.wants.images(mark) and not self.wants.is_read_last(mark):
            self._need(mark, mark.args[0], images)
        elif layout == images and self.wants.features(mark) and not self.wants.images(mark):
            self._need(mark, mark.args[0], None)

    # --- kinds ------------------------------------------------------------------------------------------

    def _source(self, node: fx.Node) -> None:
        node.meta["layout"] = None

    def _logical(self, node: fx.Node) -> None:
        for argument in tensors(node):
            self._need(node, argument, None)
        node.meta["layout"] = None

    def _spatial(self, node: fx.Node) -> None:
        if not self.to_keras:
            self._logical(node)
            return
        first = node.args[0]
        rank = first.meta["val"].dim()
        for argument in tensors(node)[1:]:
            if argument is not first:
                self._need(node, argument, None)
        if rank >= 3:
            self._need(node, first, perms.channels_last(rank))
        result = _first_value(node)
        rank = result.dim() if result is not None else rank
        node.meta["layout"] = perms.channels_last(rank) if rank >= 3 else None

    def _elementwise(self, node: fx.Node) -> None:
        value = _first_value(node)
        rank = value.dim() if value is not None else 0
        arguments = tensors(node)
        if len(arguments) == 1:
            for key in ("layout", "feature_order"):
                node.meta[key] = arguments[0].meta.get(key)
            return
        chosen = next(
            (
                a.meta.get("layout")
                for a in arguments
                if a.meta.get("layout") and a.meta["val"].dim() == rank
            ),
            None,
        )
        for argument in arguments:
            self._align(node, argument, chosen, rank)
        node.meta["layout"] = chosen

    def _concat(self, node: fx.Node) -> None:
        if not target_name(node).startswith("aten.stack"):
            self._elementwise(node)
            return
        # Its result has an axis more than its arguments: they are brought to one layout, not broadcast.
        arguments = tensors(node)
        rank = arguments[0].meta["val"].dim()
        layout = next((a.meta["layout"] for a in arguments if a.meta.get("layout")), None)
        for argument in arguments:
            self._need(node, argument, layout)
        dim = (node.args[1] if len(node.args) > 1 else 0) % (rank + 1)
        node.meta["layout"] = perms.inserted(layout, rank, dim) if layout else None

    def _align(
        self, node: fx.Node, argument: fx.Node, layout: perms.Perm | None, rank: int
    ) -> None:
        """Bring one operand of a broadcast to the layout of the result."""
        value = argument.meta["val"]
        if value.dim() == rank:
            self._need(node, argument, layout)
            return
        if layout is None or value.dim() == 0 or value.numel() == 1:
            self._need(node, argument, None)
            return
        self._need(node, argument, None)
        argument = self._current(node, argument)
        shape = list(value.shape)
        if (
            layout == self.images(rank)
            and _stored_alone(self.hub, argument, node)
            and value.dim() == rank - 1
        ):
            argument.meta["stored"] = tuple(p - 1 for p in layout[1:])
            argument.meta["layout"] = argument.meta["stored"]
            return
        wide = self._insert(
            node,
            torch.ops.aten.reshape.default,
            (argument, [1] * (rank - len(shape)) + shape),
            value.reshape([1] * (rank - len(shape)) + shape),
        )
        node.replace_input_with(argument, wide)
        if sum(size != 1 for size in shape) <= 1:
            wide.meta["layout"] = layout  # one axis: it is written where the layout has it
        self._need(node, wide, layout)

    def _axis(self, node: fx.Node) -> None:
        for argument in tensors(node)[1:]:
            if argument is not node.args[0]:
                self._need(node, argument, None)
        source = node.args[0]
        layout = source.meta.get("layout")
        rank = source.meta["val"].dim()
        result = _first_value(node)
        if layout is None or result is None:
            node.meta["layout"] = None
            if result is not None and rank == result.dim():
                node.meta["layout"] = layout
            return
        if result.dim() == rank:
            node.meta["layout"] = layout
        elif result.dim() == 0 and not target_name(node).startswith("aten.arg"):
            node.meta["layout"] = None  # everything is reduced: any order will do
        elif result.dim() < rank:
            dims = _removed(node, rank)
            if dims is None or rank - len(dims) != result.dim():
                self._logical(node)
                return
            node.meta["layout"] = perms.without(layout, rank, dims)
        else:
            self._logical(node)

    def _last(self, node: fx.Node) -> None:
        source = node.args[0]
        if not isinstance(source, fx.Node) or source in self.hub.parameters:
            self._logical(node)
            return
        layout = source.meta.get("layout")
        rank = source.meta["val"].dim()
        if layout and layout[-1] != rank - 1:
            self._need(node, source, None)
            layout = None
        for argument in tensors(node):
            if argument is not node.args[0] and argument not in self.hub.parameters:
                self._need(node, argument, None)
        node.meta["layout"] = layout
        if node.args[0].meta.get("feature_order"):
            node.meta["input_order"] = node.args[0].meta["feature_order"]

    def _permute(self, node: fx.Node) -> None:
        source = node.args[0]
        rank = source.meta["val"].dim()
        dims = perms.permuted_dims(node, rank)
        layout = source.meta.get("layout")
        becomes = rank > 2 and perms.after_permute(None, dims) == self.images(rank)
        stays = rank > 3 or self.wants.images(node) or node in self.towards_images
        ends = self.returned is None and self._sequences and self.wants.ends(node)
        ends |= not self.to_keras and self.wants.is_free(node)
        if layout is not None or (becomes and (stays or ends)):
            node.meta["layout"] = perms.after_permute(layout, dims)
            node.meta["free"] = True
            return
        node.meta["layout"] = None

    def _reshape(self, node: fx.Node) -> None:
        source = node.args[0]
        layout = source.meta.get("layout")
        node.meta["layout"] = None
        if layout is None:
            node.meta["feature_order"] = None
            if self.wants.images(node) and becomes_maps(node, self.rules, self.hub, self.images):
                node.meta["layout"] = self.images(node.meta["val"].dim())
            return
        before, after = shape_of(source.meta["val"]), shape_of(node.meta["val"])
        possible, result = perms.reshaped(layout, before, after)
        if possible:
            node.meta["layout"] = result
            sequence = result == perms.channels_first(3) and len(before) > 3
            if sequence and not self.to_keras and self.wants.features(node):
                # Patches are turned once, where they become a sequence, not in front of each layer.
                turned = self.convert(node, None, node)
                node.replace_all_uses_with(turned, delete_user_cb=lambda user: user is not turned)
            return
        order = feature_order(node, self.rules, self.hub)
        if order is not None:
            node.meta["feature_order"] = order
            return
        self._need(node, source, None)

    # --- conversions ------------------------------------------------------------------------------------

    def _current(self, node: fx.Node, argument: fx.Node) -> fx.Node:
        """Return what now stands for an argument of a node (itself, or its conversion)."""
        for candidate in node.all_input_nodes:
            if candidate is argument or candidate.meta.get("converted_from") is argument:
                return candidate
        return argument

    def _need(self, node: fx.Node, argument: fx.Node, layout: perms.Perm | None) -> None:
        layout = perms.simplify(layout)
        if perms.simplify(argument.meta.get("layout")) == layout and not argument.meta.get(
            "feature_order"
        ):
            return
        if argument.meta.get("layout") is None and layout is not None:
            made = self._of_one_weight(argument)
            if _stored_alone(self.hub, made[-1], made[-2] if made[1:] else node):
                for value in made:
                    value.meta["layout"] = layout
                made[-1].meta["stored"] = layout
                return
        if argument in self.hub.constants and len(argument.users) == 1:
            argument.meta["layout"] = layout
            return
        made = self._viewed(argument, layout) or self.convert(argument, layout, node)
        node.replace_input_with(argument, made)

    def _viewed(self, argument: fx.Node, layout: perms.Perm | None) -> fx.Node | None:
        """Return ``(b, c)`` seen as ``(b, 1, 1, c)`` at once, where ``argument`` is ``(b, c, 1, 1)``."""
        base = argument
        while target_name(base) in _VIEWS and len(base.users) == 1 and not base.meta.get("layout"):
            base = base.args[0]
        if layout is None or base is argument or base.meta.get("layout"):
            return None
        if argument.meta.get("feature_order") or base.meta.get("feature_order"):
            return None
        value = argument.meta["val"]
        after = shape_of(value)
        turned = [after[p] for p in layout if after[p] != 1]
        sizes = [s if is_static(s) else -1 for s in after]
        if turned != [s for s in shape_of(base.meta["val"]) if s != 1] or sizes.count(-1) > 1:
            return None
        made = self._insert(argument, torch.ops.aten.reshape.default, (base, sizes), value)
        made.meta["layout"] = layout
        return made

    def _of_one_weight(self, value: fx.Node) -> list[fx.Node]:
        """``value``, and what it was made from, one after the other, where nothing else reads them: a weight
        at the end of ``sqrt(w).clamp(1e-7)`` can be stored in the layout that the result is needed in."""
        made = [value]
        while made[-1] not in self.hub.parameters and len(made[-1].users) == 1:
            rule = self.rules.get(target_name(made[-1]))
            source = tensors(made[-1])
            if rule is None or rule.layout != "elementwise" or len(source) != 1:
                break
            made.append(source[0])
        return made

    def convert(self, value: fx.Node, layout: perms.Perm | None, before: fx.Node) -> fx.Node:
        """Return the value in another layout (one ``diglot.relayout`` node, shared by its readers)."""
        key = (value, layout)
        if key in self._made:
            return self._made[key]
        rank = value.meta["val"].dim()
        old, new = perms.full(value.meta.get("layout"), rank), perms.full(layout, rank)
        axes = tuple(old.index(p) for p in new)
        made = self._insert(value, relayout, (value, axes), value.meta["val"], after=True)
        made.meta["layout"] = layout
        made.meta["converted_from"] = value
        self._made[key] = made
        return made

    def _insert(
        self, at: fx.Node, target: Any, args: tuple, value: torch.Tensor, *, after: bool = False
    ) -> fx.Node:
        graph = self.hub.graph
        anchor = at
        if after and at.op == "placeholder":
            anchor = [n for n in graph.nodes if n.op == "placeholder"][-1]
        with graph.inserting_after(anchor) if after else graph.inserting_before(anchor):
            made = graph.call_function(target, args)
        made.meta = {
            k: v for k, v in at.meta.items() if k in ("stack_trace", "nn_module_stack", "listed")
        }
        made.meta["val"] = value
        region = self.hub.call_of.get(at)
        if region is None:  # an input of the model
            reader = next(iter(at.users))
            region = self.hub.call_of.get(reader, self.hub.root)
        place_of: Any = at
        if (
            after
            and region.parent
            and not region.function
            and at in {p.node for p in region.outputs}
        ):
            place_of, region = region, region.parent  # a result is turned by the caller
        items = region.items
        place = items.index(place_of) + (1 if after else 0) if place_of in items else 0
        items.insert(place, made)
        self.hub.call_of[made] = region
        return made


def relayout(value: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """The same logical value in another layout: the target transposes, PyTorch does nothing."""
    return value


def tensors(node: fx.Node) -> list[fx.Node]:
    """Return the tensor arguments of a node, in order, those in lists included."""
    found: list[fx.Node] = []

    def visit(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for v in value:
                visit(v)
        elif isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.Tensor):
            found.append(value)

    visit(node.args)
    visit(tuple(node.kwargs.values()))
    return found


def _first_value(node: fx.Node) -> torch.Tensor | None:
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        value = next((v for v in value if isinstance(v, torch.Tensor)), None)
    return value if isinstance(value, torch.Tensor) else None


def _removed(node: fx.Node, rank: int) -> set[int] | None:
    """Return PyTorch's axes that a reduction, select or squeeze takes away."""
    name = target_name(node)
    if name == "aten.squeeze.default":
        return {i for i, s in enumerate(node.args[0].meta["val"].shape) if s == 1}
    dims = _argument(node, "dim")
    if isinstance(dims, int):
        dims = [dims]
    if not isinstance(dims, (list, tuple)) or any(not isinstance(d, int) for d in dims):
        return None
    found = {d % rank for d in dims}
    if name.startswith("aten.squeeze"):
        found = {d for d in found if node.args[0].meta["val"].shape[d] == 1}
    return found


def _argument(node: fx.Node, wanted: str) -> Any:
    """Return an argument by its name in the op's schema (``norm`` has its order before its ``dim``)."""
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.name == wanted and position < len(node.args):
            return node.args[position]
    return node.kwargs.get(wanted)


def _stored_alone(hub: Hub, argument: fx.Node, node: fx.Node) -> bool:
    """Tell whether a weight may be stored in its reader's layout: nothing else reads it."""
    return (
        argument in hub.parameters
        and set(argument.users) == {node}
        and not argument.meta.get("stored")
    )
