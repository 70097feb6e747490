"""Zeros put around an image as TensorFlow's "same" does, before a window -> the window's own ``padding="same"``.

Before (what such a layer is in PyTorch; ``pad_same`` where the sizes are open)::

    y = conv2d(pad(x, [0, 1, 0, 1]), weight, stride=2)
    z = max_pool2d(pad_same(y, [3, 3], [2, 2], -inf), 3, 2)
    a = avg_pool2d(pad_same(z, [3, 3], [2, 2]), 3, 2)
    a = a / avg_pool2d(pad_same(ones_like(z), [3, 3], [2, 2]), 3, 2)

After::

    y = conv2d(x, weight, stride=2, padding="same")
    z = pool_same(y, [3, 3], [2, 2], "max")
    a = pool_same(z, [3, 3], [2, 2], "average")

Requires: nothing else reads the padded image, which is padded where the window is called, and the window pads nothing
itself; sizes that are fixed, or the function that asks for them. Padding that is as wide on either side is left to the
author. Ensures: the same function and gradients. For Keras alone: PyTorch has no such padding for strides.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx

from diglot.frontends import same_padding  # noqa: F401  defines diglot::pad_same and diglot::pool_same
from diglot.ir.hub import Hub, is_call, is_mark, target_name, through_marks
from diglot.ir.windows import is_same

_CONVOLUTION = re.compile(r"aten\.conv(?P<rank>[123])d\.(default|padding)")
_POOL = re.compile(r"aten\.(?P<kind>max|avg)_pool(?P<rank>[12])d\.default")
_PADS = {"aten.constant_pad_nd.default", "aten.pad.default"}
_PAD_SAME = {"diglot.pad_same.default"}
_ONES = {"aten.ones_like.default"}
_VALUES = {"max": -float("inf"), "avg": 0.0}


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        if node.op != "call_function":
            continue
        name = target_name(node)
        if match := _CONVOLUTION.fullmatch(name):
            _convolution(node, int(match["rank"]))
        elif (match := _POOL.fullmatch(name)) and match["kind"] == "max":
            _maximum(node, int(match["rank"]))
        elif name == "aten.div.Tensor":
            _average(node)


def _convolution(node: fx.Node, rank: int) -> None:
    window, stride, dilation = _steps(node, rank)
    own = node.args[4] if len(node.args) > 4 else 0
    nothing = own == "valid" or not any([own] if isinstance(own, int) else list(own))  # type: ignore[arg-type]
    pad = _pad_before(node, window, stride, 0.0)
    # Keras strides or dilates; a depthwise one strides alike along both axes.
    if (
        pad is None
        or not nothing
        or (max(stride) > 1 and (max(dilation) > 1 or len({*stride}) > 1))
    ):
        return
    if len(node.args[1].users) > 1:  # type: ignore[union-attr]
        return  # another call of the layer pads by itself
    _drop(pad)
    arguments = [None, [1] * rank, "same", [1] * rank, 1]
    given = list(node.args) + arguments[len(node.args) - 2 :]
    given[4] = "same"
    node.target = getattr(torch.ops.aten, f"conv{rank}d").padding
    node.args = tuple(given)


def _maximum(node: fx.Node, rank: int) -> None:
    known = _pooling(node, rank)
    pad = _pad_before(node, *known, _VALUES["max"]) if known is not None else None
    if known is None or pad is None:
        return
    _drop(pad)
    _become(node, node.args[0], *known, "max")


def _average(node: fx.Node) -> None:
    """A mean of what is there, and of ones, over each other: what is added does not count."""
    pooled, counts = (through_marks(n) if isinstance(n, fx.Node) else n for n in node.args[:2])
    kinds = [_POOL.fullmatch(target_name(n)) if _is_op(n) else None for n in (pooled, counts)]
    if any(kind is None or kind["kind"] != "avg" for kind in kinds):
        return
    known = _pooling(pooled, int(kinds[0]["rank"]))  # type: ignore[index]
    if known is None or _pooling(counts, len(known[0])) != known:
        return
    pads = [_pad_before(n, *known, 0.0) for n in (pooled, counts)]
    if None in pads or len(pooled.users) > 1 or len(counts.users) > 1:
        return
    x, ones = (pad.args[0] for pad in pads)  # type: ignore[union-attr]
    if not is_call(ones, _ONES) or ones.args[0] is not x:
        return
    _become(node, x, *known, "average")


def _steps(node: fx.Node, rank: int) -> tuple[list[int], list[int], list[int]]:
    """A convolution's windows, strides and dilations along each axis."""
    kernel = node.args[1].meta["val"].shape[2:]  # type: ignore[union-attr]
    stride, dilation = (
        _numbers(node.args[at] if len(node.args) > at else 1, rank) for at in (3, 5)
    )
    window = [d * (int(k) - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    return window, stride, dilation


def _pooling(node: fx.Node, rank: int) -> tuple[list[int], list[int]] | None:
    """A pooling's windows and strides; None where it does anything else of its own."""
    window = _numbers(node.args[1], rank)
    stride = _numbers(node.args[2], rank) if len(node.args) > 2 and node.args[2] else window
    rest = [list(a) if isinstance(a, (list, tuple)) else [a] for a in node.args[3:]]
    plain = [[0], [False], [True], [None]] if "avg" in target_name(node) else [[0], [1], [False]]
    if any({*given} != {*usual} for given, usual in zip(rest, plain, strict=False)):
        return None
    return (window, stride) if not node.kwargs else None


def _pad_before(
    node: fx.Node, window: list[int], stride: list[int], value: float
) -> fx.Node | None:
    """The padding that a window reads, if it is "same" and nothing else reads it."""
    source = node.args[0]
    while is_mark(source) and len(source.users) == 1:  # type: ignore[arg-type, union-attr]
        source = source.args[0]  # type: ignore[union-attr]
    if not _is_op(source) or len(source.users) != 1 or not _called_there(source, node):  # type: ignore[arg-type, union-attr]
        return None
    if is_call(source, _PAD_SAME):
        x, *steps = source.args[:3]  # type: ignore[union-attr]
        filled = source.args[3] if len(source.args) > 3 else 0.0  # type: ignore[union-attr]
        alike = [list(s) for s in steps] == [window, stride] and filled == value  # type: ignore[arg-type]
        return source if alike else None  # type: ignore[return-value]
    if not is_call(source, _PADS) or not _is_constant(source, value):  # type: ignore[arg-type]
        return None
    pads: Any = source.args[1]  # type: ignore[union-attr]
    x: Any = source.args[0]  # type: ignore[union-attr]
    rank = len(window)
    if x.meta["val"].dim() != rank + 2 or not all(type(p) is int for p in pads):
        return None
    pairs = list(zip(pads[::2], pads[1::2], strict=True)) + [(0, 0)] * (rank - len(pads) // 2)
    if len(pairs) != rank or all(before == after for before, after in pairs):
        return None
    sizes = list(x.meta["val"].shape[2:])
    axes = zip(sizes, window, stride, reversed(pairs), strict=True)
    alike = all(is_same(size, w, s, *pair) for size, w, s, pair in axes)
    return source if alike else None  # type: ignore[return-value]


def _is_constant(pad: fx.Node, value: float) -> bool:
    by_name = target_name(pad) == "aten.pad.default"
    mode = (pad.args[2] if len(pad.args) > 2 else "constant") if by_name else "constant"
    at = 3 if by_name else 2
    given = pad.args[at] if len(pad.args) > at else pad.kwargs.get("value", 0)
    return mode == "constant" and (given or 0) == value


def _called_there(pad: fx.Node, window: fx.Node) -> bool:
    """Whether the author's module that pads is the one that calls the window, as a layer of PyTorch's or a function."""
    pads, windows = (list((n.meta.get("nn_module_stack") or {}).values()) for n in (pad, window))
    if windows and windows != pads and str(windows[-1][1]).startswith("torch.nn.modules."):
        windows.pop()
    return windows == pads


def _drop(pad: fx.Node) -> None:
    """Hand on what is padded, unpadded."""
    x: Any = pad.args[0]
    for user in list(pad.users):
        while is_mark(user):
            user.meta["val"] = x.meta["val"]
            user = next(iter(user.users))
    pad.replace_all_uses_with(x)
    pad.graph.erase_node(pad)


def _become(node: fx.Node, x: Any, window: list[int], stride: list[int], kind: str) -> None:
    node.target = torch.ops.diglot.pool_same.default
    node.args = (x, window, stride, kind)
    node.kwargs = {}


def _is_op(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function"


def _numbers(value: Any, rank: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * (rank if len(values) == 1 else 1)
