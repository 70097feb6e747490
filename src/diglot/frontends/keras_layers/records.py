"""Records of Keras layers: which torch modules a layer is, how it is called, and where its weights are."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from diglot.errors import Problem, Unsupported


@dataclasses.dataclass(frozen=True)
class Weight:
    """A Keras weight made of torch ones: attribute of the layer, names in the module, steps torch -> Keras.

    ``keras`` may be an attribute path; ``torch`` several names with ``combine`` as in ``WeightEntry``.
    """

    keras: str
    torch: str | tuple[str, ...]
    steps: tuple = ()
    combine: str | None = None

    def variable(self, layer: Any) -> Any:
        """Return the Keras weight of a layer."""
        found = layer
        for part in self.keras.split("."):
            if part.isdigit():
                found = found[int(part)]
            elif not hasattr(found, part) and hasattr(found, "get_layer"):
                found = _layer_named(found, part)
            else:
                found = getattr(found, part)
        return found


def _layer_named(model: Any, name: str) -> Any:
    """A layer of a model by its name, whatever number Keras has put behind one that nobody gave."""
    from diglot.frontends.keras_tracing.automatic import is_automatic

    known: dict[str, Any] = {}
    counts = collections.Counter[str]()
    for held in model.layers:
        own = re.sub(r"_\d+$", "", held.name)
        if is_automatic(held):
            known[f"{own}_{counts[own]}" if counts[own] else own] = held
            counts[own] += 1
        else:
            known[held.name] = held
    if name not in known:
        raise AttributeError(f"{model.name} has no layer {name}")
    return known[name]


@dataclasses.dataclass(frozen=True)
class Sample:
    """A layer and what it is called with, for the test that compares mirror and Keras.

    ``make`` gets the module ``keras`` and gives a layer; ``inputs`` are shapes with the batch (``"2,5,4"`` floats,
    ``"int[2,5]<7"`` ids). ``call`` may wrap the call (it gets layer and the list of tensors).
    """

    make: Callable[[Any], Any]
    inputs: tuple[str, ...] = ("2,6",)
    call: Callable[..., Any] | None = None
    random: bool = False  # draws in training: only evaluation is compared
    tolerance: float = 1e-9  # wider where Keras itself computes with constants of 32 bits
    single: bool = False  # compared in float32: TensorFlow has no such op in float64 (on a CPU)


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """One layer class of Keras in PyTorch.

    ``make(layer)`` gives the torch module that holds its weights (None: it needs none); ``call(run, *inputs)`` runs
    it on torch tensors in Keras's axes. ``call`` of None means the module itself, called with the inputs.
    """

    layer: str
    make: Callable[[Any], nn.Module | None] | None = None
    call: Callable[..., Any] | None = None
    weights: Callable[[Any], Sequence[Weight]] | None = None
    refuse: Callable[[Any], str | None] | None = None
    when: Callable[[Any], bool] | None = None  # else the layer runs its own `call`
    inner: str = ""  # the attribute of a wrapper whose module takes the wrapper's place
    parts: Callable[[Any], dict[str, Any]] | None = None  # layers inside, by name below the module
    samples: tuple[Sample, ...] = ()
    in_training: str = ""  # what it does in training alone, which the translation leaves out
    activates: bool = False  # ends in the function that its `activation` names
    #: The mask that the layer's own `call` gives its result, where ``compute_mask`` does not say it.
    mask: Callable[..., Any] | None = None


@dataclasses.dataclass
class LayerCall:
    """One call of a Keras layer: what its record's ``call`` is given beside the inputs.

    ``forced`` is the mode that was asked for (``training=False``), None where the layer follows the model's mode.
    ``path`` is the module's path.
    """

    layer: Any
    module: Any
    path: str
    forced: bool | None
    convert: Callable[[Callable, Any], Any]
    mode: Any
    activation: nn.Module | None = None  # of its own, as an item of a Sequential

    def activate(self, x: torch.Tensor) -> torch.Tensor:
        """Apply what the layer's ``activation`` names."""
        from diglot.frontends.keras_layers.activation import activate

        return (
            self.activation(x)
            if self.activation is not None
            else activate(self, self.layer.activation, x)
        )

    def apply(self, function: Callable, *values: Any, **options: Any) -> Any:
        """Run a function of Keras's (an activation, a layer) on torch tensors."""
        return self.convert(function, *values, **options)

    def part(self, name: str) -> Any:
        """The torch module of a part of the layer."""
        return getattr(self.module, name)

    def refused(self, why: str) -> Unsupported:
        """Return the error for this use of the layer."""
        return Unsupported(
            [Problem(f"keras.layers.{type(self.layer).__name__}", "", self.path, why)]
        )

    def training(self) -> bool:
        """Whether the layer trains in this call."""
        return bool(self.mode) if self.forced is None else self.forced


