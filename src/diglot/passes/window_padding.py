"""Zeros put around an image before a convolution -> the convolution's own padding.

Before (what Keras's ``ZeroPadding2D`` and a "valid" convolution are)::

    x = pad(x, [0, 0, 1, 1, 1, 1]);  x = permute(x, [0, 3, 1, 2]);  y = conv2d(x, weight, stride=2)

After::

    x = permute(x, [0, 3, 1, 2]);  y = conv2d(x, weight, stride=2, padding=1)

Requires: as much on either side, nothing else reads the padded image, and the layer pads nothing itself. The same for
minus infinity before a maximum pooling, or for zeros where nothing is below zero. For PyTorch alone: Keras's layers
have no such argument.
"""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from diglot.ir.hub import Hub, is_call, target_name
from diglot.ir.signs import is_never_negative
from diglot.passes.layout.perms import permuted_dims

_WINDOW = re.compile(r"aten\.(?P<kind>conv|max_pool)(?P<rank>[123])d(_with_indices)?\.default")
_PADS = {"aten.constant_pad_nd.default", "aten.pad.default"}
_PERMUTES = {"aten.permute.default", "aten.transpose.int"}
#: The place of ``padding`` among the arguments, and what stands before it where it is left out.
_PLACES: dict[str, tuple[int, tuple[Any, ...]]] = {"conv": (4, (None, 1)), "max_pool": (3, ([],))}


def absorb(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        match = _WINDOW.fullmatch(target_name(node)) if node.op == "call_function" else None
        if match is not None:
            _absorb(node, match["kind"], int(match["rank"]))


def _absorb(node: fx.Node, kind: str, rank: int) -> None:
    source = node.args[0]
    turned = source if is_call(source, _PERMUTES) else None
    pad = turned.args[0] if turned is not None else source
    if not is_call(pad, _PADS) or len(pad.users) != 1 or len(source.users) != 1:
        return
    widths = _widths(pad, kind)
    if widths is None or node.args[0].meta["val"].dim() != rank + 2:
        return
    if turned is not None:
        widths = [widths[d] for d in permuted_dims(turned, rank + 2)]
    place, before = _PLACES[kind]
    args = list(node.args)
    args += before[len(args) - (place - len(before)) :] if len(args) < place else ()
    own = args[place] if place < len(args) else 0
    kernel = args[1] if kind == "max_pool" else None
    around = [low for low, _ in widths]
    if (
        any(low != high for low, high in widths)
        or any(around[:2])
        or _numbers(own, rank) != [0] * rank
    ):
        return
    if kernel is not None and any(
        2 * p > k for p, k in zip(around[2:], _numbers(kernel, rank), strict=True)
    ):
        return
    args[place : place + 1] = [around[2:]]
    if kind == "max_pool" and args[2] == []:
        args[2] = _numbers(kernel, rank)
    if turned is not None:
        turned.replace_input_with(pad, pad.args[0])
        turned.meta["val"] = pad.args[0].meta["val"].permute(permuted_dims(turned, rank + 2))
    else:
        args[0] = pad.args[0]
    node.args = tuple(args)
    if not pad.users:
        pad.graph.erase_node(pad)


def _numbers(value: Any, rank: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * (rank if len(values) == 1 else 1)


def _widths(pad: fx.Node, kind: str) -> list[tuple[int, int]] | None:
    """What is put before and behind each axis, where it is what the window's own padding would put there."""
    pads: Any = pad.args[1]
    by_name = target_name(pad) == "aten.pad.default"
    mode = (pad.args[2] if len(pad.args) > 2 else "constant") if by_name else "constant"
    at = 3 if by_name else 2
    value = pad.args[at] if len(pad.args) > at else pad.kwargs.get("value", 0)
    wanted = {0} if kind == "conv" else {-float("inf")}
    if kind == "max_pool" and is_never_negative(pad.args[0]):
        wanted.add(0)
    if mode != "constant" or (value or 0) not in wanted or not all(type(p) is int for p in pads):
        return None
    rank = pad.meta["val"].dim()
    widths = [(0, 0)] * rank
    for i in range(len(pads) // 2):
        widths[rank - 1 - i] = (pads[2 * i], pads[2 * i + 1])
    return widths
