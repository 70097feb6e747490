"""Functions that TensorFlow writes out: GELU, SiLU and the division by the length."""

from __future__ import annotations

import math

import numpy as np

from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.recognise.finder import Finder, Terms, close
from diglot.literals import intended

_ROOT_HALF = math.sqrt(0.5)
_ROOT_PI = math.sqrt(2 / math.pi)
_THROUGH = ("Mul", "AddV2", "Add", "Sub", "RealDiv")


def find(finder: Finder) -> None:
    """Replace the chains around ``erf``, ``erfc``, ``tanh`` and ``sigmoid`` that are one activation."""
    for node in finder.order:
        if node.op in ("Erf", "Erfc", "Tanh"):
            _gelu(finder, node)
        elif node.op == "Sigmoid":
            _silu(finder, node)
        elif node.op == "Rsqrt":
            _normalize(finder, node)
    finder.commit()


def _argument(finder: Finder, node: Node) -> Out | None:
    """The ``x`` that the argument of ``node`` is a polynomial of."""
    for terms in (finder.expand(node.inputs[0], depth=d) for d in range(1, 7)):
        atoms = {a for key in terms for a in key}
        if len(atoms) == 1:
            x = finder.atoms[next(iter(atoms))]
            if x.node is not node and terms != {(finder.atom(node.inputs[0]),): 1.0}:
                if _is_gelu_argument(finder, node, x):
                    return x
    return None


def _is_gelu_argument(finder: Finder, node: Node, x: Out) -> bool:
    a = finder.atom(x)
    terms = finder.expand(node.inputs[0], frozenset([x]))
    wanted = {
        "Erf": {(a,): _ROOT_HALF},
        "Erfc": {(a,): -_ROOT_HALF},
        "Tanh": {(a,): _ROOT_PI, (a, a, a): _ROOT_PI * 0.044715},
    }[node.op]
    return close(terms, wanted)


def _gelu(finder: Finder, node: Node) -> None:
    x = _argument(finder, node)
    if x is None:
        return
    a, e = finder.atom(x), finder.atom(Out(node))
    both = tuple(sorted((a, e)))
    wanted = {both: 0.5} if node.op == "Erfc" else {(a,): 0.5, both: 0.5}
    level = [Out(node)]
    for _ in range(5):
        level = [Out(u) for o in level for u in finder.users.get(o, []) if u.op in _THROUGH]
        for out in level:
            if close(finder.expand(out, frozenset([x, Out(node)])), wanted):
                kind = "tanh" if node.op == "Tanh" else "none"
                finder.op(out, "diglot.Gelu", [x], approximate=kind)
                return


def _silu(finder: Finder, node: Node) -> None:
    for user in finder.users.get(Out(node), []):
        if user.op != "Mul" or Out(node) not in user.inputs:
            continue
        x = user.inputs[1] if user.inputs[0] == Out(node) else user.inputs[0]
        if x.node is node or not close(_terms(finder, node, x), {(finder.atom(x),): 1.0}):
            continue
        finder.op(Out(user), "diglot.Silu", [x])


def _terms(finder: Finder, node: Node, x: Out) -> Terms:
    return finder.expand(node.inputs[0], frozenset([x]))


def _normalize(finder: Finder, node: Node) -> None:
    """``x * rsqrt(maximum(reduce_sum(x**2), e))`` (``tf.nn.l2_normalize``); Keras has ``minimum(rsqrt(…), 1 / e)``."""
    least = _bounded(finder, node.inputs[0], "Maximum")
    if least is not None:
        total, epsilon, scale = least[0], math.sqrt(intended(np.float32(least[1]))), Out(node)
    else:
        most = [
            (Out(user), found[1])
            for user in finder.users.get(Out(node), [])
            if (found := _bounded(finder, Out(user), "Minimum"))
        ]
        if len(most) != 1:
            return
        scale, number = most[0]
        total, epsilon = node.inputs[0], intended(np.float32(1 / number))
    if total.node.op != "Sum" or not total.node.attrs.get("keep_dims"):
        return
    along, square = finder.ints(total.node.inputs[1]), total.node.inputs[0].node
    if square.op != "Square" or along is None or len(along) != 1:
        return
    x = square.inputs[0]
    for user in finder.users.get(scale, []):
        if user.op == "Mul" and set(user.inputs) == {x, scale}:
            finder.op(Out(user), "diglot.Normalize", [x], axis=along[0], epsilon=epsilon)


def _bounded(finder: Finder, out: Out, op: str) -> tuple[Out, float] | None:
    """What ``Maximum`` or ``Minimum`` bounds by a number, and the number."""
    if out.node.op != op:
        return None
    numbers = [finder.number(i) for i in out.node.inputs]
    found = [(i, n) for i, n in zip(reversed(out.node.inputs), numbers, strict=True) if n]
    return found[0] if len(found) == 1 else None
