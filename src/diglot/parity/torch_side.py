"""The PyTorch side of a proof: a copy of the source model, driven with arrays."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diglot import torch_program
from diglot.codegen.weights import WeightMap
from diglot.default_dtype import default_dtype
from diglot.errors import BadInput
from diglot.parity.exported import is_exported, watch
from diglot.parity.torch_modes import (
    OperationCounter,
    cast_model,
    computing,
    copy_model,
    zero_dropout,
)
from diglot.runtime.exchange import cotangent
from diglot.runtime.nests import follow, results_at, tensors

NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass
class Call:
    """One call of one module: what went in and came out, as arrays."""

    module: str
    index: int
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


@dataclass(frozen=True)
class NormFact:
    """How one batch norm updated its statistics in a training call: its momentum (the weight of
    the new), and how many values each channel had."""

    momentum: float
    values: int
    calls: int = 1


@dataclass
class Run:
    """What one call of the source gave; gradients and buffers by state_dict name."""

    outputs: list[np.ndarray] = field(default_factory=list)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    input_gradients: dict[int, np.ndarray] = field(default_factory=dict)
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    norms: dict[str, NormFact] = field(default_factory=dict)


class TorchModel:
    """A private copy of a source model in one float width. The original is never touched."""

    def __init__(
        self,
        module: nn.Module,
        weight_map: WeightMap,
        dtype: torch.dtype = torch.float64,
        own: bool = False,
    ) -> None:
        """Copy `module`, unless it is the caller's `own` to give away; raises whatever deepcopy does
        for a model that cannot be copied."""
        self.dtype = dtype
        self.weight_map = weight_map
        #: Whether a gradient was such that PyTorch's batch norm would have read it wrongly.
        self.misread = False
        self._written = {n for e in weight_map.entries if e.written for n in e.sources}
        self.module = cast_model(module, dtype) if own else copy_model(module, dtype)
        zero_dropout(self.module)

    # -- weights ------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Every weight and buffer by state_dict name (and buffers that are not saved), copied."""
        return state_of(self.module)

    def present(self) -> dict[str, np.ndarray]:
        """`state`, not copied: to be read before anything else is done with the model."""
        return {name: _shared(tensor) for name, tensor in _held(self.module).items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Set weights and buffers by name; names that the model does not have raise KeyError."""
        self.load_each(state.items())

    def load_each(self, weights: Iterable[tuple[str, np.ndarray]]) -> None:
        """`load`, of one after the other: all of them are never there at once."""
        held: dict[str, torch.Tensor] = dict(self.module.named_buffers(remove_duplicate=False))
        held.update(self.module.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, array in weights:
                value = torch.from_numpy(np.array(array))
                owner, _, last = name.rpartition(".")
                module = self.module.get_submodule(owner)
                fits = held[name].shape == value.shape
                if fits or last not in module._non_persistent_buffers_set:
                    held[name].copy_(value)
                else:  # a cache, which another call has bound to one of its own size
                    setattr(module, last, value.to(held[name].dtype))

    def parameters(self) -> dict[str, torch.Tensor]:
        """Every trainable parameter, by each of its names."""
        named = self.module.named_parameters(remove_duplicate=False)
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def all_parameters(self) -> dict[str, torch.Tensor]:
        """Every parameter, trained or not, by each of its names."""
        return dict(self.module.named_parameters(remove_duplicate=False))

    # -- running ------------------------------------------------------------------------------

    def tensors(self, inputs: Iterable[np.ndarray]) -> list[torch.Tensor]:
        """Input arrays as tensors, floats in the model's width."""
        result = [torch.from_numpy(np.array(array)) for array in inputs]
        return [t.to(self.dtype) if t.is_floating_point() else t for t in result]

    def forward(self, arguments: list[torch.Tensor]) -> list[torch.Tensor]:
        """The mapped outputs, in order, of one call on the map's inputs, in order."""
        self._forget()
        structure = self.weight_map.structure["inputs"]
        if structure == "dict":
            names = [str(spec.name) for spec in self.weight_map.inputs]
            returned = self.module(**dict(zip(names, arguments, strict=True)))
        else:
            returned = self.module(*arguments)
        if self.weight_map.structure["outputs"] == "any":
            return tensors(returned)
        return [follow(returned, tuple(spec.path)) for spec in self.weight_map.outputs]

    def outputs(
        self, inputs: list[np.ndarray], training: bool = False, noise: int = 0
    ) -> list[np.ndarray]:
        """Only the outputs, without gradients; `noise` seeds whatever is random. Buffers keep
        their values."""
        kept = self._buffers()
        self._mode(training)
        try:
            with computing(self.dtype), torch.no_grad():
                torch.manual_seed(noise)
                return [_numpy(tensor) for tensor in self.forward(self.tensors(inputs))]
        finally:
            self.load(kept)

    def counted(self, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], int]:
        """The outputs in evaluation mode, and how many operations its matrix products and
        convolutions take."""
        counter = OperationCounter()
        with counter:
            outputs = self.outputs(inputs)
        return outputs, counter.total

    def calibrated(self, inputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Running statistics that fit the present weights and `inputs`, by name; empty where the
        model has none, or cannot train on these inputs. Nothing is changed."""
        kept = self._buffers()
        norms = [m for m in self.module.modules() if isinstance(m, NORMS)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        self._mode(True)
        try:
            with computing(self.dtype), torch.no_grad():
                self.forward(self.tensors(inputs))
            after = self._buffers()
        except (RuntimeError, ValueError):
            return {}
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            self.load(kept)
        statistics = ("running_mean", "running_var")
        return {
            # A variance of exactly zero (a channel that is constant) would divide by eps alone.
            name: np.maximum(array, 1e-3) if name.endswith("running_var") else array
            for name, array in after.items()
            if name.rpartition(".")[2] in statistics
        }

    def run(
        self,
        inputs: list[np.ndarray],
        *,
        training: bool,
        seed: int,
        gradients: bool = True,
        modules: Iterable[str] = (),
        module_inputs: bool = False,
    ) -> Run:
        """One call, with the outputs of `modules` (by path) and the gradients of
        loss = sum(output * cotangent) over the float outputs. Buffers keep their values; what the
        call has made of them is in `buffers` (in evaluation mode of those that it wrote)."""
        run = Run()
        kept = self._buffers()
        self._mode(training)
        leaves = self.tensors(inputs)
        floats = {i: leaf for i, leaf in enumerate(leaves) if leaf.is_floating_point()}
        for leaf in floats.values():
            leaf.requires_grad_(gradients)
        # A copy, since a model may change its input in place, which a leaf does not allow.
        arguments = [leaf.clone() for leaf in leaves]
        grad = torch.enable_grad() if gradients else torch.no_grad()
        with contextlib.ExitStack() as stack:
            # Where it cannot go on, too: a batch norm early in the model may have counted the call already.
            stack.callback(self.load, kept)
            stack.callback(self._watch(run, set(modules), module_inputs, training))
            relaid = stack.enter_context(computing(self.dtype))
            stack.enter_context(grad)
            outputs = self.forward(arguments)
            run.outputs = [_numpy(output) for output in outputs]
            if gradients:
                self._differentiate(run, outputs, floats, seed)
                self.misread |= relaid.used
            after = self._buffers()
        run.buffers = {
            name: array
            for name, array in after.items()
            if training or name not in kept or not np.array_equal(array, kept[name])
        }
        return run

    def under_variants(
        self,
        inputs: list[np.ndarray],
        training: bool,
        module: str,
        index: int,
        variants: Mapping[str, Any],
    ) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
        """What one call of a module gives under each variant (a TorchFunctionMode that says in
        `used` whether it changed anything): its outputs, and for the root the mapped outputs too.
        Variants that change nothing, or that the module cannot run under, are left out."""
        results: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        seen = 0

        def hook(child: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            nonlocal seen
            seen += 1
            if seen != index + 1:
                return
            for name, variant in variants.items():
                with contextlib.suppress(RuntimeError, ValueError, TypeError, IndexError), variant:
                    copies = _clone(args), _clone(kwargs)
                    returned = child.forward(*copies[0], **copies[1])
                    of_model: list[np.ndarray] = []
                    if not module:
                        paths = [tuple(spec.path) for spec in self.weight_map.outputs]
                        of_model = _arrays([follow(returned, path) for path in paths])
                    if variant.used:
                        results[name] = (_arrays(tensors(returned)), of_model)

        named = dict(self.module.named_modules(remove_duplicate=False))
        if module not in named or is_exported(self.module):
            return results
        handle = named[module].register_forward_hook(hook, with_kwargs=True)
        try:
            self.outputs(inputs, training)
        finally:
            handle.remove()
        return results

    def train(
        self,
        inputs: list[np.ndarray],
        *,
        steps: int,
        rate: float,
        seed: int,
        training: bool = True,
    ) -> None:
        """`steps` steps of plain gradient descent in training mode (unless told otherwise), in
        place; the loss of step k has the cotangents of seed + k."""
        for step in range(steps):
            self._mode(training)
            with computing(self.dtype) as relaid, torch.enable_grad():
                loss = self._loss(self.forward(self.tensors(inputs)), seed + step)
                parameters = list({id(p): p for p in self.parameters().values()}.values())
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
            self.misread |= relaid.used
            with torch.no_grad():
                for parameter, gradient in zip(parameters, found, strict=True):
                    if gradient is not None:
                        parameter -= rate * gradient

    def _loss(self, outputs: list[torch.Tensor], seed: int) -> torch.Tensor:
        total = torch.zeros((), dtype=self.dtype)
        for i, output in enumerate(outputs):
            if output.is_floating_point():
                weights = torch.from_numpy(cotangent(seed, i, tuple(output.shape)))
                total = total + (output * weights.to(output.dtype)).sum()
        return total

    def _differentiate(
        self, run: Run, outputs: list[torch.Tensor], floats: dict[int, torch.Tensor], seed: int
    ) -> None:
        parameters = self.parameters()
        loss = self._loss(outputs, seed)
        wanted = [*parameters.values(), *floats.values()]
        if not wanted or not loss.requires_grad:
            return
        found = deque(torch.autograd.grad(loss, wanted, allow_unused=True))
        arrays = []
        for tensor in wanted:
            gradient = found.popleft()  # and it is given up: all are never there twice
            zero = np.zeros(tuple(tensor.shape)) if gradient is None else None
            arrays.append(_numpy(gradient) if zero is None else zero)
        run.gradients = dict(zip(parameters, arrays, strict=False))
        run.input_gradients = dict(zip(floats, arrays[len(parameters) :], strict=True))

    def _forget(self) -> None:
        """Keep only the values of buffers, as Keras does: a buffer that an earlier call wrote would hold that
        call's graph, which nothing can be differentiated through again."""
        for module in self.module.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.grad_fn is not None:
                    module._buffers[name] = buffer.detach()

    def _mode(self, training: bool) -> None:
        self.module.train(training)

    def _buffers(self) -> dict[str, np.ndarray]:
        """All that a call may change: buffers, and weights that the model itself writes to."""
        named = dict(self.module.named_buffers(remove_duplicate=False))
        if self._written:
            weights = self.module.named_parameters(remove_duplicate=False)
            named.update((n, w) for n, w in weights if n in self._written)
        return {name: _numpy(tensor) for name, tensor in named.items()}

    def _watch(
        self, run: Run, names: set[str], module_inputs: bool, training: bool
    ) -> Callable[[], None]:
        """Hook the named modules and every batch norm; gives the function that unhooks them."""
        if is_exported(self.module):
            return watch(self.module, run, names, module_inputs, training, _numpy)
        handles: list[Any] = []
        counts: Counter[str] = Counter()
        # What is generated returns nothing but what is read.
        pairs = () if self.weight_map.to_torch else self.weight_map.modules
        wanted = {pair.source: pair.paths for pair in pairs}

        def record(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
                inputs = tensors([args, kwargs]) if module_inputs else []
                found = results_at(output, wanted.get(name, ()))
                run.calls.append(Call(name, counts[name], _arrays(inputs), _arrays(found)))
                counts[name] += 1

            return hook

        def fact(name: str) -> Callable[..., None]:
            def hook(module: Any, args: Any) -> None:
                before = run.norms.get(name)
                values = args[0].numel() // args[0].shape[1]
                momentum = 0.0 if module.momentum is None else float(module.momentum)
                run.norms[name] = NormFact(momentum, values, before.calls + 1 if before else 1)

            return hook

        for name, module in self.module.named_modules(remove_duplicate=False):
            if name in names:
                handles.append(module.register_forward_hook(record(name), with_kwargs=True))
            if training and isinstance(module, NORMS) and module.track_running_stats:
                handles.append(module.register_forward_pre_hook(fact(name)))

        def unhook() -> None:
            for handle in handles:
                handle.remove()

        return unhook


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy: models may change in place what was recorded."""
    return np.array(_shared(tensor))


def _shared(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's own memory, where it can be."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    return tensor.cpu().numpy()


def _clone(structure: Any) -> Any:
    """A nest of arguments with its tensors copied."""
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, structure)


def _arrays(values: list[torch.Tensor]) -> list[np.ndarray]:
    return [_numpy(value) for value in values]


def open_torch(translation: Any, directory: Path) -> tuple[nn.Module, str]:
    """The PyTorch side of a translation: its source, or the program in `directory`; and in words why
    that could not read its weights ("" where all is well).

    Raises BadInput where there is no such thing.
    """
    if translation.weight_map.to_torch:
        return open_program(directory)
    if translation.source_model is None:
        raise BadInput(
            "The translation holds no source model to compare with.",
            hint="load it from a folder that holds source.pt2, or translate again",
        )
    return translation.source_model, ""


def open_program(directory: Path) -> tuple[nn.Module, str]:
    """The generated PyTorch program of a folder with its weights, read by itself; and in words why
    it could not read them ("" where it could): it then has those that fit. It is built in float64, so
    that the constants that it makes of Python's numbers keep their digits.

    Raises BadInput where the program, or the weight file, cannot be read at all.
    """
    path, weights = directory / "model.py", directory / torch_program.WEIGHTS
    try:
        with default_dtype(torch.float64):
            return torch_program.build(path, weights), ""
    except BadInput as error:
        with default_dtype(torch.float64):
            module = torch_program.build(path)
        torch_program.fill(module, torch_program.read_weights(weights))
        return module, error.received or error.message


def state_of(module: nn.Module) -> dict[str, np.ndarray]:
    """A module's weights and buffers as they are (float32, mostly), by name, copied."""
    return {name: _numpy(tensor) for name, tensor in _held(module).items()}


def _held(module: nn.Module) -> dict[str, torch.Tensor]:
    state = dict(module.named_buffers(remove_duplicate=False))
    state.update(module.state_dict())
    return state
