"""Blocks that repeat in a graph, of which its scopes say nothing: a Functional Keras model has its layers side by side.

A module's units (layers, ops, and the modules in it) are steps for :mod:`diglot.frontends.repeating`, which finds the
runs of them that a person would have written once, as a class, and what these and their layers would be called.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diglot.frontends.repeating.items import Block, Family, Item, Step
from diglot.frontends.repeating.naming import (
    family_names,
    input_names,
    member_names,
    role,
    scope_names,
)
from diglot.frontends.repeating.repeats import repeats
from diglot.frontends.tensorflow import shared, tree
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.names import alike, is_automatic, is_function, weight_name
from diglot.frontends.tensorflow.tree import Path, Place

if TYPE_CHECKING:
    from diglot.frontends.tensorflow.build import Builder

#: What ops and modules of ``torch.nn`` are among Keras's classes, by the start of their names.
_KINDS = {
    "ConvTranspose": "Conv2DTranspose", "Conv": "Conv2D", "Linear": "Dense", "BatchNorm": "BatchNormalization",
    "LayerNorm": "LayerNormalization", "GroupNorm": "GroupNormalization", "Add": "Add", "Concat": "Concatenate",
    "MaxPool": "MaxPooling2D", "AvgPool": "AveragePooling2D", "Pad": "ZeroPadding2D", "Resize": "UpSampling2D",
    "diglot.Attention": "Attention", "Depthwise": "DepthwiseConv2D",
}  # fmt: skip
_ACTIVATIONS = frozenset(
    "Relu Relu6 LeakyRelu Elu Selu Softplus Softsign Sigmoid Tanh diglot.Gelu diglot.Silu".split()
)
#: What differs between blocks that are written alike.
_LOOSE = frozenset("bias padding pads explicit_paddings data_format weight layer windows".split())
_HELD = ("Const", "Input", "Variable")


@dataclass(eq=False)
class Unit(Step):
    """A layer, an op or a module of the module that is looked at.

    ``home`` is its path, or that of the scope that it is in; ``path`` what of it is below the module.
    """

    item: Node | Place
    home: Path
    path: Path
    is_module: bool
    weights: int

    @property
    def name(self) -> str:
        return "/".join(self.path)

    @property
    def kind(self) -> str:
        if isinstance(self.item, Place):
            return tree.scope_class_name(self.path[-1])
        own = _class_of(self.item)
        found = next((kind for start, kind in _KINDS.items() if own.startswith(start)), None)
        return found or own

    @property
    def lines(self) -> float:
        return (1.5 if self.is_module else 0.5) + self.weights

    @property
    def is_named(self) -> bool:
        return bool(self.path) and not is_automatic(self.path[-1])

    @property
    def is_activation(self) -> bool:
        return isinstance(self.item, Node) and self.item.op in _ACTIVATIONS


@dataclass
class Made:
    """A block to be: what its class is called, what that calls its inputs, and which these are."""

    name: str
    parameters: list[str]
    inputs: list[Out]
    order: dict[Node | Path, int]
    is_chain: bool


@dataclass
class Plan:
    """Where the units of one module go: its layers and modules by their paths, other nodes to the block that runs them.

    ``weights`` are names for weights that no layer holds, after the steps that read them.
    """

    moved: dict[Path, Path] = field(default_factory=dict)
    inside: dict[Node, Path] = field(default_factory=dict)
    blocks: dict[Path, Made] = field(default_factory=dict)
    weights: dict[Node, str] = field(default_factory=dict)

    def path(self, path: Path) -> Path:
        """Where a path is then."""
        for size in range(len(path), 0, -1):
            if path[:size] in self.moved:
                return (*self.moved[path[:size]], *path[size:])
        return path


class _Reader:
    """Reads the steps of one module off its place in the tree."""

    def __init__(self, builder: Builder, place: Place) -> None:
        self.builder, self.place = builder, place
        self.numbers: dict[Out, int] = {}
        self.items = [i for i in place.items if isinstance(i, Place) or self._is_step(i)]
        self.maker = {out: item for item in self.items for out in self.outs(item)}
        self.calls = Counter(self._identity(item) for item in self.items)
        reading = [n for i in self.items for n in {o.node for o in i.inputs if _is_weight(o)}]
        self.readers = Counter(reading)

    def _is_step(self, node: Node) -> bool:
        return node.op not in _HELD and any(self.builder.is_tensor(out) for out in self.outs(node))

    def outs(self, item: Node | Place) -> list[Out]:
        return item.outputs if isinstance(item, Place) else self.builder.outs(item)

    def _identity(self, item: Node | Place) -> Any:
        if isinstance(item, Place):
            return shared.plain(item.path)
        return self.builder.leaf_path(item) or item

    def number(self, out: Out) -> int:
        return self.numbers.setdefault(out, len(self.numbers))

    def reads(self, item: Node | Place) -> list[Out]:
        """The tensors that an item is computed from; those whose sizes alone it reads come last."""
        direct = [o for o in item.inputs if o.node.op not in ("Const", "Variable")]
        tensors = [o for o in direct if self.builder.is_tensor(o)]
        pending = [o for o in direct if not self.builder.is_tensor(o)]
        sizes: dict[Out, None] = {}
        while pending:
            out = pending.pop(0)
            for below in out.node.inputs if out not in self.maker else ():
                if below.node.op in ("Const", "Variable"):
                    continue
                (
                    sizes.setdefault(below)
                    if self.builder.is_tensor(below)
                    else pending.append(below)
                )
        return [*tensors, *(o for o in sizes if o not in tensors)]

    def steps(self) -> list[Unit]:
        """The module's steps, each after those that it reads from, branch by branch."""
        ordered: list[Unit] = []
        seen: set[int] = set()
        ends = [self.maker[o] for o in self.place.outputs if o in self.maker]
        stack = [(item, False) for item in reversed(ends)]
        while stack:
            item, ready = stack.pop()
            if ready:
                ordered.append(self._unit(item))
            elif id(item) not in seen:
                seen.add(id(item))
                stack.append((item, True))
                needed = [self.maker[o] for o in self.reads(item) if o in self.maker]
                stack += [(n, False) for n in reversed(needed) if id(n) not in seen]
        return ordered

    def _unit(self, item: Node | Place) -> Unit:
        weights = [o.node for o in item.inputs if _is_weight(o)]
        leaf = item.path if isinstance(item, Place) else self.builder.leaf_path(item)
        path = leaf if leaf is not None else self._scope(item)  # type: ignore[arg-type]
        again = self.calls[self._identity(item)] > 1 or any(self.readers[w] > 1 for w in weights)
        run = isinstance(item, Place) and shared.plain(item.path) != item.path
        return Unit(
            [self.number(o) for o in self.reads(item)],
            [self.number(o) for o in self.outs(item)],
            self._symbol(item),
            again or run,
            item,
            path,
            path[len(self.place.path) :],
            leaf is not None,
            len(weights),
        )

    def _scope(self, node: Node) -> Path:
        path = self.builder.names.scope(node.scope)
        while path and is_function(path[-1]):
            path = path[:-1]
        for owner in (weight_name(o.node).split("/")[-2:-1] for o in node.inputs if _is_weight(o)):
            if owner and path and alike(path[-1], tree.identifier(owner[0])):
                path = (*path[:-1], tree.identifier(owner[0]))
        return path if path[: len(self.place.path)] == self.place.path else self.place.path

    # --- what is written alike -------------------------------------------------------------------

    def _symbol(self, item: Node | Place) -> str:
        if isinstance(item, Place):
            return f"{tree.scope_class_name(item.path[-1])}{self._form(item)}"
        layer = item.attrs.get("layer")
        ranks = [len(self.builder.lowered.shape(o) or ()) for o in self.outs(item)]
        if layer is not None:
            own = f"{_class_of(item)} {layer.function.__name__} {_said(layer.options)}"
        else:
            own = f"{item.op} {_said(item.attrs)} {[self._slot(o) for o in item.inputs]}"
        return f"{own} {ranks}"

    def _slot(self, out: Out) -> str:
        if out.node.op == "Const":
            return f"constant{out.node.value.ndim}"
        if out.node.op == "Variable":
            return "weight"
        return "tensor" if self.builder.is_tensor(out) else "sizes"

    def _form(self, place: Place) -> str:
        """What a module computes of its inputs."""
        refs: dict[Out, Any] = {out: f"in{i}" for i, out in enumerate(place.inputs)}
        form = []
        for item in place.items:
            if isinstance(item, Node) and item.op in _HELD:
                continue
            form.append((self._symbol(item), [refs.get(o, "") for o in item.inputs]))
            refs.update({o: f"{len(form)}.{i}" for i, o in enumerate(self.outs(item))})
        return repr((form, [refs.get(o, "") for o in place.outputs]))


