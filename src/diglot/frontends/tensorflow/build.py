"""A lowered graph whose layers are recognised -> modules with weights, and the weight map's entries."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.frontends.tensorflow import scope as runs
from diglot.frontends.tensorflow import shared, tree, values, weights
from diglot.frontends.tensorflow.arranged import arranged
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.layer import Home, Layer
from diglot.frontends.tensorflow.lowering import Lowered
from diglot.frontends.tensorflow.names import (
    Names,
    distinguished,
    free_name,
    is_automatic,
    is_function,
    is_of_op,
    variables_first,
)
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.repeated import Made, Plan
from diglot.frontends.tensorflow.scope import Body, Chain, Classes, Root, Scope
from diglot.frontends.tensorflow.tree import Path, Place
from diglot.frontends.tensorflow.values import Precision
from diglot.ir.weight_entry import WeightEntry


@dataclass
class Builder:
    """Makes the modules of one graph; see :func:`build`."""

    lowered: Lowered
    precision: Precision = field(default_factory=Precision)
    modules: dict[Path, nn.Module] = field(default_factory=dict)
    homes: dict[Node, Home] = field(default_factory=dict)
    paths: dict[tuple, Path] = field(default_factory=dict)
    reads: dict[Node, runs.WeightStep] = field(default_factory=dict)
    outputs: dict[Node, list[Out]] = field(default_factory=dict)
    names: Names = field(default_factory=lambda: Names(()))
    runs: shared.Runs = field(default_factory=lambda: shared.Runs(()))
    classes: Classes = field(default_factory=Classes)
    blocks: dict[Path, Made] = field(default_factory=dict)
    loose: dict[Node, str] = field(default_factory=dict)

    # -- places -------------------------------------------------------------------------------

    def leaves(self, order: Sequence[Node]) -> dict[Node, Path]:
        """Give every layer a path of its own; layers with the same weights share one."""
        found: dict[tuple, list[Node]] = {}
        for node in order:
            if node.op == "Layer":
                layer: Layer = node.attrs["layer"]
                found.setdefault(layer.key() if layer.weights else (node,), []).append(node)
        holders = {
            k: variables_first([w.node for w in n[0].attrs["layer"].weights])
            for k, n in found.items()
        }
        self.names = Names((n[0].attrs["layer"].path, holders[k]) for k, n in found.items())
        keys = {node: k for k, nodes in found.items() for node in nodes}
        self.runs = shared.Runs((node.attrs["layer"].path, k) for node, k in keys.items())
        wished = {
            k: self.names.layer(n[0].attrs["layer"].path, holders[k]) for k, n in found.items()
        }
        taken: set[Path] = set()
        result = {}
        for key, nodes in found.items():
            layer = nodes[0].attrs["layer"]
            path = wished[key]
            alone = sum(path == other[: len(path)] for other in wished.values()) == 1
            if not alone or not path:
                noun = layer.kind.__name__
                last = distinguished(holders[key][0], noun) if holders[key] else noun.lower()
                path = (*path, last)
            self.paths[key] = _free(path, taken)
            taken.add(self.paths[key])
            for weight in layer.weights:
                home = Home(self.paths[key], weight.parameters, weight.steps, weight.combine)
                self.homes.setdefault(weight.node, home)
            result.update((node, self.paths[key]) for node in nodes)
        return result

    def wishes(self, order: Sequence[Node], leaves: dict[Node, Path]) -> dict[Node, Path]:
        """The module that each node wishes to be in: the deepest one of its scope."""
        modules = {path[:i] for path in self.paths.values() for i in range(len(path))}
        own = set(self.paths.values())
        users: dict[Node, list[Path]] = {}
        wishes: dict[Node, Path] = {}
        for node in order:
            if node.op in ("Const", "Input", "Variable"):
                continue
            path = self._path(node, leaves)
            while path and (shared.plain(path) not in modules or shared.plain(path) in own):
                path = path[:-1]
            wishes[node] = path
        wishes |= tree.between(wishes)
        for node in order:
            for out in node.inputs:
                if node in wishes:
                    users.setdefault(out.node, []).append(wishes[node])
        for node in order:
            if node.op == "Variable" and node in users:
                homes = [self.homes[node].path[:-1]] if node in self.homes else []
                wishes[node] = tree.common_prefix([*users[node], *homes])
        return wishes

    def _path(self, node: Node, leaves: dict[Node, Path]) -> Path:
        """The scope of a node as a path of modules, with the numbers of their runs."""
        raw = node.attrs["layer"].path if node in leaves else node.scope
        first, numbers = self.runs.first(raw)
        path = self.names.scope(first)
        numbers = numbers[len(first) - len(path) :]
        return shared.numbered(leaves[node][:-1] if node in leaves else path, numbers)

    # -- modules ------------------------------------------------------------------------------

    def module(self, place: Place, base: Callable[[Body], Scope] | None, name: str) -> Scope:
        """The module of a place, its children made first."""
        body = Body()
        children: dict[str, nn.Module] = {}
        statements: list[tuple[Any, list[Out], list[Out]]] = []
        for item in place.items:
            if isinstance(item, Place):
                path = shared.plain(item.path)
                relative = ".".join(path[len(place.path) :])
                made = self.modules.get(path)  # by an earlier run
                children[relative] = self.module(item, None, path[-1]) if made is None else made
                given = [o for o in item.inputs if o.node.op != "Const"]
                statements.append((runs.ScopeStep([], [], relative), given, item.outputs))
            else:
                statements.append((self.step(item), item.inputs, self.outs(item)))
        inputs = [o for o in place.inputs if o.node.op not in ("Const",)]
        constants = self.constants([*statements, (None, place.outputs, [])])
        local = {out: i for i, out in enumerate([*inputs, *constants])}
        body.inputs = list(range(len(inputs)))
        body.names = _port_names(inputs, self.lowered.values)
        for step, ins, outs in [*constants.values(), *statements]:
            for out in outs:
                local.setdefault(out, len(local))
            step.inputs, step.outputs = [local[o] for o in ins], [local[o] for o in outs]
            body.steps.append(step)
        body.outputs = [local[o] for o in place.outputs]
        scope = base(body) if base is not None else self.scope_class(place, name, body)(body)
        for out, (step, _, _) in constants.items():
            self.buffer(scope, out, step)
        self.modules[shared.plain(place.path)] = scope
        return scope

    def scope_class(self, place: Place, name: str, body: Body) -> type[Scope]:
        made = self.blocks.get(place.path)
        if made is None:
            return self.classes.named(Scope, tree.scope_class_name(name), body.names)
        count = len(made.parameters)
        names = [
            *made.parameters,
            *(f"{n}_2" if n in made.parameters else n for n in body.names[count:]),
        ]
        return self.classes.named(Chain if made.is_chain else Scope, made.name, names)

    def move(self, plan: Plan) -> None:
        """Let layers and weights be where a plan says, and be called so."""
        self.loose = {**self.loose, **plan.weights}
        self.paths = {key: plan.path(path) for key, path in self.paths.items()}
        self.modules = {plan.path(path): module for path, module in self.modules.items()}
        self.homes = {
            node: replace(home, path=plan.path(home.path)) for node, home in self.homes.items()
        }

    def leaf_path(self, node: Node) -> Path | None:
        """The path of the layer that a node runs."""
        layer = node.attrs.get("layer")
        if layer is None:
            return None
        return self.paths[layer.key() if layer.weights else (node,)]

    def is_tensor(self, out: Out) -> bool:
        """Tell whether an output is a tensor, no size."""
        return isinstance(self.lowered.values.get(out), torch.Tensor)

    def outs(self, node: Node) -> list[Out]:
        if not self.outputs:
            for out in self.lowered.values:
                self.outputs.setdefault(out.node, []).append(out)
        return self.outputs.get(node) or [Out(node)]

    def step(self, node: Node) -> Any:
        step = self._step(node)
        step.node = node.name
        return step

    def _step(self, node: Node) -> Any:
        call = Call(node.name, node.op, node.attrs, self.precision)
        if node.op == "Layer":
            layer: Layer = node.attrs["layer"]
            call.attrs = {k: v for k, v in node.attrs.items() if k != "layer"}
            return runs.LayerStep([], [], self.leaf(node), layer.function, call)
        if node.op == "Variable":
            self.reads[node] = runs.WeightStep([], [], nn.Module(), "")
            return self.reads[node]
        return runs.OpStep([], [], call)

    def leaf(self, node: Node) -> nn.Module:
        layer: Layer = node.attrs["layer"]
        path = self.leaf_path(node)
        assert path is not None
        if path not in self.modules:
            module = layer.kind(**layer.options)
            if isinstance(module, nn.RNNBase):
                for name, parameter in module.named_parameters():
                    parameter.data.copy_(layer.fixed.get(name, torch.zeros(())))
            self.modules[path] = module
        return self.modules[path]

    def constants(
        self, statements: list[tuple[Any, list[Out], list[Out]]]
    ) -> dict[Out, tuple[runs.ConstantStep, list[Out], list[Out]]]:
        """A step for each constant that the statements read."""
        found: dict[Out, tuple[runs.ConstantStep, list[Out], list[Out]]] = {}
        for _, ins, _ in statements:
            for out in ins:
                if out.node.op == "Const" and out not in found:
                    step = runs.ConstantStep([], [], out.node.value, None)
                    found[out] = (step, [], [out])
        return found

    def _buffer_name(self, node: Node) -> str:
        """What a constant is called: its name, or where that is an op's, the layer's and the op's."""
        *around, last = node.name.split("/")
        if is_of_op(last):
            layer = [part for part in self.names.scope(tuple(around)) if not is_function(part)]
            last = "_".join([*(re.sub(r"(_\d+)+$", "", part) for part in layer[-1:]), last.lower()])
        if last in ("x", "y") or re.fullmatch(r"[Cc]onst(ant)?(_\d+)?", last):
            return "indices" if node.value.dtype.kind in "iu" else "numbers"
        return tree.identifier(last)

    def buffer(self, scope: Scope, out: Out, step: runs.ConstantStep) -> None:
        """Register the buffer of a constant that is used as a tensor: floats, and anything that is large.

        It is part of the state dict, for no line of the program gives its values.
        """
        array = step.array
        if array.ndim == 0 or array.dtype.kind not in "fbiuc" or array.size == 0:
            return
        if array.dtype.kind in "iub" and array.size <= 64:
            return
        name = free_name(scope, self._buffer_name(out.node))
        dtype = values.torch_dtype(array.dtype.name, Precision())
        scope.register_buffer(name, torch.from_numpy(np.array(array)).to(dtype))
        step.buffer = name


