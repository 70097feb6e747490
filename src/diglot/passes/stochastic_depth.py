"""Stochastic depth (timm's ``DropPath``, transformers' and torchvision's own) -> dropout of whole rows.

Before::

    keep = x.new_empty(n, 1, 1).bernoulli_(0.9).div_(0.9);  y = x * keep
    keep = (0.9 + torch.rand(n, 1, 1)).floor_();            y = x.div(0.9) * keep
    keep = torch.floor((0.9 + torch.rand(n, 1, 1)).float());  y = x.div(0.9) * keep   # of Keras
    keep = (torch.rand(n, 1, 1) > 0.1).to(x.dtype);         y = x / 0.9 * keep
    keep = F.dropout(torch.ones(n, 1, 1), 0.1, training);   y = x * keep

After::

    y = row_dropout(x, 0.1, True)              # or as the dropout of ones was told

Requires: nothing (in-place ops may still be there). Ensures: the same distribution; Keras's ``Dropout`` with a
``noise_shape`` draws it.
"""

from __future__ import annotations

import math

import torch
from torch import fx

from diglot.ir.hub import Hub, target_name
from diglot.ir.sizes import shape_of

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("row_dropout(Tensor input, float p, bool train) -> Tensor")


def _reference(input: torch.Tensor, p: float, train: bool) -> torch.Tensor:
    if not train or p == 0:
        return input.clone()
    keep = input.new_empty((input.shape[0], *[1] * (input.dim() - 1))).bernoulli_(1 - p)
    return input * (keep / (1 - p))


_LIBRARY.impl("row_dropout", _reference, "CompositeImplicitAutograd")

_DRAWS = {"aten.bernoulli_.float", "aten.bernoulli.p"}
_DIVIDES = {"aten.div_.Tensor", "aten.div.Tensor"}
_ONES = {"aten.ones.default", "aten.new_ones.default"}
_CASTS = {"aten.to.dtype", "aten.to.device", "aten._to_copy.default"}
_FLOORS = {"aten.floor_.default", "aten.floor.default"}


def recognise(hub: Hub) -> None:
    """Rewrite a hub in place."""
    rewrite(hub.graph)


def rewrite(graph: fx.Graph) -> None:
    """Rewrite a graph in place."""
    for node in list(graph.nodes):
        if node.op != "call_function" or target_name(node) != "aten.mul.Tensor":
            continue
        left, right = node.args
        for value, noise in ((left, right), (right, left)):
            if not isinstance(value, fx.Node) or not isinstance(noise, fx.Node):
                continue
            found = next(filter(None, (match(value, noise) for match in _FORMS)), None)
            if found is not None and _one_per_row(noise, found[0]):
                _replace(graph, node, *found)
                break


#: What is dropped, with which probability, and whether the op trains.
Found = tuple[fx.Node, float, bool]


def _drawn(value: fx.Node, noise: fx.Node) -> Found | None:
    """Match ``value * (bernoulli(keep) / keep)``."""
    if not _calls(noise, _DIVIDES):
        return None
    draw, divisor = noise.args[:2]
    if not _calls(draw, _DRAWS) or len(draw.args) < 2:
        return None
    keep = draw.args[1]
    return (value, _rest(keep), True) if _same_number(keep, divisor) else None


def _floored(value: fx.Node, noise: fx.Node) -> Found | None:
    """Match ``(value / keep) * floor(rand + keep)``."""
    if not _calls(noise, _FLOORS) or not _calls(value, _DIVIDES):
        return None
    total = _uncast(noise.args[0])
    if not _calls(total, {"aten.add.Tensor", "aten.add_.Tensor"}):
        return None
    drawn, keep = total.args[:2]
    if not _calls(drawn, {"aten.rand.default", "aten.rand_like.default"}):
        return None
    same = _same_number(keep, value.args[1])
    return (value.args[0], _rest(keep), True) if same else None


def _compared(value: fx.Node, noise: fx.Node) -> Found | None:
    """Match ``(value / keep) * (rand > 1 - keep)``."""
    noise = _uncast(noise)
    if not _calls(noise, {"aten.gt.Scalar", "aten.ge.Scalar"}) or not _calls(value, _DIVIDES):
        return None
    drawn, rate = noise.args
    if not _calls(drawn, {"aten.rand.default"}) or not isinstance(rate, (int, float)):
        return None
    return (value.args[0], rate, True) if _same_number(1 - rate, value.args[1]) else None


def _dropped(value: fx.Node, noise: fx.Node) -> Found | None:
    """Match ``value * dropout(ones)``."""
    if not _calls(noise, {"aten.dropout.default"}):
        return None
    ones, rate, train = noise.args
    known = isinstance(rate, float) and 0 < rate < 1
    return (value, rate, train) if known and _calls(ones, _ONES) else None


_FORMS = (_drawn, _floored, _compared, _dropped)


def _rest(keep: float) -> float:
    return float(f"{1 - keep:.12g}")  # 1 - 0.9 is 0.09999999999999998


def _calls(node: object, names: set[str]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_function" and target_name(node) in names


def _uncast(node: fx.Node) -> fx.Node:
    """What a node is a cast of, if it is one."""
    while _calls(node, _CASTS):
        node = node.args[0]  # type: ignore[assignment]
    return node


def _same_number(a: object, b: object) -> bool:
    if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return False
    return 0 < a <= 1 and math.isclose(a, b, rel_tol=1e-12)  # the first blocks keep all


def _one_per_row(noise: fx.Node, value: fx.Node) -> bool:
    """Tell whether the noise has one number for each row of the value."""
    ours, theirs = shape_of(noise.meta["val"]), shape_of(value.meta["val"])
    return len(ours) == len(theirs) > 1 and ours[0] == theirs[0] and set(ours[1:]) == {1}


def _replace(graph: fx.Graph, node: fx.Node, value: fx.Node, rate: float, train: bool) -> None:
    with graph.inserting_before(node):
        made = graph.call_function(torch.ops.diglot.row_dropout.default, (value, rate, train))
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    dead = [node]
    while dead:
        current = dead.pop()
        if not current.users and current.op == "call_function":
            dead.extend(current.all_input_nodes)
            graph.erase_node(current)
