"""The mirror's tree of modules: one torch module for each layer, named as in the source, and the weight map."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from keras import Layer, Sequential
from keras.src.backend.common.variables import Variable as KerasVariable
from keras.src.models.functional import Functional
from torch import nn

from diglot.errors import Problem, Unsupported
from diglot.frontends import keras_layers
from diglot.frontends.keras_layers.activation import activation_module
from diglot.frontends.keras_layers.records import LayerRecord, Weight, with_masks
from diglot.frontends.keras_tracing.blocks import Plan, plan
from diglot.frontends.keras_tracing.classes import mirror_class, parameters
from diglot.frontends.keras_tracing.graph import Block, runs_its_graph
from diglot.frontends.keras_tracing.groups import is_automatic
from diglot.frontends.keras_tracing.tensor import constant
from diglot.ir.weight_entry import WeightEntry

#: What Keras keeps on a layer for itself.
_INTERNAL = frozenset(
    "_layers _metrics _losses _operations _functional _tracker _trainable_variables "
    "_non_trainable_variables _seed_generators _inbound_nodes _outbound_nodes _call_signature "
    "_compile_metrics _compile_loss optimizer _optimizer _loss_tracker _saved_model_inputs_spec".split()
)


def identifier(name: str, taken: Any = ()) -> str:
    """Return a name as a Python identifier that a torch module can have for an attribute."""
    made = re.sub(r"\W", "_", name).lstrip("_") or "layer"
    if made[0].isdigit() or keyword.iskeyword(made):
        made = f"layer_{made}"
    while made in taken or hasattr(nn.Module, made) or made in ("training", "source_class"):
        made += "_"
    return made


def named_members(layer: Any, kind: type) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``(path, member)`` for each member of ``kind`` in a layer's attributes, lists and dicts included."""
    for name, value in vars(layer).items():
        # TensorFlow keeps books of its own in attributes that begin with _self_.
        if name not in _INTERNAL and not name.startswith("_self_"):
            yield from _members((name,), value, kind)


def _members(
    path: tuple[str, ...], value: Any, kind: type
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, kind):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _members((*path, str(index)), item, kind)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _members((*path, str(key)), item, kind)


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
    return len(args) == len(own) == 1  # a list or dict of all inputs


def output_keys(model: Layer, layer: Layer) -> dict[str, int] | None:
    """Return ``{key: which of the layer's results}`` where a model gives what its only layer does as a dict."""
    struct = model._outputs_struct
    if not isinstance(struct, dict):
        return None
    made = [id(t) for t in layer._inbound_nodes[0].output_tensors]
    return {key: made.index(id(tensor)) for key, tensor in struct.items()}


