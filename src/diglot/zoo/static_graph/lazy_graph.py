"""The idea of a static graph in plain Python: first describe the computation, then run it."""

import operator
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """One operation and what it takes: nothing is computed when a node is made."""

    op: str
    inputs: tuple = ()
    value: object = None  # of a constant
    name: str = ""

    def __add__(self, other):
        return Node("add", (self, as_node(other)))

    def __mul__(self, other):
        return Node("multiply", (self, as_node(other)))


OPERATIONS = {"add": operator.add, "multiply": operator.mul}


def placeholder(name):
    return Node("placeholder", name=name)


def as_node(value):
    return value if isinstance(value, Node) else Node("constant", value=value)


def run(node, feed_dict):
    """The value of a node, given values for its placeholders."""
    if node.op == "placeholder":
        return feed_dict[node.name]
    if node.op == "constant":  # easily forgotten: without it, only placeholders have values
        return node.value
    return OPERATIONS[node.op](*(run(item, feed_dict) for item in node.inputs))


def build():
    """z = (x + y) · 2 as a function of x and y, and its graph."""
    z = (placeholder("x") + placeholder("y")) * 2
    return lambda x, y: run(z, {"x": x, "y": y}), edges(z)


def edges(node, found=None):
    """Every node as (name, operation, names of its inputs), inputs first."""
    found = {} if found is None else found
    inputs = [edges(item, found)[-1][0] for item in node.inputs]
    name = node.name or (str(node.value) if node.op == "constant" else f"{node.op}_{len(found)}")
    found[name] = (name, node.op, inputs)
    return list(found.values())
