"""GELU written out -> one op.

==============================================================  =========================
``0.5 * x * (1 + erf(x / sqrt(2)))``                            ``gelu(x)``
``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``  ``gelu(x, "tanh")``
==============================================================  =========================

The factors may stand in any order. Source: D. Hendrycks and K. Gimpel, Gaussian Error Linear Units, arXiv:1606.08415.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name

_PRODUCTS = {"aten.mul.Tensor", "aten.mul.Scalar"}
_QUOTIENTS = {"aten.div.Tensor", "aten.div.Scalar"}
_SUMS = {"aten.add.Tensor", "aten.add.Scalar"}


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function" or target_name(node) not in _PRODUCTS:
            continue
        found = _Matcher(hub).gelu(node)
        if found is None:
            continue
        x, approximate = found
        with hub.graph.inserting_before(node):
            more = {"approximate": "tanh"} if approximate else {}
            made = hub.graph.call_function(torch.ops.aten.gelu.default, (x,), more)
            made.meta = dict(node.meta)
        node.replace_all_uses_with(made)


class _Matcher:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def number(self, value: Any) -> float | None:
        """A number, also where it is a constant of one element."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        held = self.hub.constants.get(value) if isinstance(value, fx.Node) else None
        return float(held) if held is not None and held.numel() == 1 else None

    def factors(self, value: Any, own: bool = True) -> tuple[float, list[fx.Node]]:
        """A product as a number and the nodes that are multiplied."""
        number = self.number(value)
        if number is not None:
            return number, []
        name = target_name(value) if value.op == "call_function" else ""
        if own and (name in _PRODUCTS or name in _QUOTIENTS):
            left, right = self.factors(value.args[0]), self.factors(value.args[1])
            if name in _PRODUCTS:
                return left[0] * right[0], left[1] + right[1]
            if not right[1] and right[0]:
                return left[0] / right[0], left[1]
        return 1.0, [value]

    def scaled(self, value: Any) -> tuple[float, fx.Node] | None:
        """``c * x`` as ``(c, x)``."""
        number, nodes = self.factors(value)
        return (number, nodes[0]) if len(nodes) == 1 else None

    def terms(self, node: fx.Node) -> tuple[Any, Any] | None:
        """The two terms of a sum."""
        if node.op != "call_function" or target_name(node) not in _SUMS or node.kwargs:
            return None
        return (node.args[0], node.args[1]) if len(node.args) == 2 else None

    def gelu(self, node: fx.Node) -> tuple[fx.Node, bool] | None:
        """What a product is the GELU of, and whether by way of tanh."""
        number, nodes = self.factors(node)
        if abs(number - 0.5) > 1e-6 or len(nodes) != 2:
            return None
        for gate, x in (nodes, nodes[::-1]):
            inner = self.one_plus(gate)
            if inner is None:
                continue
            name, argument = inner
            if name == "aten.erf.default" and self.is_erf(argument, x):
                return x, False
            if name == "aten.tanh.default" and self.is_cubic(argument, x):
                return x, True
        return None

    def one_plus(self, node: fx.Node) -> tuple[str, Any] | None:
        """``1 + f(y)`` as ``(f, y)``."""
        terms = self.terms(node)
        for number, other in (terms, terms[::-1]) if terms else ():
            if (
                self.number(number) == 1
                and isinstance(other, fx.Node)
                and other.op == "call_function"
            ):
                return target_name(other), other.args[0] if other.args else None
        return None

    def is_erf(self, argument: Any, x: fx.Node) -> bool:
        found = self.scaled(argument)
        return found is not None and found[1] is x and abs(found[0] - math.sqrt(0.5)) < 1e-6

    def is_cubic(self, argument: Any, x: fx.Node) -> bool:
        """Tell whether an argument is ``sqrt(2 / pi) * (x + 0.044715 * x**3)``."""
        number, nodes = self.factors(argument)
        if len(nodes) != 1 or abs(number - math.sqrt(2 / math.pi)) > 1e-6:
            return False
        terms = self.terms(nodes[0])
        for plain, cubic in (terms, terms[::-1]) if terms else ():
            if plain is not x or not isinstance(cubic, fx.Node):
                continue
            scale, cubes = self.factors(cubic)
            if abs(scale - 0.044715) < 1e-6 and self.is_cube(cubes, x):
                return True
        return False

    def is_cube(self, nodes: list[fx.Node], x: fx.Node) -> bool:
        if len(nodes) == 3:
            return all(n is x for n in nodes)
        power = nodes[0] if len(nodes) == 1 else None
        if (
            power is None
            or power.op != "call_function"
            or not target_name(power).startswith("aten.pow")
        ):
            return False
        return power.args[0] is x and self.number(power.args[1]) == 3
