"""What the recognisers share: the graph's readers, weights behind views of them, and sums of products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.layer import Layer, Weight
from diglot.frontends.tensorflow.lowering import Lowered

_VIEWS = ("Reshape", "Squeeze", "ExpandDims", "Identity", "ReadVariableOp")
#: A sum of products: (sorted ids of its factors) -> coefficient; the factors by id are in ``Finder.atoms``.
Terms = dict[tuple[int, ...], float]
_MAX_TERMS = 12


class Finder:
    """A view of a lowered graph for one recogniser; changes are made when :meth:`commit` is called."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.order = lowered.graph.order()
        self.users = lowered.graph.users()
        self.outputs = set(lowered.graph.outputs)
        self.atoms: dict[int, Out] = {}
        self.claims: dict[Node, tuple] = {}
        self.changes: dict[Out, Out] = {}
        self.variables = any(n.op == "Variable" for n in self.order)
        for node in self.order:
            if node.op == "Layer":
                layer: Layer = node.attrs["layer"]
                for weight in layer.weights:
                    self.claims[weight.node] = layer.key()

    # -- reading ------------------------------------------------------------------------------

    def shape(self, out: Out) -> list[Any]:
        return self.lowered.shape(out) or []

    def rank(self, out: Out) -> int:
        value = self.lowered.values.get(out)
        return value.dim() if isinstance(value, torch.Tensor) else values.rank(value)

    def number(self, out: Out) -> float | None:
        """The number of a scalar constant."""
        value = self.lowered.values.get(out)
        found = values.number(value) if out.node.op == "Const" else None
        return float(found) if isinstance(found, (int, float)) else None

    def root(self, node: Node) -> float | None:
        """The exponent of a square root, or of its inverse: 0.5 or -0.5."""
        if node.op in ("Sqrt", "Rsqrt"):
            return 0.5 if node.op == "Sqrt" else -0.5
        exponent = self.number(node.inputs[1]) if node.op == "Pow" else None
        return exponent if exponent in (0.5, -0.5) else None

    def ints(self, out: Out) -> list[int] | None:
        array = self.lowered.constant(out)
        return None if array is None else [int(v) for v in array.ravel()]

    def weight(self, out: Out) -> Node | None:
        """The variable, or the constant of floats, that an output is a view of."""
        node = out.node
        while node.op in _VIEWS and node.inputs:
            node = node.inputs[0].node
        if node.op == "Variable":
            return node if node.attrs["variable"].value.dtype.kind == "f" else None
        if node.op == "Const" and node.value.dtype.kind == "f" and node.value.ndim:
            return node
        return None

    def array_shape(self, node: Node) -> tuple[int, ...]:
        array = node.value if node.op == "Const" else node.attrs["variable"].value
        return tuple(int(s) for s in array.shape)

    def only_user(self, out: Out) -> Node | None:
        """The one node that reads an output, where nothing else does."""
        users = self.users.get(out, [])
        return users[0] if len(users) == 1 and out not in self.outputs else None

    def only_reader(self, out: Out) -> Node | None:
        """The one node that reads an output's values, where nothing else does; others may ask for its shape."""
        users = [user for user in self.users.get(out, []) if user.op != "Shape"]
        return users[0] if len(users) == 1 and out not in self.outputs else None

    def vector(self, out: Out, like: Sequence[Any], axis: int) -> Node | None:
        """The weight behind ``out`` where it is one number per index of ``axis`` of a tensor of sizes ``like``."""
        node = self.weight(out)
        if node is None:
            return None
        size = math.prod(self.array_shape(node))
        shape = self.shape(out)
        at = axis - len(like) if axis >= 0 else axis
        full = [1] * (len(like) - len(shape)) + list(shape)
        if len(full) != len(like) or not values.same_size(like[at], size):
            return None
        return node if all(s == (size if i == at + len(like) else 1) for i, s in enumerate(full)) \
            else None  # fmt: skip

    # -- changing -----------------------------------------------------------------------------

    def layer(
        self,
        result: Out,
        inputs: list[Out],
        kind: type[nn.Module],
        options: dict[str, Any],
        weights: list[Weight],
        function: Callable[..., Any],
        anchor: Node | None = None,
        **attrs: Any,
    ) -> Out | None:
        """Let ``result`` be a call of a layer. ``None`` where one of its weights is another layer's already."""
        anchor = anchor or result.node
        layer = Layer(kind, options, weights, function, anchor.scope)
        key = layer.key()
        if any(self.claims.get(w.node, key) != key for w in weights):
            return None
        self.claims.update((w.node, key) for w in weights)
        made = Node(f"{result.node.name}:layer", "Layer", inputs, {"layer": layer, **attrs})
        return self._become(result, made)

    def op(self, result: Out, op: str, inputs: list[Out], **attrs: Any) -> Out:
        """Let ``result`` be one op of the table."""
        return self._become(result, Node(f"{result.node.name}:{op}", op, inputs, attrs))

    def _become(self, result: Out, made: Node) -> Out:
        out = Out(made)
        self.lowered.values[out] = self.lowered.values[result]
        self.changes[result] = out
        return out

    def commit(self) -> None:
        """Make the changes."""
        self.lowered.graph.replace(self.changes)

    # -- algebra ------------------------------------------------------------------------------

    def atom(self, out: Out) -> int:
        """The number of a factor: equal for views of one weight."""
        node = self.weight(out)
        key = id(node) if node is not None else hash((id(out.node), out.index))
        self.atoms.setdefault(key, out)
        return key

    def expand(self, out: Out, stop: frozenset[Out] = frozenset(), depth: int = 10) -> Terms:
        """An output as a sum of products of what cannot be taken apart further (``stop``, weights, other ops)."""
        alone: Terms = {(self.atom(out),): 1.0}
        value = self.number(out)
        if value is not None:
            return {(): value}
        if out in stop or depth == 0 or self.weight(out) is not None:
            return alone
        node, made = out.node, None
        if node.op in ("AddV2", "Add", "Sub"):
            left, right = (self.expand(i, stop, depth - 1) for i in node.inputs)
            sign = -1.0 if node.op == "Sub" else 1.0
            made = _sum(left, {k: sign * v for k, v in right.items()})
        elif node.op == "BiasAdd":
            made = _sum(*(self.expand(i, stop, depth - 1) for i in node.inputs))
        elif node.op == "Neg":
            made = {k: -v for k, v in self.expand(node.inputs[0], stop, depth - 1).items()}
        elif node.op == "Mul":
            made = _product(*(self.expand(i, stop, depth - 1) for i in node.inputs))
        elif node.op == "Square":
            inner = self.expand(node.inputs[0], stop, depth - 1)
            made = _product(inner, inner)
        elif node.op == "Pow":
            made = self._power(node, stop, depth)
        elif node.op == "RealDiv":
            made = self._quotient(node, stop, depth)
        return made if made is not None and len(made) <= _MAX_TERMS else alone

    def _power(self, node: Node, stop: frozenset[Out], depth: int) -> Terms | None:
        exponent = self.number(node.inputs[1])
        if exponent not in (2.0, 3.0):
            return None
        inner = self.expand(node.inputs[0], stop, depth - 1)
        squared = _product(inner, inner)
        return squared if exponent == 2.0 else _product(squared, inner)

    def _quotient(self, node: Node, stop: frozenset[Out], depth: int) -> Terms | None:
        divisor = self.number(node.inputs[1])
        top = self.expand(node.inputs[0], stop, depth - 1)
        if divisor:
            return {k: v / divisor for k, v in top.items()}
        if self.root(node.inputs[1].node) == 0.5:  # x / sqrt(v): as x * rsqrt(v)
            return _product(top, {(self.atom(node.inputs[1]),): 1.0})
        return None


def _sum(*parts: Terms) -> Terms:
    total: Terms = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0.0) + value
    return {k: v for k, v in total.items() if v}


def _product(left: Terms, right: Terms) -> Terms:
    total: Terms = {}
    for a, x in left.items():
        for b, y in right.items():
            key = tuple(sorted((*a, *b)))
            total[key] = total.get(key, 0.0) + x * y
    return {k: v for k, v in total.items() if v}


def close(terms: Terms, wanted: Terms, tolerance: float = 1e-5) -> bool:
    """Tell whether two sums of products are the same, up to the rounding of float32 constants."""
    return set(terms) == set(wanted) and all(
        math.isclose(terms[k], wanted[k], rel_tol=tolerance) for k in wanted
    )
