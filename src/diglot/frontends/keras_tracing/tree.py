"""The mirror's tree of modules: one torch module for each layer, named as in the source, and the weight map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import Layer, Sequential
from keras.src.models.functional import Functional
from torch import nn

from diglot.errors import Problem, Unsupported
from diglot.frontends import keras_layers
from diglot.frontends.keras_layers import stacked
from diglot.frontends.keras_layers.activation import activation_module
from diglot.frontends.keras_layers.records import LayerRecord, Weight, with_masks
from diglot.frontends.keras_model import Given, LeafCall
from diglot.frontends.keras_tracing import super_calls
from diglot.frontends.keras_tracing.automatic import is_automatic, own_names
from diglot.frontends.keras_tracing.blocks import Plan, plan
from diglot.frontends.keras_tracing.classes import mirror_class, parameters
from diglot.frontends.keras_tracing.graph import runs_its_graph, steps_of
from diglot.frontends.keras_tracing.known_blocks import KnownBlocks
from diglot.frontends.keras_tracing.known_tree import known_plan
from diglot.frontends.keras_tracing.lent import FREE, free_weight, holders_own, lend, lend_free
from diglot.frontends.keras_tracing.original_names import Names
from diglot.frontends.keras_tracing.plain_arguments import plain_arguments, with_results
from diglot.frontends.keras_tracing.tensor import constant
from diglot.frontends.keras_tracing.weights import (
    Weights,
    container,
    identifier,
    join,
    named_members,
    torch_step,
)
from diglot.frontends.repeating.items import Block


class Gap(nn.Identity):
    """Keeps the place of a list's item that has no module of its own; it is never called."""


def only_layer(model: Layer, structure: str, names: list[str]) -> Layer | None:
    """Return the author's layer that a Functional model only wraps: it takes the inputs, and gives the outputs."""
    if type(model) is not Functional or len(model.operations) != len(model.inputs) + 1:
        return None
    layer = next(o for o in model.operations if type(o).__name__ != "InputLayer")
    if keras_layers.find(layer) is not None or keras_layers.refusal(layer) is not None:
        return None
    if len(layer._inbound_nodes) != 1:
        return None
    node = layer._inbound_nodes[0]
    made = [id(t) for t in node.output_tensors]
    struct = model._outputs_struct
    keyed = isinstance(struct, dict) and all(hasattr(t, "shape") for t in struct.values())
    whole = keyed or isinstance(struct, (list, tuple)) == (len(made) > 1)
    same = (
        {id(t) for t in model.outputs} <= set(made)
        if keyed
        else made == [id(t) for t in model.outputs]
    )
    taken, inputs = [id(t) for t in node.input_tensors], [id(t) for t in model.inputs]
    given = taken == inputs and _called_plainly(layer, node)
    if structure == "dict":  # by name, then, in whatever order
        own = [p.name for p in parameters(layer)]
        called = dict(zip(own, taken, strict=False))
        given = called == dict(zip(names, inputs, strict=True))
    return layer if whole and given and same else None


