"""Dropout whose rate is zero, as graphs hold it that were made to be run: nothing."""

from __future__ import annotations

from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.recognise.finder import Finder

_UNIFORM = ("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2")


def find(finder: Finder) -> None:
    """Leave out each choice that random numbers make always in the same way, and what it scales by one."""
    for node in finder.order:
        kept = _chosen(finder, node) if node.op in ("SelectV2", "Select") else None
        kept = _floored(finder, node) if node.op == "Mul" else kept
        if kept is not None:
            finder.changes[Out(node)] = _unscaled(finder, kept)
    finder.commit()


def _chosen(finder: Finder, node: Node) -> Out | None:
    """What is kept where random numbers from 0 to 1 are not below a rate of zero."""
    mask, kept, _ = node.inputs
    if mask.node.op != "GreaterEqual" or not _is_uniform(finder, mask.node.inputs[0]):
        return None
    rate = finder.number(mask.node.inputs[1])
    return kept if rate is not None and rate <= 0.0 else None


def _floored(finder: Finder, node: Node) -> Out | None:
    """What is multiplied with ``floor(1 + u)``, random numbers ``u`` from 0 to 1: TensorFlow 1's way."""
    for kept, mask in (node.inputs, node.inputs[::-1]):
        inner = mask.node.inputs[0].node if mask.node.op == "Floor" else None
        if inner is not None and inner.op in ("Add", "AddV2"):
            numbers = [finder.number(out) for out in inner.inputs]
            if 1.0 in numbers and any(_is_uniform(finder, out) for out in inner.inputs):
                return kept
    return None


def _is_uniform(finder: Finder, out: Out) -> bool:
    """Whether these are random numbers from 0 to 1, also where a graph writes ``u * (1 - 0) + 0``."""
    node = out.node
    for ops, neutral in ((("Add", "AddV2"), 0.0), (("Mul",), 1.0)):
        if node.op in ops and finder.number(node.inputs[1]) == neutral:
            node = node.inputs[0].node
    return node.op in _UNIFORM


def _unscaled(finder: Finder, out: Out) -> Out:
    node = out.node
    if node.op in ("Mul", "RealDiv") and finder.number(node.inputs[1]) == 1.0:
        return node.inputs[0]
    return out
