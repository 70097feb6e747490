"""Batch norm, layer norm and instance norm, fused or written out.

Written out, all are ``x·r·γ - m·r·γ + β`` with ``r = rsqrt(v + ε)``, in whatever order; mean and variance are
weights in a batch norm, and come from ``x`` itself in the others: along its last axes, or along those of an image.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import nn

from diglot.frontends.tensorflow import geometry, values
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.layer import Weight
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.recognise.finder import Finder, Terms
from diglot.literals import intended

_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_THROUGH = ("Mul", "AddV2", "Add", "Sub", "Neg", "RealDiv", "Reshape", "Squeeze", "BiasAdd")
#: TensorFlow's own default of 0.99, as torch counts it; an inference graph does not say.
_MOMENTUM = 0.01


def find(finder: Finder) -> None:
    """Make layers of fused batch norms, and of the sums of products that are a batch or layer norm."""
    for node in finder.order:
        if node.op.startswith("FusedBatchNorm"):
            _fused(finder, node)
    for node in finder.order:
        if finder.root(node) is not None:
            _written_out(finder, node)
    finder.commit()


def _fused(finder: Finder, node: Node) -> None:
    x, scale, offset, mean, variance = node.inputs
    training = bool(node.attrs.get("is_training", True))
    held = [
        finder.weight(o) for o in ((scale, offset) if training else (scale, offset, mean, variance))
    ]
    if any(h is None for h in held) or any(finder.users.get(Out(node, i)) for i in range(1, 6)):
        return
    names = ("weight", "bias", "running_mean", "running_var")
    weights = [Weight(h, (n,)) for h, n in zip(held, names, strict=False) if h is not None]
    epsilon = intended(np.float32(node.attrs.get("epsilon", 1e-4)))
    rank = finder.rank(x)
    first = geometry.channels_first(node.attrs)
    options = {
        "num_features": finder.array_shape(weights[0].node)[0],
        "eps": epsilon,
        "momentum": _MOMENTUM,
        "track_running_stats": not training,
    }
    finder.layer(
        Out(node),
        [x],
        _BATCH[rank],
        options,
        weights,
        _batch_norm,
        node,
        axis=1 if first else rank - 1,
    )


def _batch_norm(call: Call, module: nn.Module, x: Any) -> Any:
    x = call.tensor(x)
    axis = call.attrs["axis"]
    if axis == 1 or x.dim() == 2:
        return module(x)
    order = [0, axis, *(i for i in range(1, x.dim()) if i != axis)]
    back = [order.index(i) for i in range(x.dim())]
    return module(x.permute(order)).permute(back)


def _written_out(finder: Finder, root: Node) -> None:
    """A norm around ``root`` (the square root of the variance), where its readers amount to one."""
    added = root.inputs[0].node
    if added.op not in ("AddV2", "Add"):
        return
    epsilon = next((e for i in added.inputs if (e := finder.number(i)) is not None), None)
    variance = next((i for i in added.inputs if finder.number(i) is None), None)
    if epsilon is None or variance is None:
        return
    inverse = finder.atom(Out(root))
    for result in _readers(finder, Out(root)):
        if finder.weight(variance) is not None:
            done = _batch(finder, root, result, inverse, finder.weight(variance), epsilon)
        else:
            done = _layer(finder, root, result, inverse, variance, epsilon)
        if done:
            return


def _readers(finder: Finder, out: Out) -> list[Out]:
    """What reads an output through arithmetic, the last first."""
    found: dict[Out, None] = {}
    level = [out]
    for _ in range(7):
        level = [
            Out(user)
            for o in level
            for user in finder.users.get(o, [])
            if user.op in _THROUGH and Out(user) not in found
        ]
        found.update(dict.fromkeys(level))
    return list(reversed(found))


def _batch(
    finder: Finder, root: Node, result: Out, inverse: int, variance: Node | None, epsilon: float
) -> bool:
    assert variance is not None
    if result.node.op not in ("AddV2", "Add", "Sub", "BiasAdd"):
        return False
    found = _inputs_of(finder, result, root)
    for x in found:
        terms = finder.expand(result, frozenset([x, Out(root)]))
        parts = _affine(finder, terms, finder.atom(x), inverse)
        if parts is None or "mean" not in parts:
            continue
        mean = finder.weight(finder.atoms[parts["mean"]])
        rank, axis = finder.rank(x), _axis_of(finder, x, root)
        if mean is None or axis is None or rank not in _BATCH:
            continue
        weights = []
        for name, key in (("weight", "scale"), ("bias", "offset")):
            if key in parts:
                weights.append(_vector(finder, parts[key], name))
        weights += [_plain(finder, mean, "running_mean"), _plain(finder, variance, "running_var")]
        if any(w is None for w in weights):
            return False
        # Torch has a scale and an offset or neither: the one that the source lacks stays at 1 or 0.
        affine = len(weights) > 2
        options = {
            "num_features": math.prod(finder.array_shape(variance)),
            "eps": epsilon,
            "momentum": _MOMENTUM,
            "affine": affine,
        }
        made = finder.layer(
            result, [x], _BATCH[rank], options, [w for w in weights if w], _batch_norm, root, axis=axis
        )  # fmt: skip
        return made is not None
    return False


def _inputs_of(finder: Finder, result: Out, root: Node) -> list[Out]:
    """What is multiplied by the inverse deviation and is no weight: the norm's input."""
    found: dict[Out, None] = {}
    stack = [(result, 0)]
    while stack:
        out, depth = stack.pop()
        node = out.node
        if node.op not in _THROUGH or depth > 6:
            continue
        for one in node.inputs:
            full = values.same_shape(finder.shape(one), finder.shape(result))
            if finder.weight(one) is None and full and one.node is not root:
                found.setdefault(one, None)
            stack.append((one, depth + 1))
    return list(found)