def _called_plainly(layer: Layer, node: Any) -> bool:
    """Tell whether a call says nothing but its tensors, by position: these are what the layer as a root is given."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    if any(value is not None for value in kwargs.values()):
        return False
    if all(hasattr(value, "shape") for value in args):
        return True
    own = [p for p in parameters(layer) if p.name != "mask" and p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(args) == len(own) == len(layer._inbound_nodes[0].input_tensors) == 1


def output_keys(model: Layer, layer: Layer) -> dict[str, int] | None:
    """Return ``{key: which of the layer's results}`` where a model gives what its only layer does as a dict."""
    struct = model._outputs_struct
    if not isinstance(struct, dict):
        return None
    made = [id(t) for t in layer._inbound_nodes[0].output_tensors]
    return {key: made.index(id(tensor)) for key, tensor in struct.items()}


def _as_called(model: Layer) -> list[tuple[int, Layer]]:
    """Return a model's layers with their places, in the order in which they run, branch by branch."""
    layers = list(enumerate(model.layers))
    if not runs_its_graph(model):
        return layers
    order: dict[int, int] = {}
    for step in steps_of(model):
        order.setdefault(id(step.operation), len(order))
    return sorted(layers, key=lambda item: order.get(id(item[1]), len(order)))


class Tree(Weights):
    """Builds the modules of a model. ``paths`` says where each layer's module is, ``entries`` where its weights are."""

    def __init__(self, trusted: bool = False, names: Names | None = None) -> None:
        super().__init__(names)
        self.trusted = trusted
        self.paths: dict[int, str] = {}
        self.layers: dict[str, Layer | Block] = {}
        self.records: dict[int, LayerRecord | None] = {}
        self.problems: list[Problem] = []
        self._within: list[Layer] = []
        self.left_out: list[dict[str, str]] = []  # what layers do in training alone
        self.losses: dict[str, str] = {}  # what is for training alone, by the layer's name
        self.activations: dict[str, str] = {}  # path of a layer -> that of its activation's module
        self.lent: dict[str, nn.Module] = {}  # layers whose weights their holders have, by path
        self.plans: dict[int, Plan] = {}  # of Functional models that are written with blocks
        self._placed: dict[str, nn.Module] = {}
        self.bases: dict[int, super_calls.Base] = {}  # of layers that extend one of Keras's
        self.says_sizes = False  # the model says which sizes of its inputs are open
        self.masked = False  # a layer makes masks
        self.arguments: dict[str, Given | None] = {}  # of calls, by path; see Mirror
        self.leaves: dict[int, LeafCall] = {}  # by the layer's id
        self._targets: dict[int, str] = {}  # paths in Keras of layers that are PyTorch's

    def build(self, model: Layer, inner: Layer | None = None) -> nn.Module:
        """Return the root module; raises :class:`Unsupported` with everything that cannot be translated.

        ``inner`` is the one layer that the model consists of, which then is the root in its place.
        """
        root_layer = model if inner is None else inner
        self.paths[id(root_layer)] = ""
        self.layers[""] = root_layer
        self.masked = any(_makes_masks(layer) for layer in model._flatten_layers())
        with with_masks(self.masked):
            root = self._composite(root_layer, "", "" if inner is None else inner.name)
        if self.problems:
            raise Unsupported(self.problems)
        widths = {e.dtype for e in self.entries if "float" in e.dtype}
        if widths == {"float64"}:
            root.double()
        self.fill(root)
        root.keeps_names = self.names is not None
        return root

    def note(
        self, layer: Layer, path: str, args: tuple, kwargs: dict[str, Any], forced: bool | None
    ) -> None:
        """Note what a layer is called with; calls that differ say nothing."""
        given = plain_arguments(layer, args, kwargs) if forced is None else None
        self.arguments[path] = given if self.arguments.get(path, given) == given else None

    def note_leaf(
        self, layer: Layer, args: tuple, kwargs: dict[str, Any], forced: bool | None, made: Any
    ) -> None:
        """Note what a layer that is PyTorch's takes and gives."""
        target = self._targets.get(id(layer))
        if target is None:
            return
        given = plain_arguments(layer, args, kwargs) if forced is None else None
        call = LeafCall(layer, target, self.paths[id(layer)], with_results(given, made))
        known = self.leaves.setdefault(id(layer), call)
        if known.given != call.given:
            self.leaves[id(layer)] = dataclasses.replace(call, given=None)

    # --- modules -----------------------------------------------------------------------------------------

    def _place(
        self, layer: Layer, parent: nn.Module, name: str, path: str, keras_path: str
    ) -> None:
        """Register the module of a layer in ``parent``; a layer that has one already gets it once more."""
        if id(layer) in self.paths:
            known = self.paths[id(layer)]
            module = self._placed.get(known)
            if module is not None:
                parent.add_module(name, module)
            return
        why = self._refusal(layer)
        if why is not None:
            source = f"keras.layers.{type(layer).__name__}"
            self.problems.append(Problem(source, "", keras_path or layer.name, why))
            self.paths[id(layer)] = path
            return
        record = self.records[id(layer)] = self._record(layer)
        if record is not None:
            self._targets[id(layer)] = keras_path or layer.name
        if record is not None and record.in_training:
            what = {"layer": keras_path or layer.name, "class": type(layer).__name__}
            self.left_out.append({**what, "why": record.in_training})
        if record is not None and record.inner:
            inner = getattr(layer, record.inner)
            self._place(inner, parent, name, path, f"{keras_path}.{record.inner}")
            self.paths[id(layer)] = path
            return
        if self._is_free_weight(layer, parent, path, keras_path):
            return
        if record is None:
            module: nn.Module | None = self._composite(layer, path, keras_path)
        else:
            module = self._leaf(layer, record, path, keras_path, parent)
        self.paths[id(layer)] = path
        self.layers[path] = layer
        if module is not None:
            parent.add_module(name, module)
            self._placed[path] = module
            if record is not None:
                self._activation(layer, parent, name, path, keras_path)

    def _is_free_weight(self, layer: Layer, parent: nn.Module, path: str, keras_path: str) -> bool:
        """Tell whether a layer only holds a weight that was its parent's in PyTorch; it is that again."""
        around = path.rpartition(".")[0]
        entry = free_weight(self.names, layer, around) if self.names is not None else None
        if entry is None:
            return False
        dtype = constant(np.zeros((), entry.dtype)).dtype
        module = self.lent[path] = lend_free(parent, entry, dtype, torch_step)
        own = Weight("value", module.name, tuple(entry.steps))
        self.weight(layer, parent, own, around, keras_path)
        self.paths[id(layer)], self.records[id(layer)] = path, FREE
        return True

    def _record(self, layer: Layer) -> LayerRecord | None:
        """Return the record of a layer, or of a sequence that was one layer in PyTorch."""
        return stacked.find(layer, self.names) or keras_layers.find(layer)

    def _refusal(self, layer: Layer) -> str | None:
        if type(layer).__name__ == "Lambda" and self.trusted:
            return None
        return keras_layers.refusal(layer)

    def _leaf(
        self, layer: Layer, record: LayerRecord, path: str, keras_path: str, parent: nn.Module
    ) -> nn.Module | None:
        needs_weights = record.weights is not None and not layer.built
        if record.make is None or needs_weights:
            return None
        module = record.make(layer)
        if module is None:
            return None
        parts = record.parts(layer) if record.parts is not None else {}
        for name, (part, attribute) in parts.items():
            self._place(part, module, name, f"{path}.{name}", f"{keras_path}.{attribute}")
        weights = list(record.weights(layer)) if record.weights is not None else []
        around = path.rpartition(".")[0]
        if self.names is not None and weights and not isinstance(parent, nn.Sequential):
            entries = holders_own(self.names, layer, weights, around)
            if entries is not None and not parts:
                lend(module, parent, weights, entries, torch_step)
                for weight in weights:
                    own = dataclasses.replace(weight, steps=entries[str(weight.torch)].steps)
                    self.weight(layer, parent, own, around, keras_path)
                self.lent[path] = module
                return None
        for weight in weights:
            self.weight(layer, module, weight, path, keras_path)
        return module

    def _activation(
        self, layer: Layer, parent: nn.Module, name: str, path: str, keras_path: str
    ) -> None:
        """An activation that is a layer has a module beside that of the layer which holds it."""
        activation = getattr(layer, "activation", None)
        if isinstance(activation, Layer) and id(activation) not in self.paths:
            self._place(
                activation,
                parent,
                f"{name}_activation",
                f"{path}_activation",
                f"{keras_path}.activation",
            )

    def _composite(self, layer: Layer, path: str, keras_path: str) -> nn.Module:
        """Return the module of a layer that is written out: a model, or an author's layer."""
        self._within.append(layer)
        try:
            return self._written_out(layer, path, keras_path)
        finally:
            self._within.pop()

    def _extend(self, layer: Layer, module: nn.Module, path: str, keras_path: str) -> None:
        """Make the module of the layer of Keras's that an author's layer extends and calls."""
        found = super_calls.base_of(layer)
        if found is None:
            return
        name = identifier(super_calls.name_of(found[0]), (*module._modules, *vars(layer)))
        base = self.bases[id(layer)] = super_calls.Base(*found, join(path, name))
        made = self._leaf(layer, base.record, base.path, keras_path, module)
        if made is not None:
            module.add_module(name, made)

    def _written_out(self, layer: Layer, path: str, keras_path: str) -> nn.Module:
        children = list(self._children(layer))
        chain = isinstance(layer, Sequential) or self._was_sequence(children, path)
        known = known_plan(layer, self.names) if runs_its_graph(layer) and not path else None
        items = self._items(children, path) if chain and known is None else None
        indexed = isinstance(layer, Sequential) and all(is_automatic(c) for _, c, _ in children)
        sequence = known.is_sequence if known is not None else bool(indexed or items)
        part = any(not isinstance(holder, (Functional, Sequential)) for holder in self._within[:-1])
        cls = mirror_class(layer, nn.Sequential if sequence else nn.Module, part=part)
        module = cls()
        module.source_path, module.is_known = path, known is not None
        module.__dict__["source_layer"] = (
            layer  # no child, though Keras on torch has modules for layers
        )
        module.keras_path = keras_path
        self._extend(layer, module, path, keras_path)
        self.own_weights(layer, module, path, keras_path)
        blocks = known or plan(layer) if runs_its_graph(layer) else None
        if blocks is not None:
            self.plans[id(layer)] = blocks
            if self.names is not None and known is None:
                blocks.names.update(KnownBlocks(blocks, self.names).run())
            self._members(blocks, None, module, path, keras_path)
            return module
        if items:
            for name, child, attribute in items:
                self._place(child, module, name, join(path, name), join(keras_path, attribute))
            return module
        if indexed:
            for _, child, attribute in children:
                self._item(child, module, path, join(keras_path, attribute))
            return module
        for names, child, attribute in children:
            said = self._said(child, path)
            if said and (len(said) == 1 or child.weights):
                names = said
            self._place_below(child, module, names, path, join(keras_path, attribute))
        return module

    def _members(
        self, plan: Plan, block: Block | None, module: nn.Module, path: str, keras_path: str
    ) -> None:
        """Place the layers and the blocks of a Functional model, or of a block of it."""
        taken: set[str] = set()
        for said, step in plan.members(block):
            if plan.known and not isinstance(step, Block) and id(step.operation) in self.paths:
                continue  # called again
            own = said or step.name
            parent, around = module, path
            if said is not None and "." in own:
                held, _, own = own.rpartition(".")
                parent, around = container(module, held.split("."), own), join(path, held)
            known = own.isdigit() or (plan.known and said is not None)
            name = own if known else identifier(own, taken)
            taken.add(name)
            if isinstance(step, Block):
                self._block(plan, step, parent, name, join(around, name), keras_path)
            else:
                below = join(keras_path, step.name)
                self._place(step.operation, parent, name, join(around, name), below)

    def _block(
        self, plan: Plan, block: Block, parent: nn.Module, name: str, path: str, keras_path: str
    ) -> None:
        """Register the module of a block; its layers are the model's own in Keras."""
        self.paths[id(block)] = path
        if path in self.layers:  # called again
            self._members(plan, block, parent._modules[name], path, keras_path)
            return
        module = plan.class_of(block)()
        module.source_path, module.is_known = path, plan.known
        self.layers[path] = block
        parent.add_module(name, module)
        self._members(plan, block, module, path, keras_path)

    def _children(self, layer: Layer) -> Iterator[tuple[tuple[str, ...], Layer, str]]:
        """Yield ``(names, layer, path in Keras)`` for each layer right below another."""
        if isinstance(layer, (Functional, Sequential)):
            taken: set[str] = set()
            # An author's layer makes its parts anew when it is loaded: their automatic names are others then.
            models = (Functional, Sequential)
            anew = any(not isinstance(holder, models) for holder in self._within)
            children = [(p, c) for p, c in _as_called(layer) if type(c).__name__ != "InputLayer"]
            names = own_names([c for _, c in children]) if anew else [c.name for _, c in children]
            for name, (place, child) in zip(names, children, strict=True):
                name = identifier(name, taken)
                taken.add(name)
                numbered = anew and is_automatic(child)
                yield (name,), child, f"layers.{place}" if numbered else child.name
            return
        seen: set[int] = set()
        for path, child in named_members(layer, Layer):
            seen.add(id(child))
            names = (identifier(path[0]), *path[1:])
            yield names, child, ".".join(path)
        for child in layer._layers:  # held by something that is no list or dict
            if id(child) not in seen:
                yield (identifier(child.name),), child, f"_layers.{layer._layers.index(child)}"

    def _said(self, child: Layer, path: str) -> tuple[str, ...] | None:
        """Return what PyTorch called a layer below the module at ``path``, where the model comes from there."""
        if self.names is None:
            return None
        return self.names.below(child, self._record(child) is not None, path)

    def _was_sequence(self, children: list[Any], path: str) -> bool:
        """Tell whether a layer with a ``call`` was a sequence in PyTorch: its parts were called by numbers."""
        said = [self._said(child, path) for _, child, _ in children if child.weights]
        return bool(said) and all(
            known and len(known) == 1 and known[0].isdigit() for known in said
        )

    def _items(self, children: list[Any], path: str) -> list[tuple[str, Layer, str]] | None:
        """Return the items of a sequence under the names that they had in PyTorch; None where these are not known.

        Layers that PyTorch has none for (padding before a convolution) get no place; those without a name of their
        own get the numbers between.
        """
        said = [self._said(child, path) for _, child, _ in children]
        taken = {known[0] for known in said if known}
        if not taken or any(len(known) > 1 for known in said if known):
            return None
        found: list[tuple[str, Layer, str]] = []
        place = -1
        for (names, child, attribute), known in zip(children, said, strict=True):
            record = self._record(child)
            if known:
                name = known[0]
                place = int(name) if name.isdigit() else place
            elif record is None or record.weights is not None:
                return None
            elif not all(name.isdigit() for name in taken):
                name = identifier(names[0], taken)
            elif str(place + 1) in taken or record.make is None:
                continue
            else:
                place += 1
                name = str(place)
            found.append((name, child, attribute))
        return found

    def _item(self, child: Layer, module: nn.Module, path: str, keras_path: str) -> None:
        """Append a layer to a ``nn.Sequential``, and its activation as an item of its own."""
        place = str(len(module._modules))
        own = join(path, place)
        self._place(child, module, place, own, keras_path)
        if place not in module._modules:
            module.add_module(place, Gap())
        stock = activation_module(getattr(child, "activation", None))
        record = keras_layers.find(child)
        if stock is not None and record is not None and record.activates:
            after = str(len(module._modules))
            module.add_module(after, stock)
            self.activations[own] = join(path, after)

    def _place_below(
        self, child: Layer, module: nn.Module, names: tuple[str, ...], path: str, keras_path: str
    ) -> None:
        """Place a layer below a module, through a ``ModuleList`` or ``ModuleDict`` for a list's or dict's items."""
        parent = container(module, names[:-1], names[-1])
        own = names[-1]
        if not own.isidentifier() and not own.isdigit():
            own = identifier(own)
        if self.names is not None and own in parent._modules and not child.weights:
            return  # its place is that of a layer with weights
        self._place(child, parent, own, join(path, ".".join([*names[:-1], own])), keras_path)
        if own.isdigit() and own not in parent._modules:
            self._fill_gap(parent, own)

    def _fill_gap(self, parent: nn.Module, name: str) -> None:
        """A list's item without a module of its own keeps its place, so that the others keep theirs."""
        parent.add_module(name, Gap())


def _makes_masks(layer: Layer) -> bool:
    return bool(getattr(layer, "mask_zero", False)) or type(layer).__name__ == "Masking"
