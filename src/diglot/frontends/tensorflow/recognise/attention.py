"""Scaled dot-product attention, which TensorFlow writes out: two products with a softmax between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.recognise.finder import Finder

_PRODUCTS = ("BatchMatMulV2", "BatchMatMul", "BatchMatMulV3")
#: Keras's products, where heads lie before the features (batch, length, heads, features), letters in order: which of
#: the two comes first is the query, and the product with the values.
_QUERY_FIRST, _KEY_FIRST = "abcd,aecd->acbe", "abcd,aecd->aceb"
_WITH_VALUES = "abcd,adbe->acbe"
_HUGE = 1e30


@dataclass
class _Scores:
    """``query`` by ``key``, times ``scale``, plus ``mask``; if ``chosen``, a huge negative number is in place of the
    scores for which ``mask`` is false."""

    query: Out
    key: Out
    scale: float
    mask: Out | None = None
    chosen: bool = False
    causal: bool = False


def find(finder: Finder) -> None:
    """Make one op of each softmax of a product that is multiplied with values."""
    for node in finder.order:
        if node.op in ("SelectV2", "Select"):
            _condition(finder, node)
        by_keras = _equation(node) == _WITH_VALUES
        plain = node.op in _PRODUCTS and not node.attrs["adj_x"] and not node.attrs["adj_y"]
        if by_keras or plain:
            _attention(finder, node, by_keras)
    finder.commit()


def _condition(finder: Finder, node: Node) -> None:
    """Leave out the part of a mask that is true throughout, where the choice has the same sizes without it."""
    mask = node.inputs[0].node
    if mask.op != "LogicalAnd" or finder.only_user(Out(mask)) is None:
        return
    for whole, rest in (mask.inputs, mask.inputs[::-1]):
        filled = finder.lowered.constant(whole.node.inputs[1]) if whole.node.op == "Fill" else None
        sized = any(
            values.same_shape(finder.shape(choice), finder.shape(Out(node)))
            for choice in node.inputs[1:]
        )
        if filled is not None and bool(filled.all()) and sized:
            finder.changes[Out(mask)] = rest
            return


def _attention(finder: Finder, node: Node, by_keras: bool) -> None:
    weights, value = node.inputs
    if weights.node.op != "Softmax" or finder.only_user(weights) is None:
        return
    scores = _scores(finder, weights.node.inputs[0], by_keras)
    if scores is None:
        return
    parts = [scores.query, scores.key, value]
    shapes = [finder.shape(out) for out in parts]
    lead = [s[:1] if by_keras else s[:-2] for s in shapes]
    if any(len(s) != len(shapes[0]) or len(s) < 3 for s in shapes):
        return
    if not all(values.same_shape(one, lead[0]) for one in lead):
        return
    given = [*parts, *([scores.mask] if scores.mask is not None else [])]
    attrs = {"scale": scores.scale, "chosen": scores.chosen, "causal": scores.causal}
    finder.op(Out(node), "diglot.Attention", given, turned=by_keras, **attrs)


def _scores(finder: Finder, out: Out, by_keras: bool) -> _Scores | None:
    """What the softmax is of; ``None`` where it is no product."""
    found = _product(finder, out, by_keras) or _chosen(finder, out, by_keras)
    if found is not None or out.node.op not in ("AddV2", "Add") or finder.only_user(out) is None:
        return found
    for product, mask in (out.node.inputs, out.node.inputs[::-1]):
        found = _product(finder, product, by_keras)
        if found is not None and finder.only_user(product) is not None:
            fits = values.same_shape(finder.shape(out), finder.shape(product))
            found.mask = mask
            return found if fits and finder.rank(mask) else None
    return None


def _chosen(finder: Finder, out: Out, by_keras: bool) -> _Scores | None:
    """The scores of ``where(mask, scores, -huge)``."""
    if out.node.op not in ("SelectV2", "Select") or finder.only_user(out) is None:
        return None
    mask, kept, filled = out.node.inputs
    fill = finder.number(filled)
    if (
        fill is None
        or fill > -_HUGE
        or not values.same_shape(finder.shape(out), finder.shape(kept))
    ):
        return None
    found = _product(finder, kept, by_keras)
    if found is not None:
        mask = finder.changes.get(mask, mask)
        found.causal = _is_causal(finder, mask)
        found.mask, found.chosen = (None, False) if found.causal else (mask, True)
    return found


def _is_causal(finder: Finder, mask: Out) -> bool:
    """Tell whether a mask lets each of as many queries as keys look at all keys up to its own."""
    sizes = finder.shape(mask)
    if len(sizes) < 2 or not values.same_size(sizes[-1], sizes[-2]):
        return False
    array = finder.lowered.constant(mask)
    if array is not None:
        return bool((array == np.tril(np.ones(array.shape[-2:], bool))).all())
    while mask.node.op in ("StridedSlice", "ExpandDims", "Reshape") and values.same_shape(
        finder.shape(mask.node.inputs[0])[-2:], sizes[-2:]
    ):
        mask = mask.node.inputs[0]
    if mask.node.op != "MatrixBandPart" or mask.node.inputs[0].node.op != "Fill":
        return False
    whole, *band = mask.node.inputs
    filled = finder.lowered.constant(whole.node.inputs[1])
    return filled is not None and bool(filled.all()) and [finder.number(n) for n in band] == [-1, 0]


def _product(finder: Finder, out: Out, by_keras: bool) -> _Scores | None:
    out, scale = _unscaled(finder, out)
    node = out.node
    if by_keras:
        if _equation(node) not in (_QUERY_FIRST, _KEY_FIRST):
            return None
        query, key = node.inputs if _equation(node) == _QUERY_FIRST else node.inputs[::-1]
    else:
        if node.op not in _PRODUCTS or node.attrs["adj_x"]:
            return None
        query, key = node.inputs
        if not node.attrs["adj_y"]:
            rank = finder.rank(key)
            last = [*range(rank - 2), rank - 1, rank - 2]
            if key.node.op != "Transpose" or finder.ints(key.node.inputs[1]) != last:
                return None
            key = key.node.inputs[0]
    if finder.only_reader(out) is None:
        return None
    (query, more), (key, rest) = _unscaled(finder, query), _unscaled(finder, key)
    return _Scores(query, key, scale * more * rest)


def _equation(node: Node) -> str:
    """An einsum's equation with its letters in order; of any other op nothing."""
    if node.op != "Einsum":
        return ""
    text = node.attrs["equation"].replace(" ", "")
    letters = list(dict.fromkeys(c for c in text if c.isalpha()))
    return "".join(chr(97 + letters.index(c)) if c.isalpha() else c for c in text)


def _unscaled(finder: Finder, out: Out) -> tuple[Out, float]:
    """An output without the number that it is multiplied with or divided by, and that number."""
    node = out.node
    if node.op not in ("Mul", "RealDiv") or finder.only_reader(out) is None:
        return out, 1.0
    left, right = node.inputs
    number = finder.number(right)
    if number is not None:
        return left, number if node.op == "Mul" else 1.0 / number
    number = finder.number(left) if node.op == "Mul" else None
    return (out, 1.0) if number is None else (right, number)
