"""A TensorFlow graph as plain nodes: functions inlined, attributes decoded, nothing of TensorFlow left.

Three ops are Diglot's own: ``Input`` (a placeholder), ``Variable`` (the value of a variable) and ``Layer`` (a part
that was recognised as one layer; see ``recognise/``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from diglot.errors import BadInput


@dataclass(eq=False)
class Variable:
    """A variable of the source: its name (unique within the graph), value and whether it is trained.

    ``node`` is the node of the source's file that stands for it, one within a function as
    ``function:node``; ``key`` is its value's name in the checkpoint.
    """

    name: str
    value: np.ndarray
    trainable: bool = True
    dtype: str = "float32"
    node: str = ""
    key: str = ""


class Out(NamedTuple):
    """One output of a node."""

    node: Node
    index: int = 0


@dataclass(eq=False)
class Node:
    """One op. ``name`` is unique and holds the name scopes (``block/dense/MatMul``)."""

    name: str
    op: str
    inputs: list[Out] = field(default_factory=list)
    attrs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{self.op} {self.name}>"

    def __deepcopy__(self, memo: dict) -> Node:
        return self  # graphs are shared, never copied with a module

    @property
    def scope(self) -> tuple[str, ...]:
        return tuple(self.name.split("/")[:-1])

    @property
    def value(self) -> np.ndarray:
        """The array of a ``Const``."""
        return self.attrs["value"]


@dataclass(eq=False)
class Graph:
    """Inputs (nodes of op ``Input``) and outputs, each with a name."""

    inputs: list[Node]
    outputs: list[Out]
    output_names: list[str] = field(default_factory=list)
    name: str = ""

    def order(self) -> list[Node]:
        """The nodes that the outputs need, every node after its inputs. Raises :class:`BadInput` for a cycle."""
        return ordered(out.node for out in self.outputs)

    def users(self) -> dict[Out, list[Node]]:
        """The nodes that read each output (the graph's own outputs are not in it)."""
        users: dict[Out, list[Node]] = {}
        for node in self.order():
            for out in node.inputs:
                users.setdefault(out, []).append(node)
        return users

    def replace(self, change: Mapping[Out, Out]) -> None:
        """Let every reader of the keys read the values instead; chains of changes are followed."""
        if not change:
            return

        def final(out: Out) -> Out:
            while out in change:
                out = change[out]
            return out

        self.outputs = [final(out) for out in self.outputs]
        pending, seen = [out.node for out in self.outputs], set()
        while pending:  # from the new outputs: what reads nothing old is reached, too
            node = pending.pop()
            if node not in seen:
                seen.add(node)
                node.inputs = [final(out) for out in node.inputs]
                pending += [out.node for out in node.inputs]


def ordered(roots: Iterable[Node]) -> list[Node]:
    """Everything that the roots need, depth first, every node after its inputs."""
    done: dict[Node, bool] = {}
    result: list[Node] = []
    for root in roots:
        stack: list[tuple[Node, bool]] = [(root, False)]
        while stack:
            node, seen = stack.pop()
            if seen:
                done[node] = True
                result.append(node)
                continue
            if node in done:
                if not done[node]:
                    raise BadInput(f"the graph has a cycle through the node {node.name}")
                continue
            done[node] = False
            stack.append((node, True))
            for out in reversed(node.inputs):
                if done.get(out.node) is None:
                    stack.append((out.node, False))
                elif not done[out.node]:
                    raise BadInput(f"the graph has a cycle through the node {out.node.name}")
    return result


def const(name: str, value: Any, dtype: Any = None) -> Node:
    """A constant node."""
    return Node(name, "Const", [], {"value": np.asarray(value, dtype=dtype)})


def walk_graphs(graph: Graph, visit: Callable[[Graph, Node], None]) -> None:
    """Call ``visit`` on every node, those inside loops and branches included."""
    for node in graph.order():
        visit(graph, node)
        for value in node.attrs.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, Graph):
                    walk_graphs(inner, visit)
