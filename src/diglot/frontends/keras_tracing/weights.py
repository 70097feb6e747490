"""How the mirror's weights are made of a Keras model's variables: one entry of the weight map for each."""

from __future__ import annotations

import itertools
import keyword
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from keras import Layer
from keras.src.backend import standardize_dtype
from keras.src.backend.common.variables import Variable as KerasVariable
from torch import nn

from diglot.frontends.keras_layers.records import Weight
from diglot.frontends.keras_tracing.original_names import Names
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


def named_members(
    layer: Any, kind: type | tuple[type, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``(path, member)`` for each member of ``kind`` in a layer's attributes, lists and dicts included."""
    for name, value in vars(layer).items():
        # TensorFlow keeps books of its own in attributes that begin with _self_.
        if name not in _INTERNAL and not name.startswith("_self_"):
            yield from _members((name,), value, kind)


def _members(
    path: tuple[str, ...], value: Any, kind: type | tuple[type, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, kind):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _members((*path, str(index)), item, kind)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _members((*path, str(key)), item, kind)


class Weights:
    """The entries of a model's variables. ``entries`` says which of the mirror's weights each variable is made of."""

    def __init__(self, names: Names | None) -> None:
        self.names = names
        self.entries: list[WeightEntry] = []
        self.variables: dict[int, int] = {}  # id of a Keras variable -> its entry
        self.keep: list[Any] = []  # the variables, so that no id is given twice

    def weight(
        self, layer: Layer, module: nn.Module, weight: Weight, path: str, keras_path: str
    ) -> None:
        variable = weight.variable(layer)
        names = (weight.torch,) if isinstance(weight.torch, str) else weight.torch
        tensors = [_tensor(module, name) for name in names]
        for tensor in tensors:
            if isinstance(tensor, nn.Parameter) and not variable.trainable:
                tensor.requires_grad_(False)
        self._entry(
            variable,
            f"{keras_path}.{weight.keras}" if keras_path else weight.keras,
            [join(path, n) for n in names],
            tensors,
            weight.steps,
            weight.combine,
        )

    def own_weights(self, layer: Layer, module: nn.Module, path: str, keras_path: str) -> None:
        """Make parameters and buffers of the variables that a layer holds itself."""
        trainable = {id(v) for v in layer._trainable_variables}
        members = list(named_members(layer, (KerasVariable, *_variable_kinds())))
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
            dtype = standardize_dtype(variable.dtype)
            if dtype == "string" or id(variable) in self.variables or id(variable) in theirs:
                continue
            names = named.get(id(variable), (variable.name,))
            kind = (
                "_trainable_variables" if id(variable) in trainable else "_non_trainable_variables"
            )
            place = index if id(variable) in trainable else index - len(layer._trainable_variables)
            attribute = ".".join(names) if id(variable) in named else f"{kind}.{place}"
            value = torch.zeros(tuple(variable.shape), dtype=constant(np.zeros((), dtype)).dtype)
            name = identifier("_".join(names), (*module._parameters, *module._buffers))
            known = self.names.entry(variable) if self.names is not None else None
            if id(variable) in trainable and value.dtype.is_floating_point:
                weight = nn.Parameter(value, requires_grad=variable.trainable)
                held = self._held(module, known, path) if known is not None else None
                holder, own = held or (module, name)
                holder.register_parameter(own, weight)
                name = _below(known.sources[0], path) if known is not None and held else name
            else:
                module.register_buffer(name, value, known is None or known.persistent)
            self._entry(
                variable,
                join(keras_path, attribute),
                [join(path, name)],
                [_tensor(module, name)],
                (),
                None,
            )

    def _held(
        self, module: nn.Module, entry: WeightEntry, path: str
    ) -> tuple[nn.Module, str] | None:
        """Return where a module at ``path`` holds a weight that was one of a module in it, and its name there."""
        names = _below(entry.sources[0], path).split(".")
        plain = entry.combine is None and not entry.steps
        if not plain or len(names) < 2 or not is_below(entry.sources[0], path):
            return None
        holder = container(module, names[:-1], names[-1])
        return None if names[-1] in holder._parameters else (holder, names[-1])

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
                dtype=standardize_dtype(variable.dtype),
                trainable=bool(variable.trainable),
                kind="parameter" if isinstance(tensors[0], nn.Parameter) else "buffer",
            )
        )

    def fill(self, root: nn.Module) -> None:
        """Fill the module's weights with the Keras model's values, by the entries read backwards."""
        tensors = itertools.chain(root.named_parameters(), root.named_buffers())
        state = {name: value.detach().numpy() for name, value in tensors}
        filled: dict[str, np.ndarray] = {}
        for variable, entry in zip(self.keep, self.entries, strict=True):
            current = [filled.get(name, state[name]) for name in entry.sources]
            if self.names is not None:
                current = self.names.current(variable, entry) or current
            filled.update(
                zip(entry.sources, entry.to_source(_array(variable), current), strict=True)
            )
        for name, parameter in root.named_parameters():
            if parameter.requires_grad and name not in filled:
                raise RuntimeError(f"{name}: no weight of the Keras model fills it")
        with torch.no_grad():
            for name, value in filled.items():
                _tensor(root, name).copy_(torch.from_numpy(np.array(value, order="C")))


def is_below(name: str, path: str) -> bool:
    """Tell whether a name is that of something below a path."""
    return not path or name.startswith(f"{path}.")


def _below(name: str, path: str) -> str:
    return name[len(path) + 1 :] if path else name


def container(module: nn.Module, names: Sequence[str], last: str) -> Any:
    """Return what is held by these names below a module, made where it is not there: lists of numbers, else dicts."""
    for name, after in itertools.pairwise([*names, last]):
        if name not in module._modules:
            module.add_module(name, nn.ModuleList() if after.isdigit() else nn.ModuleDict())
        module = module._modules[name]  # type: ignore[assignment]
    return module


def _variable_kinds() -> tuple[type, ...]:
    """TensorFlow's own variables, of which Keras knows nothing: neither trained nor saved, but part of the function."""
    tf = sys.modules.get("tensorflow")
    return () if tf is None else (tf.Variable,)


def _array(variable: Any) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable))


def join(*parts: str) -> str:
    return ".".join(p for p in parts if p)


def _tensor(module: nn.Module, name: str) -> torch.Tensor:
    """The parameter or buffer of a dotted name."""
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


def torch_step(step: tuple, value: torch.Tensor) -> torch.Tensor:
    """One step of a weight map on a torch tensor, as ``forward_step`` is on an array."""
    if step[0] == "slice":
        return value.narrow(step[1], step[2], step[3] - step[2])
    if step[0] == "permute":
        return value.permute(*step[1])
    if step[0] == "reshape":
        return value.reshape(tuple(step[1]))
    blocks = value.chunk(len(step[2]), dim=step[1])
    return torch.cat([blocks[i] for i in step[2]], dim=step[1])