def _affine(finder: Finder, terms: Terms, x: int, inverse: int) -> dict[str, int] | None:
    """The mean, scale and offset of ``x·r·γ - m·r·γ + β``; ``γ`` or ``β`` may be missing."""
    top = next(
        (k for k, v in terms.items() if x in k and inverse in k and math.isclose(v, 1.0)), None
    )
    if top is None or len(terms) > 3:
        return None
    rest = list(top)
    rest.remove(x)
    rest.remove(inverse)
    if len(rest) > 1:
        return None
    parts: dict[str, int] = {"scale": rest[0]} if rest else {}
    for key, value in terms.items():
        if key == top:
            continue
        factors = list(key)
        if inverse in factors:
            factors.remove(inverse)
            if rest and rest[0] in factors:
                factors.remove(rest[0])
            elif rest:
                return None
            if len(factors) != 1 or not math.isclose(value, -1.0):
                return None
            parts["mean"] = factors[0]
        elif len(factors) == 1 and math.isclose(value, 1.0):
            parts["offset"] = factors[0]
        else:
            return None
    return parts


def _axis_of(finder: Finder, x: Out, root: Node) -> int | None:
    """The axis of ``x`` that the statistics run along."""
    shape, rank = finder.shape(Out(root)), finder.rank(x)
    full = [1] * (rank - len(shape)) + list(shape)
    axes = [i for i, s in enumerate(full) if s != 1]
    if len(full) != rank:
        return None
    if not axes:  # one channel: the last axis, where every size is 1
        return rank - 1 if values.same_size(finder.shape(x)[-1], 1) else None
    return axes[0] if len(axes) == 1 and axes[0] > 0 else None


def _plain(finder: Finder, node: Node, name: str) -> Weight:
    shape = finder.array_shape(node)
    return Weight(node, (name,), () if len(shape) == 1 else (("reshape", shape),))