_MASKS = [False]


@contextlib.contextmanager
def with_masks(flow: bool) -> Iterator[None]:
    """Say for the length of the block whether masks flow in the model whose modules are made."""
    _MASKS.append(flow)
    try:
        yield
    finally:
        _MASKS.pop()


def masks_flow() -> bool:
    """Whether a layer of the model makes masks, which then reach others."""
    return _MASKS[-1]


TABLE: dict[str, LayerRecord] = {}
#: Classes of :mod:`diglot.carried`, which are known by their text.
CARRIED: dict[str, LayerRecord] = {}
#: Layer classes that are refused whatever their settings, and why.
REFUSED: dict[str, str] = {}
#: Layer classes that run by Keras's own `call`, on torch: what is written is what they do, step by step.
OWN_CALL: dict[str, tuple[Sample, ...]] = {}

#: Methods of layers that run their own `call`, which PyTorch has in one: by class and name, what runs instead.
METHODS: dict[str, dict[str, Callable[..., Any]]] = {}


def method(names: str, name: str, function: Callable[..., Any]) -> None:
    """Enter a method that ``function(layer, …)`` stands for, on torch tensors, where it is Keras's own.

    A function that returns ``NotImplemented`` leaves the call to Keras's method.
    """
    for each in names.split():
        METHODS.setdefault(each, {})[name] = function


def own_call(names: str, *samples: Sample) -> None:
    """Enter layer classes that need no record: their own ``call`` is made of ops."""
    for each in names.split():
        OWN_CALL[each] = samples


def layer(name: str, **fields: Any) -> None:
    """Enter a record; raises ValueError for a class that is entered twice."""
    for each in name.split():
        if each in TABLE:
            raise ValueError(f"{each} is entered twice")
        TABLE[each] = LayerRecord(each, **fields)


def carried(name: str, **fields: Any) -> None:
    """Enter a record for a class that a program written by Diglot carries: the way back from it."""
    CARRIED[name] = LayerRecord(name, **fields)


def refuse(names: str, why: str) -> None:
    """Enter layer classes that cannot be translated, with the reason."""
    for each in names.split():
        REFUSED[each] = why


def bare(module: type[nn.Module], *args: Any, **options: Any) -> Any:
    """Make a torch module whose weights are not drawn: they are filled with the Keras layer's."""
    return module(*args, device="meta", **options).to_empty(device="cpu")


def holder(kind: str, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Make a module that holds weights of these shapes for an op; ``kind`` is the class that the program has."""
    module: nn.Module = type(kind, (nn.Module,), {})()
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.empty(*shape)))
    return module


def to_first(x: torch.Tensor) -> torch.Tensor:
    """(N, …, C) -> (N, C, …)."""
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1)) if x.dim() > 2 else x


def to_last(x: torch.Tensor) -> torch.Tensor:
    """(N, C, …) -> (N, …, C)."""
    return x.permute(0, *range(2, x.dim()), 1) if x.dim() > 2 else x


def channels_first(layer: Any) -> bool:
    return getattr(layer, "data_format", None) == "channels_first"


def on_channels_first(layer: Any, x: torch.Tensor, function: Callable) -> torch.Tensor:
    """Run a function of NCHW tensors on a layer's input in the layer's own data format."""
    if channels_first(layer):
        return function(x)
    return to_last(function(to_first(x)))


def known_shape(layer: Any) -> tuple | None:
    """The shape that a layer was built with: None for sizes that may vary; None where it is not known."""
    shapes = getattr(layer, "_build_shapes_dict", None) or {}
    values = list(shapes.values())
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        if all(v is None or isinstance(v, int) for v in values[0]):
            return tuple(values[0])
    # Layers without weights are built before they are called; what a functional model gives them is in its nodes.
    nodes = getattr(layer, "_inbound_nodes", ()) if not values else ()
    given = {tuple(t.shape for t in node.input_tensors) for node in nodes}
    return tuple(only[0]) if len(given) == 1 and len(only := given.pop()) == 1 else None
