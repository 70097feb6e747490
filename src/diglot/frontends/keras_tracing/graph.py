"""A Functional model as a list of steps: the calls of its layers, in an order that keeps branches whole."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from keras import Layer
from keras.src.models.functional import Functional

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


@dataclasses.dataclass(eq=False)
class Step:
    """One call. Tensors are said by the ids of the Keras tensors that the model was built with."""

    node: Any
    inputs: list[int]
    outputs: list[int]
    symbol: str  # equal for calls that become the same statement but for numbers and names
    shared: bool  # whether its layer is called elsewhere, too

    @property
    def operation(self) -> Any:
        return self.node.operation

    @property
    def name(self) -> str:
        return self.node.operation.name

    @property
    def kind(self) -> str:
        """The class's name."""
        return type(self.node.operation).__name__

    @property
    def lines(self) -> float:
        """About how many lines it is written in: an attribute, and a part of a statement."""
        held = isinstance(self.operation, Layer) and (
            bool(self.operation.weights) or "Dropout" in self.kind
        )
        return 1.5 if held else 0.5


@dataclasses.dataclass(eq=False)
class Family:
    """Blocks that are instances of one class."""

    number: int
    blocks: list[Block] = dataclasses.field(default_factory=list)

    @property
    def symbol(self) -> str:
        return f"block {self.number}"


@dataclasses.dataclass(eq=False)
class Block:
    """A run of steps as one: ``inputs`` are the tensors that it takes, ``outputs`` the one that it gives.

    Without a family it is a chain: one step after the other, as in ``nn.Sequential``. ``optional`` are the ids of
    steps that others of the family may lack; ``prefix`` is what the names of its layers begin with.
    """

    family: Family | None
    steps: list[Item]
    inputs: list[int]
    outputs: list[int]
    prefix: str = ""
    optional: set[int] = dataclasses.field(default_factory=set)

    shared = False
    name = ""
    kind = "Block"

    @property
    def symbol(self) -> str:
        return (
            self.family.symbol if self.family is not None else repr([s.symbol for s in self.steps])
        )

    @property
    def lines(self) -> float:
        return 1.5


Item = Step | Block


def flat(item: Item) -> Iterator[Step]:
    """Yield the steps of an item, those of inner blocks included."""
    if isinstance(item, Block):
        for inner in item.steps:
            yield from flat(inner)
    else:
        yield item


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
    return Step(node, inputs, outputs, f"{_symbol(node)}{ranks}", shared)


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