def _class_of(node: Node) -> str:
    """The class of a layer, a depthwise convolution apart from others; else the op."""
    layer = node.attrs.get("layer")
    if layer is None:
        return node.op
    groups = layer.options.get("groups", 1)
    depthwise = groups > 1 and groups == layer.options.get("in_channels")
    return f"Depthwise{layer.kind.__name__}" if depthwise else layer.kind.__name__


def _is_weight(out: Out) -> bool:
    return out.node.op == "Variable"


def _said(attributes: Mapping[str, Any]) -> str:
    """What of some attributes decides how an op is written: words and switches, not numbers."""
    kept = {k: v for k, v in attributes.items() if k not in _LOOSE and isinstance(v, (str, bool))}
    return repr(sorted(kept.items()))


def plan(builder: Builder, place: Place, name: str) -> Plan | None:
    """Where the units of a module go, so that what repeats in it is blocks; None where nothing does.

    ``name`` is the module's own.
    """
    reader = _Reader(builder, place)
    steps = reader.steps()
    items, families = repeats(steps, {reader.number(out) for out in place.outputs})
    if not families:
        return None
    classes = family_names(families)
    names = scope_names(items, classes, name)
    for family in families:
        names.update(member_names(family, classes))
    outs = {number: out for out, number in reader.numbers.items()}
    found = _Placing(names, classes, outs).run(items, place.path)
    kept = {u.home for u in steps if u.is_module and u.home not in found.moved}
    return None if any(path in kept for path in found.blocks) else found