def _free(path: Path, taken: set[Path]) -> Path:
    """A path that is no other leaf's, nor within or around one."""
    candidate, count = path, 1

    def clash(p: Path) -> bool:
        return any(p[: len(t)] == t or t[: len(p)] == p for t in taken)

    while clash(candidate):
        count += 1
        candidate = (*path[:-1], f"{path[-1]}_{count}")
    return candidate


def _port_names(inputs: Sequence[Out], known: Mapping[Out, Any]) -> list[str]:
    """A name for each input of a module: that of the graph's input, ``x`` for the first value, ``mask``, or that of
    the scope that made it."""
    names: list[str] = []
    for out in inputs:
        node = out.node
        scope = [part for part in node.scope if not is_function(part)]
        text = node.name if node.op == "Input" else (scope[-1] if scope else node.name)
        dtype = getattr(known.get(out), "dtype", None)
        if node.op != "Input" and dtype == torch.bool:
            text = "mask"
        elif node.op != "Input" and "x" not in names:
            text = "x"
        elif node.op != "Input" and is_automatic(tree.identifier(text)):
            text = "y"
        name = re.sub(r"(?<!^)_\d+$", "", tree.identifier(text.split("/")[-1]))
        candidate, count = name, 1
        while candidate in names or candidate == "self":
            count += 1
            candidate = f"{name}_{count}"
        names.append(candidate)
    return names