def _vector(finder: Finder, atom: int, name: str) -> Weight | None:
    node = finder.weight(finder.atoms[atom])
    return _plain(finder, node, name) if node is not None else None


def _layer(
    finder: Finder, root: Node, result: Out, inverse: int, variance: Out, epsilon: float
) -> bool:
    moments = _moments(finder, variance)
    if moments is None:
        return False
    x, mean, axes = moments
    rank = finder.rank(x)
    terms = finder.expand(result, frozenset([x, mean, Out(root)]))
    parts = _affine(finder, terms, finder.atom(x), inverse)
    if parts is None or parts.get("mean") != finder.atom(mean):
        return False
    for axis in (rank - 1, 1):
        image = rank in _INSTANCE and axes == [i for i in range(1, rank) if i != axis]
        if not image or axes == [rank - 1]:  # the last axis alone: a layer norm
            continue
        if _instance(finder, root, result, x, axis, parts, epsilon):
            return True
    if axes != list(range(rank - len(axes), rank)):
        return False
    sizes = finder.shape(x)[-len(axes) :]
    if not all(isinstance(s, int) for s in sizes) or (
        finder.lowered.shape(result) is None or len(finder.shape(result)) != rank
    ):
        return False
    weights = []
    for name, key in (("weight", "scale"), ("bias", "offset")):
        if key in parts:
            node = finder.weight(finder.atoms[parts[key]])
            if node is None or math.prod(finder.array_shape(node)) != math.prod(sizes):
                return False
            shape = finder.array_shape(node)
            steps = () if list(shape) == sizes else (("reshape", shape),)
            weights.append(Weight(node, (name,), steps))
    options = {
        "normalized_shape": tuple(sizes),
        "eps": epsilon,
        "elementwise_affine": bool(weights),
        "bias": "offset" in parts,
    }
    return finder.layer(result, [x], nn.LayerNorm, options, weights, _call, root) is not None


def _instance(
    finder: Finder,
    root: Node,
    result: Out,
    x: Out,
    axis: int,
    parts: dict[str, int],
    epsilon: float,
) -> bool:
    """Statistics of each image by itself, for each channel."""
    like = finder.shape(x)
    size = like[axis]
    if not isinstance(size, int) or not values.same_shape(finder.shape(result), like):
        return False
    weights = []
    for name, key in (("weight", "scale"), ("bias", "offset")):
        if key in parts:
            node = finder.vector(finder.atoms[parts[key]], like, axis)
            if node is None:
                return False
            weights.append(_plain(finder, node, name))
    options = {"num_features": size, "eps": epsilon, "affine": bool(weights)}
    kind = _INSTANCE[len(like)]
    made = finder.layer(result, [x], kind, options, weights, _batch_norm, root, axis=axis)
    return made is not None


def _moments(finder: Finder, variance: Out) -> tuple[Out, Out, list[int]] | None:
    """``x``, its mean and the axes, where ``variance`` is the mean squared difference from that mean."""
    node = variance.node
    if node.op != "Mean" or not node.attrs.get("keep_dims"):
        return None
    squared = node.inputs[0].node
    if squared.op == "SquaredDifference":
        x, mean = squared.inputs
    elif squared.op == "Square" and squared.inputs[0].node.op == "Sub":
        x, mean = squared.inputs[0].node.inputs
    else:
        return None
    if mean.node.op == "StopGradient":
        mean = mean.node.inputs[0]
    if mean.node.op != "Mean" or mean.node.inputs[0] != x or not mean.node.attrs.get("keep_dims"):
        return None
    along = [finder.ints(o) for o in (node.inputs[1], mean.node.inputs[1])]
    if along[0] is None or along[1] is None:
        return None
    rank = finder.rank(x)
    axes = [sorted(a % rank for a in some) for some in along]  # type: ignore[union-attr]
    return (x, mean, axes[0]) if axes[0] == axes[1] else None


def _call(call: Call, module: nn.Module, x: Any) -> Any:
    return module(call.tensor(x))
