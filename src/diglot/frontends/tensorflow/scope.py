"""The modules of a graph's mirror: one for each name scope that holds layers, whose ``forward`` runs its nodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.frontends.listed import at_line
from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.dynamic import Axis, check_equal
from diglot.frontends.tensorflow.ops import registry
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.values import Constant, Precision
from diglot.graph_ends import returned


@dataclass
class Step:
    """One statement of a module's ``forward``: value numbers in, value numbers out."""

    inputs: list[int]
    outputs: list[int]

    #: The node of the graph that it runs, and the line of the graph's listing that says so.
    node = ""
    line = 0

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        raise NotImplementedError


@dataclass
class OpStep(Step):
    """A call of an op of the table."""

    call: Call

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        return registry.evaluate(self.call, arguments)


@dataclass
class ConstantStep(Step):
    """A constant, with the buffer that holds it where a tensor is needed."""

    array: np.ndarray
    buffer: str | None

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        return Constant(self.array, getattr(scope, self.buffer) if self.buffer else None)


@dataclass
class WeightStep(Step):
    """The value of a variable that is a parameter of ``module``, arranged as the graph has it."""

    module: nn.Module
    name: str
    steps: Sequence[tuple] = ()

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        value = getattr(self.module, self.name)
        for kind, *rest in self.steps:
            value = value.permute(rest[0]) if kind == "permute" else value.reshape(rest[0])
        return value


@dataclass
class LayerStep(Step):
    """A call of a layer, with what surrounds it (permutes, padding)."""

    module: nn.Module
    function: Callable[..., Any]
    call: Call

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        return self.function(self.call, self.module, *arguments)


@dataclass
class ScopeStep(Step):
    """A call of a child module."""

    child: str

    def run(self, scope: Scope, arguments: list[Any]) -> Any:
        return scope.get_submodule(self.child)(*arguments)


@dataclass
class Body:
    """A module's statements, and which values it takes and gives."""

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Scope(nn.Module):
    """A name scope of the graph. Subclasses are made by :class:`Classes`."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body = body

    def compute(self, *arguments: Any) -> Any:
        """Run the body on tensors; one output is returned as it is, several as a tuple."""
        known = dict(zip(self.body.inputs, arguments, strict=True))
        for step in self.body.steps:
            result = at_line(step.line, step.run, self, [known[i] for i in step.inputs])
            if len(step.outputs) == 1 and not isinstance(result, tuple):
                result = (result,)
            known.update(zip(step.outputs, result, strict=False))
        results = [known[i] for i in self.body.outputs]
        return results[0] if len(results) == 1 else tuple(results)


class Chain(Scope, nn.Sequential):
    """Modules one after the other."""


class Root(Scope):
    """The whole graph: sets the precision that constants and casts follow, and returns tensors only.

    ``structure`` says what is returned (see :func:`diglot.graph_ends.returned`); ``equal`` which axes of the inputs
    are of one size.
    """

    equal: Sequence[tuple[Axis, Axis]] = ()

    def __init__(self, body: Body, precision: Precision, structure: Any) -> None:
        super().__init__(body)
        self.precision = precision
        self.structure = structure

    def compute(self, *arguments: Any) -> Any:
        check_equal(arguments, self.equal)
        floats = [t for t in (*self.parameters(), *self.buffers(), *arguments)
                  if isinstance(t, torch.Tensor) and t.is_floating_point()]  # fmt: skip
        self.precision.dtype = floats[0].dtype if floats else torch.get_default_dtype()
        result = super().compute(*arguments)
        results = result if isinstance(result, tuple) else (result,)
        like = next((a for a in arguments if isinstance(a, torch.Tensor)), None)
        return returned(self.structure, [values.tensor(r, self.precision, like) for r in results])


@dataclass
class Classes:
    """The classes of one graph's modules: one for each name and number of inputs, whatever the modules compute.

    Where they compute other things, whoever writes the program tells them apart: he sees what they have in common.
    """

    _made: dict[tuple, type] = field(default_factory=dict)

    def named(self, base: type[Scope], name: str, inputs: Sequence[str]) -> type[Scope]:
        """The class of a module, with a ``forward`` that names its inputs: what the first of the class calls them."""
        key = (base, name, len(inputs))
        if key not in self._made:

            def forward(self: Scope, *arguments: Any) -> Any:
                return self.compute(*arguments)

            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters = [inspect.Parameter(n, kind) for n in ("self", *inputs)]
            forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
            made = {"forward": forward, "__module__": "tensorflow_graph"}
            self._made[key] = type(name, (base,), made)
        return self._made[key]