class Tree:
    """Builds the modules of a model. ``paths`` says where each layer's module is, ``entries`` where its weights are."""

    def __init__(self, trusted: bool = False) -> None:
        self.trusted = trusted
        self.paths: dict[int, str] = {}
        self.layers: dict[str, Layer | Block] = {}
        self.records: dict[int, LayerRecord | None] = {}
        self.entries: list[WeightEntry] = []
        self.variables: dict[int, int] = {}  # id of a Keras variable -> its entry
        self.keep: list[Any] = []  # the variables, so that no id is given twice
        self.problems: list[Problem] = []
        self._within: list[Layer] = []
        self.left_out: list[dict[str, str]] = []  # what layers do in training alone
        self.activations: dict[str, str] = {}  # path of a layer -> that of its activation's module
        self.plans: dict[int, Plan] = {}  # of Functional models that are written with blocks
        self._placed: dict[str, nn.Module] = {}

    def build(self, model: Layer, inner: Layer | None = None) -> nn.Module:
        """Return the root module; raises :class:`Unsupported` with everything that cannot be translated.

        ``inner`` is the one layer that the model consists of, which then is the root in its place.
        """
        root_layer = model if inner is None else inner
        self.paths[id(root_layer)] = ""
        self.layers[""] = root_layer
        with with_masks(any(_makes_masks(layer) for layer in model._flatten_layers())):
            root = self._composite(root_layer, "", "" if inner is None else inner.name)
        if self.problems:
            raise Unsupported(self.problems)
        widths = {v.dtype for v in self.keep if "float" in v.dtype}
        if widths == {"float64"}:
            root.double()
        self.fill(root)
        return root

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
        record = self.records[id(layer)] = keras_layers.find(layer)
        if record is not None and record.in_training:
            what = {"layer": keras_path or layer.name, "class": type(layer).__name__}
            self.left_out.append({**what, "why": record.in_training})
        if record is not None and record.inner:
            inner = getattr(layer, record.inner)
            self._place(inner, parent, name, path, f"{keras_path}.{record.inner}")
            self.paths[id(layer)] = path
            return
        if record is None:
            module: nn.Module | None = self._composite(layer, path, keras_path)
        else:
            module = self._leaf(layer, record, path, keras_path)
        self.paths[id(layer)] = path
        self.layers[path] = layer
        if module is not None:
            parent.add_module(name, module)
            self._placed[path] = module
            if record is not None:
                self._activation(layer, parent, name, path, keras_path)

    def _refusal(self, layer: Layer) -> str | None:
        if type(layer).__name__ == "Lambda" and self.trusted:
            return None
        return keras_layers.refusal(layer)

    def _leaf(
        self, layer: Layer, record: LayerRecord, path: str, keras_path: str
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
        for weight in record.weights(layer) if record.weights is not None else ():
            self._weight(layer, module, weight, path, keras_path)
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

    def _written_out(self, layer: Layer, path: str, keras_path: str) -> nn.Module:
        children = list(self._children(layer))
        indexed = isinstance(layer, Sequential) and all(is_automatic(c) for _, c, _ in children)
        cls = mirror_class(layer, nn.Sequential if indexed else nn.Module)
        module = cls()
        module.source_path = path
        module.__dict__["source_layer"] = (
            layer  # no child, though Keras on torch has modules for layers
        )
        module.keras_path = keras_path
        self._own_weights(layer, module, path, keras_path)
        blocks = plan(layer) if runs_its_graph(layer) else None
        if blocks is not None:
            self.plans[id(layer)] = blocks
            self._members(blocks, None, module, path, keras_path)
            return module
        if indexed:
            for _, child, attribute in children:
                self._item(child, module, path, _join(keras_path, attribute))
            return module
        for names, child, attribute in children:
            self._place_below(child, module, names, path, _join(keras_path, attribute))
        return module

    def _members(
        self, plan: Plan, block: Block | None, module: nn.Module, path: str, keras_path: str
    ) -> None:
        """Place the layers and the blocks of a Functional model, or of a block of it."""
        taken: set[str] = set()
        for said, step in plan.members(block):
            own = said or step.name
            if isinstance(step, Block) and "." in own:
                held, _, place = own.partition(".")
                if held not in module._modules:
                    module.add_module(held, nn.ModuleList())
                self._block(plan, step, module._modules[held], place, _join(path, own), keras_path)
                continue
            name = own if own.isdigit() else identifier(own, taken)
            taken.add(name)
            if isinstance(step, Block):
                self._block(plan, step, module, name, _join(path, name), keras_path)
            else:
                below = _join(keras_path, step.name)
                self._place(step.operation, module, name, _join(path, name), below)

    def _block(
        self, plan: Plan, block: Block, parent: nn.Module, name: str, path: str, keras_path: str
    ) -> None:
        """Register the module of a block; its layers are the model's own in Keras."""
        module = plan.class_of(block)()
        module.source_path = path
        self.paths[id(block)] = path
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
            for place, child in enumerate(layer.layers):
                if type(child).__name__ != "InputLayer":
                    name = identifier(child.name, taken)
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

    def _item(self, child: Layer, module: nn.Module, path: str, keras_path: str) -> None:
        """Append a layer to a ``nn.Sequential``, and its activation as an item of its own."""
        place = str(len(module._modules))
        own = _join(path, place)
        self._place(child, module, place, own, keras_path)
        if place not in module._modules:
            module.add_module(place, Gap())
        stock = activation_module(getattr(child, "activation", None))
        record = keras_layers.find(child)
        if stock is not None and record is not None and record.activates:
            after = str(len(module._modules))
            module.add_module(after, stock)
            self.activations[own] = _join(path, after)

    def _place_below(
        self, child: Layer, module: nn.Module, names: tuple[str, ...], path: str, keras_path: str
    ) -> None:
        """Place a layer below a module, through a ``ModuleList`` or ``ModuleDict`` for a list's or dict's items."""
        parent = module
        for place, name in enumerate(names[:-1]):
            if name not in parent._modules:
                listed = names[place + 1].isdigit()
                parent.add_module(name, nn.ModuleList() if listed else nn.ModuleDict())
            parent = parent._modules[name]
        own = names[-1]
        if not own.isidentifier() and not own.isdigit():
            own = identifier(own)
        self._place(child, parent, own, _join(path, ".".join([*names[:-1], own])), keras_path)
        if own.isdigit() and own not in parent._modules:
            self._fill_gap(parent, own)

    def _fill_gap(self, parent: nn.Module, name: str) -> None:
        """A list's item without a module of its own keeps its place, so that the others keep theirs."""
        parent.add_module(name, Gap())

    # --- weights -----------------------------------------------------------------------------------------

    def _weight(
        self, layer: Layer, module: nn.Module, weight: Weight, path: str, keras_path: str
    ) -> None:
        variable: Any = layer
        for part in weight.keras.split("."):
            variable = variable[int(part)] if part.isdigit() else getattr(variable, part)
        names = (weight.torch,) if isinstance(weight.torch, str) else weight.torch
        tensors = [_tensor(module, name) for name in names]
        for tensor in tensors:
            if isinstance(tensor, nn.Parameter) and not variable.trainable:
                tensor.requires_grad_(False)
        self._entry(
            variable,
            f"{keras_path}.{weight.keras}" if keras_path else weight.keras,
            [_join(path, n) for n in names],
            tensors,
            weight.steps,
            weight.combine,
        )

    def _own_weights(self, layer: Layer, module: nn.Module, path: str, keras_path: str) -> None:
        """Make parameters and buffers of the variables that a layer holds itself."""
        trainable = {id(v) for v in layer._trainable_variables}
        members = list(named_members(layer, KerasVariable))
        named = {id(v): p for p, v in members}
        parts = layer._flatten_layers(include_self=False)
        theirs = {
            id(v) for p in parts for v in (*p._trainable_variables, *p._non_trainable_variables)
        }
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        # The states of a recurrent layer are variables that Keras does not count among its weights.
        counted = {id(v) for v in layer.weights}
        own += [v for _, v in members if id(v) not in counted]
        for index, variable in enumerate(own):
            if (
                variable.dtype == "string"
                or id(variable) in self.variables
                or id(variable) in theirs
            ):
                continue
            names = named.get(id(variable), (variable.name,))
            kind = (
                "_trainable_variables" if id(variable) in trainable else "_non_trainable_variables"
            )
            place = index if id(variable) in trainable else index - len(layer._trainable_variables)
            attribute = ".".join(names) if id(variable) in named else f"{kind}.{place}"
            value = torch.zeros(
                tuple(variable.shape), dtype=constant(np.zeros((), variable.dtype)).dtype
            )
            name = identifier("_".join(names), (*module._parameters, *module._buffers))
            if id(variable) in trainable and value.dtype.is_floating_point:
                module.register_parameter(
                    name, nn.Parameter(value, requires_grad=variable.trainable)
                )
            else:
                module.register_buffer(name, value)
            self._entry(
                variable,
                _join(keras_path, attribute),
                [_join(path, name)],
                [_tensor(module, name)],
                (),
                None,
            )

    def _entry(
        self,
        variable: Any,
        target: str,
        sources: list[str],
        tensors: list[torch.Tensor],
        steps: Any,
        combine: Any,
    ) -> None:
        if id(variable) in self.variables:
            return
        self.variables[id(variable)] = len(self.entries)
        self.keep.append(variable)
        self.entries.append(
            WeightEntry(
                target=target,
                sources=sources,
                shape=tuple(variable.shape),
                source_shapes=[tuple(t.shape) for t in tensors],
                combine=combine,
                steps=steps,
                dtype=str(variable.dtype),
                trainable=bool(variable.trainable),
                kind="parameter" if isinstance(tensors[0], nn.Parameter) else "buffer",
            )
        )

    def fill(self, root: nn.Module) -> None:
        """Fill the module's weights with the Keras model's values, by the entries read backwards."""
        state = {
            name: value.detach().numpy() for name, value in root.state_dict(keep_vars=True).items()
        }
        filled: dict[str, np.ndarray] = {}
        for variable, entry in zip(self.keep, self.entries, strict=True):
            current = [filled.get(name, state[name]) for name in entry.sources]
            filled.update(
                zip(entry.sources, entry.to_source(_array(variable), current), strict=True)
            )
        for name, parameter in root.named_parameters():
            if parameter.requires_grad and name not in filled:
                raise RuntimeError(f"{name}: no weight of the Keras model fills it")
        with torch.no_grad():
            for name, value in filled.items():
                _tensor(root, name).copy_(torch.from_numpy(np.array(value, order="C")))


def _makes_masks(layer: Layer) -> bool:
    return bool(getattr(layer, "mask_zero", False)) or type(layer).__name__ == "Masking"


def _array(variable: Any) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable))


def _join(*parts: str) -> str:
    return ".".join(p for p in parts if p)


def _tensor(module: nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer of a dotted name."""
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)
