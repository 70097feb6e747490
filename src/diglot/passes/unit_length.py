"""A division by a length that is kept from zero -> ``F.normalize``.

Before (what ``F.normalize`` is captured as, and ``keras.ops.normalize``)::

    x / clamp_min(linalg_vector_norm(x, 2.0, [dim], True), eps)
    x * clamp(rsqrt(sum(square(x), [dim], True)), max=1 / eps)

After::

    normalize(x, 2.0, [dim], eps)

Requires: the length is read there alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from diglot.ir.hub import Hub, is_call
from diglot.literals import intended

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("normalize(Tensor input, float p, int[] dim, float eps) -> Tensor")
_LIBRARY.impl("normalize", torch.nn.functional.normalize, "CompositeImplicitAutograd")


def recognise(hub: Hub) -> None:
    """Rewrite in place."""
    for node in list(hub.graph.nodes):
        found = _divided(node) if is_call(node, {"aten.div.Tensor"}) and not node.kwargs else None
        if is_call(node, {"aten.mul.Tensor"}):
            found = _multiplied(node)
        if found is None:
            continue
        with hub.graph.inserting_before(node):
            made = hub.graph.call_function(torch.ops.diglot.normalize.default, found)
            made.meta = dict(node.meta)
        node.replace_all_uses_with(made)


def _divided(node: fx.Node) -> tuple[Any, ...] | None:
    """The arguments of ``normalize``."""
    x, bounded = node.args
    if is_call(bounded, {"aten.expand.default", "aten.expand_as.default"}) and _once(bounded):
        bounded = bounded.args[0]  # type: ignore[union-attr]
    if not is_call(bounded, {"aten.clamp_min.default"}) or not _once(bounded):
        return None
    length, eps = bounded.args  # type: ignore[union-attr]
    if not is_call(length, {"aten.linalg_vector_norm.default"}) or not _once(length):
        return None
    held, p, dims, keepdim, *others = [*length.args, *(2.0, None, False)[len(length.args) - 1 :]]
    if held is not x or not keepdim or others or length.kwargs or not isinstance(dims, list):
        return None
    if not dims or not isinstance(eps, (int, float)) or not isinstance(p, (int, float)):
        return None
    return x, float(p), dims, float(eps)


def _multiplied(node: fx.Node) -> tuple[Any, ...] | None:
    bounded: Any
    for x, bounded in (node.args, node.args[::-1]):
        if not is_call(bounded, {"aten.clamp.default"}) or not _once(bounded):
            continue
        root, *bounds = bounded.args
        if len(bounds) != 2 or bounds[0] is not None or not isinstance(bounds[1], (int, float)):
            continue
        if not is_call(root, {"aten.rsqrt.default"}) or not _once(root):
            continue
        total: Any = root.args[0]
        if not is_call(total, {"aten.sum.dim_IntList"}) or not _once(total) or total.kwargs:
            continue
        square, dims, *keepdim = total.args
        if not is_call(square, {"aten.square.default"}) or square.args[0] is not x:
            continue
        if _once(square) and keepdim == [True] and dims:
            return x, 2.0, list(dims), intended(np.float32(1 / bounds[1]))
    return None


def _once(node: Any) -> bool:
    return len(node.users) == 1
