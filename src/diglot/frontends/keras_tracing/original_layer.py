"""A layer of Keras's as a translation noted it, made again and run on torch tensors beside the code that it became."""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import torch
from keras import Layer, ops, tree

from diglot.default_dtype import default_dtype
from diglot.frontends.keras_layers.records import Weight
from diglot.frontends.keras_model import Mirror, mirror
from diglot.frontends.subgraphs import Part
from diglot.ir.hub import Hub
from diglot.ir.kept_layer import KeptLayer
from diglot.ir.weight_entry import settle

#: Keras holds some constants in 32 bits, and some backends compute in them throughout.
_TOLERANCE, _SINGLE = 1e-7, 1e-4
_DRAWS = 2


class OriginalLayer:
    """Makes the layer; ``positional`` inputs of it are given by position."""

    def __init__(self, kept: KeptLayer) -> None:
        _check_origin(kept.layer)
        self.kept = kept
        self.layer = keras.saving.deserialize_keras_object(copy.deepcopy(dict(kept.layer)))
        if not isinstance(self.layer, Layer):
            raise TypeError(f"expected a layer, received {type(self.layer).__name__}")
        needed = [
            n
            for n, p in inspect.signature(self.layer.call).parameters.items()
            if p.default is inspect.Parameter.empty
        ]
        given = list(dict.fromkeys(a.partition(".")[0] for _, a, _ in kept.inputs))
        self.positional = sum(a == b for a, b in zip(given, needed, strict=False))
        self._mirror: Mirror | None = None
        self._exact: Layer | None = None

    def of(self, kept: KeptLayer) -> OriginalLayer:
        """The layer with another order of its axes."""
        self.kept, self._mirror = kept, None
        return self

    def built_for(self, argument: str, place: int) -> list[int | None] | None:
        """The shape of an argument that the layer was built for, where that is known."""
        said = self.kept.layer.get("build_config") or {}
        shapes = said.get("shapes_dict") or {}
        found = shapes.get(f"{argument}_shape", said.get("input_shape") if not place else None)
        plain = isinstance(found, (list, tuple)) and not any(isinstance(s, list) for s in found)
        return list(found) if plain else None

    def given(self, inputs: Sequence[Any], state: dict[str, Any]) -> list[torch.Tensor] | None:
        """What the layer gives; None for inputs that it does not take."""
        try:
            return self._in_keras(self._turned(inputs), state, 0)
        except errors():
            self._exact = None
            return None

    def _turned(self, inputs: Sequence[Any]) -> list[torch.Tensor]:
        return [
            value.permute(list(perm)) if perm else value
            for value, (_, _, perm) in zip(inputs, self.kept.inputs, strict=True)
        ]

    def computes(self, hub: Hub, part: Part) -> bool:
        """Whether a part of a program gives what the layer gives.

        In evaluation it is Keras that runs; in training, where both draw random numbers, the layer's mirror.
        """
        for draw in range(_DRAWS):
            inputs, state = draw_inputs(hub, part, self.kept, draw)
            values = self._turned(inputs)
            for training, run in ((False, self._in_keras), (True, self._in_mirror)):
                made = run(values, state, draw)
                if self._is_single():  # and so are numbers that it is made with
                    made = [value.float() if value.is_floating_point() else value for value in made]
                with _exactly(draw):
                    got = part.run(hub, inputs, state, training)
                perms = [perm for _, perm in self.kept.outputs]
                if len(made) != len(got) or not all(map(agree, made, got, perms)):
                    return False
            if not self._left_alike(state):
                return False
        return True

    def _left_alike(self, state: dict[str, Any]) -> bool:
        """Whether a call in training has changed statistics, or weights, as the layer does."""
        assert self._mirror is not None
        own = {**self._mirror.module.state_dict(), **dict(self._mirror.module.named_buffers())}
        noted = self._noted()
        for entry in self._mirror.entries:
            weight = noted.get(id(self._own_variable(entry)))
            if weight is None:
                continue
            ours = entry.to_target([own[name].numpy() for name in entry.sources])
            theirs = weight.to_target([state[name].numpy() for name in weight.sources])
            if not np.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE):
                return False
        return True

    def _in_keras(
        self, values: Sequence[torch.Tensor], state: dict[str, Any], seed: int
    ) -> list[torch.Tensor]:
        """What the layer itself gives, in float64 where its backend has that."""
        given = [v.numpy() for v in values]
        if self._exact is None:
            self._exact = self._widest(given)
        if self._is_single():
            given = [v.astype("float32") if v.dtype == np.float64 else v for v in given]
        for weight in self.kept.weights:
            value = weight.to_target([state[name].numpy() for name in weight.sources])
            self._variable(self._exact, weight.target).assign(value)
        settle(self._exact)
        made = self._called(self._exact, given, training=False)
        found = [_at(made, path) for path, _ in self.kept.outputs]
        return [torch.from_numpy(np.array(ops.convert_to_numpy(v))) for v in found]

    def _is_single(self) -> bool:
        return self._exact is not None and self._exact.compute_dtype == "float32"

    def _widest(self, values: Sequence[np.ndarray]) -> Layer:
        """The layer in float64, called once; as it is where it mixes widths then (Keras's spectrograms)."""
        said = copy.deepcopy(dict(self.kept.layer))
        exact = keras.saving.deserialize_keras_object(_in_float64(said))
        try:
            self._called(exact, values, training=False)
        except errors():
            exact = keras.saving.deserialize_keras_object(said)
            single = [v.astype("float32") if v.dtype == np.float64 else v for v in values]
            self._called(exact, single, training=False)
        return exact

    def _in_mirror(
        self, values: Sequence[torch.Tensor], state: dict[str, Any], seed: int
    ) -> list[torch.Tensor]:
        if self._mirror is None:
            self._mirror = self._made(values)
        module = self._mirror.module
        self._fill(module, state)
        module.train()
        with _exactly(seed):
            made = module(*values)
        return [v for v in tree.flatten(made) if isinstance(v, torch.Tensor)]

    def _called(self, layer: Layer, values: Sequence[Any], **options: Any) -> Any:
        """Call a layer as the noted one was."""
        given = list(self.kept.called_with(values).items())
        positional = [value for _, value in given[: self.positional]]
        rest = {**dict(given[self.positional :]), **dict(self.kept.arguments)}
        if "training" in options and not layer._call_has_training_arg:
            options = {}
        return layer(*positional, **rest, **options)

    def _made(self, values: Sequence[torch.Tensor]) -> Mirror:
        inputs = [
            keras.Input(tuple(v.shape[1:]), dtype=_dtype(v), name=f"input_{i}")
            for i, v in enumerate(values)
        ]
        made = self._called(self.layer, inputs)
        outputs = [_at(made, path) for path, _ in self.kept.outputs]
        found = mirror(keras.Model(inputs, outputs), [v.numpy() for v in values])
        found.module.double()
        return found

    def _variable(self, layer: Layer, path: str) -> Any:
        """A weight of a layer, by its path in the model that was translated, or below the layer."""
        return Weight(path.removeprefix(f"{self.kept.target}."), "").variable(layer)

    def _noted(self) -> dict[int, Any]:
        return {
            id(self._variable(self.layer, weight.target)): weight for weight in self.kept.weights
        }

    def _own_variable(self, entry: Any) -> Any:
        """The layer's weight that an entry of its mirror stands for."""
        return self._variable(self.layer, entry.target.removeprefix(f"{self.layer.name}."))

    def _fill(self, module: torch.nn.Module, state: dict[str, Any]) -> None:
        """Give the mirror the weights that the program has."""
        assert self._mirror is not None
        noted = self._noted()
        own = module.state_dict()
        own.update(module.named_buffers())
        for entry in self._mirror.entries:
            weight = noted.get(id(self._own_variable(entry)))
            if weight is None:
                continue
            value = weight.to_target([state[name].numpy() for name in weight.sources])
            current = [own[name].numpy() for name in entry.sources]
            for name, array in zip(entry.sources, entry.to_source(value, current), strict=True):
                own[name].copy_(torch.from_numpy(np.array(array)))


