"""Compute now what depends on nothing: ``torch.arange(4)``, ``torch.ones(3, 3).tril()``, ``math`` on constants.

Requires: functional graph. Ensures: a node whose inputs are all constants is a constant itself; its value is in
``hub.constants``. Nodes that depend on a dynamic size stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_map

from diglot.default_dtype import default_dtype
from diglot.ir.hub import Hub, is_mark, target_name

#: Folding one of these would freeze something random or lose a readable line.
_KEEP = {"aten.arange.default", "aten.arange.start", "aten.arange.start_step"}
_RANDOM = ("rand", "dropout", "bernoulli", "normal", "multinomial", "uniform", "exponential")
_LIMIT = 1 << 22
#: ``x.new_ones(2)`` reads only the dtype of ``x``.
_NEW = {
    "aten.new_ones.default": "ones",
    "aten.new_zeros.default": "zeros",
    "aten.new_full.default": "full",
}


def _is_random(name: str) -> bool:
    return any(word in name.split(".")[1] for word in _RANDOM)


def fold_constants(hub: Hub) -> None:
    """Evaluate constant nodes into ``hub.constants``, in place."""
    known: dict[fx.Node, torch.Tensor] = dict(hub.constants)
    for node in list(hub.graph.nodes):
        if (
            node.op != "call_function"
            or node in known
            or is_mark(node)
            or not isinstance(node.meta.get("val"), torch.Tensor)
        ):
            continue
        name = target_name(node)
        if not name.startswith("aten.") or _is_random(name):
            continue
        if name in _NEW and not any(isinstance(a, fx.Node) for a in node.args[1]):
            _drop_template(node)
        if any(i not in known for i in node.all_input_nodes):
            continue
        if node.meta["val"].numel() > _LIMIT:
            continue
        args = fx.map_arg(node.args, known.__getitem__)
        kwargs = {
            k: v for k, v in fx.map_arg(node.kwargs, known.__getitem__).items() if k != "device"
        }
        if _has_device(args):
            continue
        known[node] = _evaluate(node, args, kwargs)
    _keep_used(hub, known)


def _evaluate(node: fx.Node, args: tuple, kwargs: dict) -> torch.Tensor:
    """Run a node on constants, in float64 where it says float32.

    The program is compared in float64, and 0.1 that went through float32 would stay 0.10000000149. Dropped
    copies leave values that only a reshape can view.
    """
    target = (
        torch.ops.aten.reshape.default if target_name(node) == "aten.view.default" else node.target
    )
    wider = tree_map(_widen, {"args": args, "kwargs": kwargs})
    usual = torch.get_default_dtype()
    with default_dtype(torch.float64 if usual == torch.float32 else usual):
        return target(*wider["args"], **wider["kwargs"])


def _widen(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.double()
    return torch.float64 if value is torch.float32 else value


def _drop_template(node: fx.Node) -> None:
    """``x.new_ones(2)`` -> ``ones(2)``, in place."""
    node.target = getattr(torch.ops.aten, _NEW[target_name(node)]).default
    node.args = node.args[1:]
    node.kwargs = {"dtype": node.meta["val"].dtype}


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, torch.Tensor) else value


def _has_device(args: tuple) -> bool:
    return any(isinstance(a, torch.device) for a in args)


def _keep_used(hub: Hub, known: dict[fx.Node, torch.Tensor]) -> None:
    """Cut folded nodes off from their inputs, keeping those that something not folded reads."""
    for node, value in known.items():
        if node.op == "placeholder" or node in hub.constants:
            hub.constants[node] = value
            continue
        if any(user not in known for user in node.users) and target_name(node) not in _KEEP:
            hub.constants[node] = value
            node.args, node.kwargs = (), {}
            node.target = torch.ops.aten.empty.memory_format