def attach(root: nn.Module, modules: dict[Path, nn.Module]) -> None:
    """Register every module under its parent; what has no module of its own is a plain container."""

    def place(path: Path) -> tuple[int, int]:
        return len(path), int(path[-1]) if path and path[-1].isdigit() else 0

    for path in sorted(modules, key=place):
        if not path:
            continue
        parent = root
        for part, inner in itertools.pairwise(path):
            if part not in parent._modules:
                parent.add_module(part, nn.ModuleList() if inner.isdigit() else nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(path[-1], modules[path])


def build(
    lowered: Lowered, structure: Any, name: str
) -> tuple[Root, list[WeightEntry], dict[str, str]]:
    """The root module of a lowered graph, filled with the weights, and the entries of its weight map.

    Also the source's node that holds each weight, by its name in the map; none for what was computed of constants.
    """
    builder = Builder(lowered)
    order = lowered.graph.order()
    leaves = builder.leaves(order)
    wishes = builder.wishes(order, leaves)
    nodes = [n for n in order if n in wishes]
    if builder.names.root:
        name = tree.class_name(builder.names.root[0])
    place, builder.blocks = arranged(
        builder, nodes, wishes, builder.names.root[0] if builder.names.root else name
    )
    place.inputs = [Out(n) for n in lowered.graph.inputs]

    def base(body: Body) -> Scope:
        body.names = _port_names(place.inputs, lowered.values)
        cls = builder.classes.named(Root, name, body.names)
        return cls(body, builder.precision, structure)  # type: ignore[call-arg]

    root = builder.module(place, base, name)
    assert isinstance(root, Root)
    root.equal = lowered.equal
    modules = {p: m for p, m in builder.modules.items() if p}
    attach(root, modules)
    weights.place_loose(builder, root, nodes, wishes)
    weights.point_reads(builder, root)
    entries = weights.entries_of(builder, root)
    held = dict(zip((e.target for e in entries), builder.homes, strict=True))
    weights.fill(root, entries, {target: weights.array_of(node) for target, node in held.items()})
    nodes = {target: weights.origin(node) for target, node in held.items()}
    return root, entries, {target: node for target, node in nodes.items() if node}
