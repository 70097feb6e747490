"""Products with a weight: ``nn.Linear``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.layer import Weight
from diglot.frontends.tensorflow.ops.array import reshaped
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.recognise.finder import Finder

_ADDS = ("BiasAdd", "BiasAddV1", "AddV2", "Add")


def find(finder: Finder) -> None:
    """Make layers of matrix products and einsums with a weight, and of the bias that is added."""
    for node in finder.order:
        if node.op == "MatMul" and not node.attrs.get("transpose_a"):
            _matmul(finder, node, bool(node.attrs.get("transpose_b")))
        elif node.op in ("BatchMatMulV2", "BatchMatMul", "BatchMatMulV3"):
            if not node.attrs.get("adj_x"):
                _matmul(finder, node, bool(node.attrs.get("adj_y")))
        elif node.op == "Einsum" and len(node.inputs) == 2:
            _einsum(finder, node)
    finder.commit()


def _matmul(finder: Finder, node: Node, turned: bool) -> None:
    x, out, view = node.inputs[0], Out(node), node.inputs[1]
    if view.node.op == "Transpose" and finder.ints(view.node.inputs[1]) == [1, 0]:
        turned, view = not turned, view.node.inputs[0]
    weight, shape = finder.weight(view), finder.shape(view)
    if weight is None or len(shape) != 2 or finder.rank(x) < 1:
        return
    held = finder.array_shape(weight)
    if math.prod(held) != math.prod(shape):
        return
    size, units = shape[::-1] if turned else shape
    wide = _tensordot(finder, Out(node), x, size, units)
    if wide is not None:
        x, out = wide
    steps = () if turned else (("permute", (1, 0)),)
    if held != tuple(shape):  # a kernel of a convolution of width 1
        steps += (("reshape", held),)
    out, parts = _parted(finder, out, units)
    _linear(finder, node, x, out, Weight(weight, ("weight",), steps), [size], parts)


def _parted(finder: Finder, out: Out, units: int) -> tuple[Out, list[int]]:
    """The result whose last axis is parted before the bias is added, as Keras's einsum does, and its parts."""
    user = finder.only_user(out)
    adding = finder.only_user(Out(user)) if user is not None and user.op == "Reshape" else None
    if user is None or adding is None or adding.op not in _ADDS:
        return out, [units]
    result, before = Out(user), finder.shape(out)
    after = finder.shape(result)
    parts = after[len(before) - 1 :]
    if not values.same_shape(before[:-1], after[: len(before) - 1]) or len(parts) < 2:
        return out, [units]
    other = adding.inputs[1] if adding.inputs[0] == result else adding.inputs[0]
    sized = all(isinstance(part, int) for part in parts) and math.prod(parts) == units
    return (result, parts) if sized and _bias(finder, other, result, parts) else (out, [units])


def _tensordot(finder: Finder, out: Out, x: Out, size: int, units: int) -> tuple[Out, Out] | None:
    """The input and result around a product (and its bias) whose other axes were flattened for it."""
    user = finder.only_user(out)
    if x.node.op != "Reshape" or user is None or user.op != "Reshape":
        return None
    inner, result = x.node.inputs[0], Out(user)
    before, after = finder.shape(inner), finder.shape(result)
    if len(before) != len(after) or not before:
        return None
    same = values.same_shape(before[:-1], after[:-1])
    fits = values.same_size(before[-1], size) and values.same_size(after[-1], units)
    return (inner, result) if same and fits else None


def _einsum(finder: Finder, node: Node) -> None:
    """An einsum that contracts the last axes of ``x`` with a weight, and puts the weight's free axes last."""
    terms, _, result = node.attrs["equation"].replace(" ", "").partition("->")
    labels = terms.split(",")
    if len(labels) != 2 or ("..." in terms and not _dots(finder, labels, result)):
        return
    for position in (1, 0):
        holder = node.inputs[position].node
        if finder.weight(node.inputs[position]) is not holder:
            continue
        of_x, of_w = labels[1 - position].replace("...", ""), labels[position]
        out = result.replace("...", "")
        contracted = [c for c in of_x if c in of_w]
        free = [c for c in of_w if c not in of_x]
        batch = of_x[: len(of_x) - len(contracted)]
        if not contracted or not free or set(of_w) != {*contracted, *free}:
            continue
        if of_x != batch + "".join(contracted) or len(set(of_w)) != len(of_w):
            continue
        tail = out.removeprefix(batch)
        if not out.startswith(batch) or sorted(tail) != sorted(free):
            continue
        if set(contracted) & set(out):
            continue
        shape = dict(zip(of_w, finder.array_shape(holder), strict=True))
        sizes, units = [shape[c] for c in contracted], [shape[c] for c in tail]
        now = [*tail, *contracted]
        steps: list[tuple] = []
        if len(now) > 2:
            steps.append(("reshape", tuple(shape[c] for c in now)))
        if now != list(of_w):
            steps.append(("permute", tuple(now.index(c) for c in of_w)))
        weight = Weight(holder, ("weight",), tuple(steps))
        _linear(finder, node, node.inputs[1 - position], Out(node), weight, sizes, units)
        return


def _dots(finder: Finder, labels: Sequence[str], result: str) -> bool:
    """Tell whether the dots stand for leading axes of ``x`` only."""
    return sum("..." in label for label in labels) == 1 and result.startswith("...")


def _linear(
    finder: Finder,
    node: Node,
    x: Out,
    out: Out,
    weight: Weight,
    sizes: list[int],
    units: list[int],
) -> None:
    size, count = math.prod(sizes), math.prod(units)
    weights = [weight]
    result = out
    user = finder.only_user(out)
    if user is not None and user.op in _ADDS:
        other = user.inputs[1] if user.inputs[0] == out else user.inputs[0]
        bias = _bias(finder, other, out, units)
        channels_first = user.attrs.get("data_format") == "NCHW" and finder.rank(out) > 2
        if bias is not None and other != out and not channels_first:
            steps = (("reshape", finder.array_shape(bias)),)
            plain = finder.array_shape(bias) == (count,)
            weights.append(Weight(bias, ("bias",), () if plain else steps))
            result = Out(user)
    wide = _tensordot(finder, result, x, size, count) if len(weights) == 2 else None
    read, result = wide or (x, result)
    options = {"in_features": size, "out_features": count, "bias": len(weights) == 2}
    made = finder.layer(
        result, [read], nn.Linear, options, weights, _apply, node, sizes=sizes, units=units
    )
    if made is None and len(weights) == 2:
        options["bias"] = False
        finder.layer(out, [x], nn.Linear, options, [weight], _apply, node, sizes=sizes, units=units)


def _bias(finder: Finder, other: Out, out: Out, units: list[int]) -> Node | None:
    """The weight that is added, where it is one number for each output."""
    node = finder.weight(other)
    if node is None or math.prod(finder.array_shape(node)) != math.prod(units):
        return None
    shape = finder.shape(other)
    lead = len(shape) - len(units)
    if lead < 0 or shape[lead:] != units or any(s != 1 for s in shape[:lead]):
        return None
    return node if len(shape) <= finder.rank(out) else None


def _apply(call: Call, module: nn.Module, x: Any) -> Any:
    x = call.tensor(x)
    sizes, units = call.attrs["sizes"], call.attrs["units"]
    if len(sizes) > 1:
        x = x.flatten(x.dim() - len(sizes))
    y = module(x)
    return reshaped(y, [*y.shape[:-1], *units]) if len(units) > 1 else y
