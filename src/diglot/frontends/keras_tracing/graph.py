"""A Functional model as a list of steps: the calls of its layers, in an order that keeps branches whole."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from keras import Layer
from keras.src.models.functional import Functional

from diglot.frontends.keras_tracing.automatic import is_automatic
from diglot.frontends.repeating import items

#: What decides which statements a layer becomes, beside its class.
_STRUCTURE = (
    "activation",
    "recurrent_activation",
    "return_sequences",
    "return_state",
    "merge_mode",
    "rank",
)
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[-+]?\d+)?")


_UNARY = frozenset(
    "Relu Relu6 Gelu Silu Swish Sigmoid Tanh Elu Selu Softplus HardSigmoid HardSilu LeakyRelu".split()
)


@dataclasses.dataclass(eq=False)
class Step(items.Step):
    """One call of a layer or an operation. Tensors are said by the ids of the Keras tensors that the model was built
    with."""

    node: Any

    @property
    def operation(self) -> Any:
        return self.node.operation

    @property
    def name(self) -> str:
        return self.node.operation.name

    @property
    def kind(self) -> str:
        return type(self.node.operation).__name__

    @property
    def lines(self) -> float:
        held = isinstance(self.operation, Layer) and (
            bool(self.operation.weights) or "Dropout" in self.kind
        )
        return 1.5 if held else 0.5

    @property
    def is_named(self) -> bool:
        return not is_automatic(self.operation)

    @property
    def is_activation(self) -> bool:
        if not isinstance(self.operation, Layer):
            return self.kind in _UNARY and len(self.inputs) == 1
        module = type(self.operation).__module__
        return ".layers.activations" in module and not self.operation.weights


def runs_its_graph(layer: Layer) -> bool:
    """Tell whether a layer is a Functional model whose ``call`` is Keras's."""
    return isinstance(layer, Functional) and type(layer).call is Functional.call


def steps_of(model: Functional) -> list[Step]:
    """Return the calls that a model's outputs need, each after those that it reads from, branch by branch."""
    nodes = [n for row in model._nodes_by_depth.values() for n in row if not n.is_input]
    maker = {id(t): node for node in nodes for t in node.outputs}
    calls: dict[int, int] = {}
    for node in nodes:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
    ordered: list[Step] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [
        (maker[id(t)], False) for t in reversed(model.outputs) if id(t) in maker
    ]
    while stack:
        node, ready = stack.pop()
        if ready:
            ordered.append(_step(node, calls[id(node.operation)] > 1))
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            needed = [maker[id(t)] for t in node.input_tensors if id(t) in maker]
            stack += [(n, False) for n in reversed(needed) if id(n) not in seen]
    return ordered


def _step(node: Any, shared: bool) -> Step:
    inputs, outputs = [id(t) for t in node.input_tensors], [id(t) for t in node.outputs]
    ranks = [len(t.shape) for t in node.outputs]
    return Step(inputs, outputs, f"{_symbol(node)}{ranks}", shared, node)


def _symbol(node: Any) -> str:
    operation = node.operation
    given = node.arguments
    said = repr([_masked(v) for v in given.args]) + repr(
        {k: _masked(v) for k, v in given.kwargs.items()}
    )
    return f"{_structure(operation)}({said})"


def _structure(operation: Any) -> str:
    cls = f"{type(operation).__module__}.{type(operation).__name__}"
    if not isinstance(operation, Layer):
        return cls
    held = [_said(getattr(operation, name, None)) for name in _STRUCTURE]
    inner = [_structure(part) for part in operation.layers] if _is_model(operation) else []
    return f"{cls}{held}{inner}"


def _is_model(operation: Any) -> bool:
    from keras import Model

    return isinstance(operation, Model)


def _said(value: Any) -> str:
    return getattr(value, "__name__", "") or (
        type(value).__name__ if isinstance(value, Layer) else str(value)
    )


def _masked(value: Any) -> str:
    """An argument's form: tensors and numbers are alike."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return "t" if hasattr(value, "_keras_history") else "array"
    if isinstance(value, (list, tuple)):
        return f"({','.join(_masked(v) for v in value)})"
    return _NUMBER.sub("n", repr(value)) if not callable(value) else "f"
