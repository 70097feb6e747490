"""Which inputs of a graph hold ids (numbers of rows of a table that the graph looks up), or lengths."""

from __future__ import annotations

import dataclasses

import torch

from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.lowering import Lowered

_GATHERS = ("GatherV2", "Gather", "ResourceGather")
#: What gives the ids that it is given, in another shape or dtype.
_SAME = ("Cast", "ExpandDims", "Identity", "Reshape", "Squeeze")
#: Where Keras lets negative ids count from the end: condition, shifted ids, ids.
_SELECTS = ("SelectV2", "Select")


@dataclasses.dataclass
class _Followed:
    source: Node
    is_cast: bool = False


def rows_of_tables(lowered: Lowered) -> dict[Node, int]:
    """For each input that is looked up, the rows of the smallest table. A float input is ids where it is cast first.

    Lengths of sequences are numbers from 0 to their steps, as if they were ids of so many rows and one.
    """
    found: dict[Node, int] = {}
    for node in lowered.graph.order():
        steps = _steps(lowered, node)
        if steps is not None:
            found[node.inputs[1].node.inputs[0].node] = steps + 1
        if node.op not in _GATHERS or node.attrs.get("batch_dims"):
            continue
        shape = lowered.shape(node.inputs[0])
        ids = _followed(node.inputs[1])
        value = lowered.values.get(Out(ids.source))
        if not shape or not isinstance(shape[0], int) or ids.source.op != "Input":
            continue
        if isinstance(value, torch.Tensor) and (ids.is_cast or not value.is_floating_point()):
            found[ids.source] = min(shape[0], found.get(ids.source, shape[0]))
    return found


def _steps(lowered: Lowered, node: Node) -> int | None:
    """The steps of the sequences whose lengths are compared here, ``range(steps) < lengths[:, None]``."""
    if node.op != "Less" or node.inputs[0].node.op != "Range":
        return None
    ends = node.inputs[1].node
    if ends.op != "ExpandDims" or ends.inputs[0].node.op != "Input":
        return None
    (steps,) = lowered.shape(node.inputs[0]) or (None,)
    return steps.node.hint if isinstance(steps, torch.SymInt) else steps


def _followed(ids: Out) -> _Followed:
    followed = _Followed(ids.node)
    while followed.source.op in (*_SAME, *_SELECTS):
        node = followed.source
        followed.is_cast |= node.op == "Cast"
        followed.source = node.inputs[2 if node.op in _SELECTS else 0].node
    return followed


def drawn(rows: int, like: torch.Tensor, seed: int) -> torch.Tensor:
    """Ids of a table of ``rows``, its last among them, in the shape and dtype of ``like``."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.randint(0, rows, like.shape, generator=generator)
    made.view(-1)[-1:] = rows - 1
    return made.to(like.dtype)