def errors() -> tuple[type[Exception], ...]:
    """What a layer raises for tensors that it does not take: its backend's errors, too."""
    found = (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError)
    tensorflow = sys.modules.get("tensorflow")
    return found if tensorflow is None else (*found, tensorflow.errors.OpError)


def draw_inputs(
    hub: Hub, part: Part, kept: KeptLayer, seed: int = 0
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Random inputs for a part of a program, and random weights by their names."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {node: _drawn(node.meta["val"], generator) for node in part.inputs}
    inputs = [drawn[node] for node in part.inputs]
    state = {
        p.name: _drawn(p.value, generator, 0.5)
        if p.trainable or not p.buffer
        else _drawn(p.value, generator, 0.5).abs() + 0.1  # it may be a variance
        for p in hub.parameters.values()
        if p.name in kept.sources
    }
    return inputs, state


@contextlib.contextmanager
def _exactly(seed: int) -> Iterator[None]:
    """Compute in float64 within the block, with random numbers of their own."""
    with torch.no_grad(), torch.random.fork_rng(), default_dtype(torch.float64):
        torch.manual_seed(seed)
        yield


def _check_origin(said: Any) -> None:
    """Refuse what is not made of Keras's own classes; raises ValueError."""
    if isinstance(said, dict):
        home = said.get("module", "keras") if "class_name" in said else "keras"
        if str(home).partition(".")[0] != "keras":
            raise ValueError(f"expected a class of Keras's, received one of {home}")
        for value in said.values():
            _check_origin(value)
    elif isinstance(said, (list, tuple)):
        for value in said:
            _check_origin(value)


def _in_float64(said: Any) -> Any:
    """A serialised layer whose dtype is float64, that of layers in it included."""
    if isinstance(said, dict):
        made = {key: _in_float64(value) for key, value in said.items()}
        return {**made, "dtype": "float64"} if "dtype" in made else made
    return [_in_float64(v) for v in said] if isinstance(said, list) else said


def _dtype(value: torch.Tensor) -> str:
    if value.is_floating_point():
        return "float32"
    return "bool" if value.dtype is torch.bool else "int32"


def _drawn(like: torch.Tensor, generator: torch.Generator, scale: float = 1.0) -> torch.Tensor:
    """Random values of a tensor's shape and kind; integers are small, and none is negative."""
    shape = [int(size) if isinstance(size, int) else int(size.node.hint) for size in like.shape]
    if like.dtype is torch.bool:
        return torch.rand(shape, generator=generator) < 0.7
    if like.is_floating_point():
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale
    return torch.randint(0, 2, shape, generator=generator)


def _at(made: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        made = made[int(part)]
    return made


def agree(ours: torch.Tensor, theirs: torch.Tensor, perm: Sequence[int] | None) -> bool:
    """Whether a value of Keras's is one of PyTorch's, permuted."""
    if perm is not None and theirs.dim() != len(perm):
        return False
    turned = theirs.permute(list(perm)) if perm else theirs
    if ours.shape != turned.shape:
        return False
    gap = _SINGLE if ours.dtype is torch.float32 else _TOLERANCE
    return torch.allclose(ours.double(), turned.double(), rtol=gap, atol=gap)
