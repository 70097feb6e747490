"""What whoever reads or runs a TensorFlow graph must know of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Ops that call a function of the graph's library.
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
#: Ops that stand for a variable.
VARIABLES = ("VarHandleOp", "VariableV2", "Variable", "VariableOp")


def node_name(text: str) -> str:
    """The node that a reference (``^name``, ``name:1``, ``name:out:0``) leads to."""
    return text.removeprefix("^").split(":")[0]


def needed(definition: Any, wanted: Sequence[str]) -> list[Any]:
    """The nodes that a session runs for ``wanted``, control inputs included."""
    by_name = {node.name: node for node in definition.node}
    found: dict[str, Any] = {}
    pending = [node_name(name) for name in wanted]
    while pending:
        name = pending.pop()
        if name not in found and name in by_name:
            found[name] = by_name[name]
            pending += [node_name(text) for text in by_name[name].input]
    return list(found.values())


def with_values(definition: Any, values: Mapping[str, Any]) -> Any:
    """A ``GraphDef`` in which nodes are constants of the values given by name; itself where none are.

    Raises ValueError or TypeError for a value that the node's dtype does not hold.
    """
    if not values:
        return definition
    import tensorflow as tf

    made = type(definition)()
    made.CopyFrom(definition)
    for node in made.node:
        if node.name in values:
            dtype = next(node.attr[k].type for k in ("dtype", "T", "DstT") if k in node.attr)
            value = tf.make_tensor_proto(values[node.name], dtype=dtype)
            node.ClearField("input")
            node.ClearField("attr")
            node.op = "Const"
            node.attr["dtype"].type = dtype
            node.attr["value"].tensor.CopyFrom(value)
    return made


def quantised_range(low: float, high: float, bits: int, narrow: bool) -> tuple[float, float, float]:
    """One step of numbers that are rounded to some bits, and their range, shifted so that zero is one of the steps."""
    first, last = int(narrow), 2**bits - 1
    # Which step is zero, TensorFlow computes in 32 bits: with (-1, 1) it lies half way between two of them.
    narrow_low, narrow_scale = np.float32(low), np.float32(high - low) / np.float32(last - first)
    zero = int(np.clip(np.floor(np.float32(first) - narrow_low / narrow_scale + 0.5), first, last))
    scale = (high - low) / (last - first)
    return scale, (first - zero) * scale, (last - zero) * scale
