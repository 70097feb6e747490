"""Convolutions with a weight: ``nn.Conv1d/2d/3d`` and ``nn.ConvTranspose2d/3d``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.frontends.tensorflow import geometry, values
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.layer import Weight
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.recognise.finder import Finder

_KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_ADDS = ("BiasAdd", "BiasAddV1", "AddV2", "Add")
#: A padding that is larger is not looked for where it depends on a dynamic size.
_MOST_PADDING = 512
_TRANSPOSED: dict[str, tuple[int, type[nn.Module]]] = {
    "Conv2DBackpropInput": (2, nn.ConvTranspose2d),
    "Conv3DBackpropInputV2": (3, nn.ConvTranspose3d),
}
_OPS = {"Conv2D": 2, "Conv3D": 3, "DepthwiseConv2dNative": 2}


def find(finder: Finder) -> None:
    """Make layers of convolutions with a weight, and of the bias that is added."""
    for node in finder.order:
        if node.op in _OPS:
            _convolution(finder, node, _OPS[node.op])
        elif node.op in _TRANSPOSED:
            _transposed(finder, node, *_TRANSPOSED[node.op])
    finder.commit()


def _convolution(finder: Finder, node: Node, dims: int) -> None:
    x, out = node.inputs[0], Out(node)
    weight = finder.weight(node.inputs[1])
    shape = [int(s) for s in finder.shape(node.inputs[1])]
    if weight is None or len(shape) != dims + 2:
        return
    strides, dilations = geometry.conv_steps(node.attrs, dims)
    line = _one_axis(finder, node, weight) if dims == 2 else None
    if line is not None:
        x, out = line
        dims, shape, strides, dilations = 1, shape[1:], strides[1:], dilations[1:]
    held = finder.array_shape(weight)
    of_row = line is not None and len(held) == 4  # a constant, whose new axis is computed
    attrs = _format(node, dims)
    spread = _dilated(finder, node, x, out)
    if spread is not None:
        x, out, dilations, attrs["explicit_paddings"] = spread
        attrs["padding"] = "EXPLICIT"
    if len(held) != dims + 2 + of_row:
        return
    channels = finder.shape(x)[1 if geometry.channels_first(node.attrs) else -1]
    if not isinstance(channels, int):
        return
    kernel = shape[:dims]
    if node.op == "DepthwiseConv2dNative":
        groups, count = shape[dims], shape[dims] * shape[dims + 1]
        split = (*shape[dims:], *kernel)
        steps: tuple = (("reshape", split), ("permute", (*range(2, dims + 2), 0, 1)))
    else:
        groups, count = channels // shape[dims], shape[dims + 1]
        steps = (("permute", (*range(2, dims + 2), 1, 0)),)
    steps += (("reshape", tuple(held)),) if of_row else ()
    sizes = list(geometry.inward(_meta(finder, x), node.attrs).shape[2:])
    windows = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pairs = geometry.paddings(attrs, sizes, windows, strides)
    own = geometry.symmetric(pairs)
    options = {
        "in_channels": channels,
        "out_channels": count,
        "kernel_size": tuple(kernel),
        "stride": tuple(strides),
        "padding": tuple(own) if own is not None else (0,) * dims,
        "dilation": tuple(dilations),
        "groups": groups,
    }
    attrs["pads"] = own is None
    attrs["windows"], attrs["steps"] = windows, strides
    parts = [Weight(weight, ("weight",), steps)]
    _with_bias(finder, node, x, out, _KINDS[dims], options, parts, _convolve, attrs)


def _meta(finder: Finder, out: Out) -> torch.Tensor:
    value = finder.lowered.values[out]
    assert isinstance(value, torch.Tensor)
    return value


def _format(node: Node, dims: int) -> dict[str, Any]:
    first = geometry.channels_first(node.attrs)
    explicit = list(node.attrs.get("explicit_paddings") or [])
    if dims == 1 and explicit:
        explicit = explicit[:4] + explicit[6:] if first else explicit[:2] + explicit[4:]
    return {
        "data_format": "NCHW" if first else "NHWC",
        "padding": node.attrs["padding"],
        "explicit_paddings": explicit,
    }


def _one_axis(finder: Finder, node: Node, weight: Node) -> tuple[Out, Out] | None:
    """Input and result of a convolution along one axis, which TensorFlow writes as one of an image of height 1."""
    expanded, user = node.inputs[0].node, finder.only_user(Out(node))
    shape = finder.array_shape(weight)
    is_line = len(shape) == 3 or (len(shape) == 4 and shape[0] == 1)
    if not is_line or user is None or user.op not in ("Squeeze", "Reshape"):
        return None
    if expanded.op not in ("ExpandDims", "Reshape") or finder.rank(expanded.inputs[0]) != 3:
        return None
    if finder.rank(Out(user)) != 3 or finder.shape(Out(expanded))[_height(node)] != 1:
        return None
    return expanded.inputs[0], Out(user)


def _dilated(
    finder: Finder, node: Node, x: Out, out: Out
) -> tuple[Out, Out, list[int], list[int]] | None:
    """Input, result, dilations and paddings of a dilated convolution, which TensorFlow writes as one of blocks."""
    before, after = x.node, finder.only_user(out)
    if before.op != "SpaceToBatchND" or after is None or after.op != "BatchToSpaceND":
        return None
    if geometry.channels_first(node.attrs) or node.attrs["padding"] != "VALID":
        return None
    held = [finder.lowered.values[o] for o in (*before.inputs[1:], *after.inputs[1:])]
    if not all(values.is_host(value) for value in held):
        return None
    block, pads, again, crops = (values.ints(value) for value in held)
    if block != again or len(block) != finder.rank(x) - 2:
        return None
    explicit = [0, 0]
    for pad, crop in zip(pads, crops, strict=True):
        most = pad if isinstance(pad, int) else _MOST_PADDING
        plain = next((n for n in range(most + 1) if values.same_size(pad, crop + n)), None)
        if plain is None:
            return None
        explicit.append(plain)
    return before.inputs[0], Out(after), block, [*explicit, 0, 0]


def _height(node: Node) -> int:
    return 2 if geometry.channels_first(node.attrs) else 1


def _with_bias(
    finder: Finder,
    node: Node,
    x: Out,
    out: Out,
    kind: type[nn.Module],
    options: dict[str, Any],
    parts: list[Weight],
    function: Any,
    attrs: dict[str, Any],
    data: list[Out] | None = None,
) -> None:
    user = finder.only_user(out)
    weights, result = list(parts), out
    axis = 1 if geometry.channels_first(node.attrs) else -1
    if user is not None and user.op in _ADDS:
        other = user.inputs[1] if user.inputs[0] == out else user.inputs[0]
        bias = finder.vector(other, finder.shape(out), axis)
        if user.op.startswith("BiasAdd") and finder.weight(other) is not None:
            bias = finder.weight(other)
        if bias is not None:
            shape = finder.array_shape(bias)
            steps = () if len(shape) == 1 else (("reshape", shape),)
            weights.append(Weight(bias, ("bias",), steps))
            result = Out(user)
    inputs = data or [x]
    made = finder.layer(
        result, inputs, kind, {**options, "bias": len(weights) > len(parts)}, weights, function, node, **attrs
    )  # fmt: skip
    if made is None and len(weights) > len(parts):
        finder.layer(out, inputs, kind, {**options, "bias": False}, parts, function, node, **attrs)


def _convolve(call: Call, module: nn.Module, x: Any) -> Any:
    attrs = call.attrs
    image = geometry.inward(call.tensor(x), attrs)
    if attrs["pads"]:
        image = geometry.padded(image, attrs, attrs["windows"], attrs["steps"])
    return geometry.outward(module(image), attrs)


def _transposed(finder: Finder, node: Node, dims: int, cls: type[nn.Module]) -> None:
    x = node.inputs[2]
    weight = finder.weight(node.inputs[1])
    if weight is None or len(finder.array_shape(weight)) != dims + 2:
        return
    *kernel, count, channels = finder.array_shape(weight)
    strides, dilations = geometry.conv_steps(node.attrs, dims)
    image = geometry.inward(_meta(finder, x), node.attrs)
    target = geometry.inward(_meta(finder, Out(node)), node.attrs).shape[2:]
    padding, extra, cut = [], [], []
    for k, s, d, n, size in zip(kernel, strides, dilations, image.shape[2:], target, strict=True):
        window = d * (k - 1) + 1
        full = (n - 1) * s + window
        before = 0
        if node.attrs["padding"] == "SAME":
            before = max(window - s, 0) // 2 if values.same_size(size, n * s) else -1
        missing = size - (full - 2 * before)
        if before < 0 or node.attrs["padding"] == "EXPLICIT":
            return
        short = next((e for e in range(s) if values.same_size(missing, e)), None)
        if short is None and not values.same_size(missing, -1):
            return
        padding.append(before)
        extra.append(short or 0)
        cut.append(short is None)
    options = {
        "in_channels": channels,
        "out_channels": count,
        "kernel_size": tuple(kernel),
        "stride": tuple(strides),
        "padding": tuple(padding),
        "output_padding": tuple(extra),
        "dilation": tuple(dilations),
    }
    attrs = _format(node, dims)
    parts = [Weight(weight, ("weight",), (("permute", (*range(2, dims + 2), 1, 0)),))]
    attrs["cut"] = cut
    _with_bias(finder, node, x, Out(node), cls, options, parts, _convolve_back, attrs)


def _convolve_back(call: Call, module: nn.Module, x: Any) -> Any:
    done = module(geometry.inward(call.tensor(x), call.attrs))
    for axis, cut in enumerate(call.attrs["cut"], start=2):
        if cut:  # an odd padding: one more is left out after than before
            done = geometry.cut(done, axis, 0, done.shape[axis] - 1)
    return geometry.outward(done, call.attrs)