class _Placing:
    """Gives every block, and what is in it, a path."""

    def __init__(
        self, names: Mapping[int, str], classes: Mapping[Family, str], outs: Mapping[int, Out]
    ) -> None:
        self.names, self.classes, self.outs = names, classes, outs
        self.plan = Plan()

    def run(self, items: Sequence[Item], around: Path) -> Plan:
        """Place the blocks among some items."""
        for item in items:
            if isinstance(item, Block):
                self._placed(item, around, self.names[id(item)])
        return self.plan

    def _placed(self, step: Item, around: Path, name: str) -> Iterator[Node | Path]:
        """Place a step; return what it is in the module around it: nodes, and paths of modules."""
        if isinstance(step, Block):
            return self._block(step, around, name)
        assert isinstance(step, Unit)
        path = (*around, _identifier(name))
        if step.is_module:
            self.plan.moved[step.home] = path
        else:
            self.plan.inside[step.item] = around  # type: ignore[index]
            self._name_weights(step, name)
        return iter([path if isinstance(step.item, Place) else step.item])

    def _name_weights(self, step: Unit, name: str) -> None:
        held = [out.node for out in step.item.inputs if _is_weight(out)]
        for node in held if step.is_named else ():
            last = weight_name(node).split("/")[-1]
            self.plan.weights[node] = name if len(held) == 1 else f"{name}_{last}"

    def _block(self, block: Block, around: Path, name: str) -> Iterator[Node | Path]:
        if block.family is None and not all(_is_item(step) for step in block.steps):
            classes = dict(self.classes)
            found = [self._placed(s, around, f"{name}_{role(s, classes)}") for s in block.steps]
            return itertools.chain.from_iterable(found)
        path = (*around, *map(_identifier, name.split(".")))
        is_chain = block.family is None
        order: dict[Node | Path, int] = {}
        for number, step in enumerate(block.steps):
            own = str(number) if is_chain else self.names[id(step)]
            for key in self._placed(step, path, own):
                order[key] = len(order)
        self.plan.blocks[path] = Made(
            "Sequential" if block.family is None else self.classes[block.family],
            ["input"] if block.family is None else input_names(block.family),
            [self.outs[number] for number in block.inputs],
            order,
            is_chain,
        )
        return iter([path])


def _identifier(name: str) -> str:
    return name if name.isdigit() else tree.identifier(name)


def _is_item(step: Item) -> bool:
    """Tell whether a step may be one of an ``nn.Sequential``: other ops are none."""
    return (
        isinstance(step, Block) or step.is_activation or (isinstance(step, Unit) and step.is_module)
    )


def settled(root: Place, plans: Sequence[Plan]) -> bool:
    """Let the modules that are blocks take their inputs, and run their items, in the order that their like do; tell
    whether all of them can."""
    places = {place.path: place for place in shared.every_place(root)}
    return all(_settled(places, plan) for plan in plans)


def _settled(places: Mapping[Path, Place], plan: Plan) -> bool:
    counts: dict[str, set[int]] = {}
    for path, made in plan.blocks.items():
        place = places.get(path)
        if place is None or len(place.outputs) != 1:
            return False
        given = [out for out in place.inputs if out.node.op != "Const"]
        if not set(made.inputs) <= set(given) or (made.is_chain and len(given) > 1):
            return False
        counts.setdefault(made.name, set()).add(len(given))
        place.inputs = [*made.inputs, *(out for out in place.inputs if out not in made.inputs)]
        _sort(place, made.order)
    return all(len(found) == 1 for found in counts.values())


def _sort(place: Place, order: Mapping[Node | Path, int]) -> None:
    """Sort a block's items; what is none of its steps (a size, a weight) comes right before what reads it."""
    numbers: dict[int, float] = {}
    read: dict[Node, float] = {}
    for item in reversed(place.items):
        key = item.path if isinstance(item, Place) else item
        number = order.get(key)
        own = float(number) if number is not None else read.get(item, 0.0) - 1e-6  # type: ignore[arg-type]
        numbers[id(item)] = own
        for out in item.inputs:
            read[out.node] = min(read.get(out.node, own), own)
    place.items.sort(key=lambda item: numbers[id(item)])
