"""What whoever reads or runs a TensorFlow graph must know of its nodes."""

from __future__ import annotations

import numpy as np

#: Ops that call a function of the graph's library.
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
#: Ops that stand for a variable.
VARIABLES = ("VarHandleOp", "VariableV2", "Variable", "VariableOp")


def node_name(text: str) -> str:
    """The node that a reference (``^name``, ``name:1``, ``name:out:0``) leads to."""
    return text.removeprefix("^").split(":")[0]


def quantised_range(low: float, high: float, bits: int, narrow: bool) -> tuple[float, float, float]:
    """One step of numbers that are rounded to some bits, and their range, shifted so that zero is one of the steps."""
    first, last = int(narrow), 2**bits - 1
    # Which step is zero, TensorFlow computes in 32 bits: with (-1, 1) it lies half way between two of them.
    narrow_low, narrow_scale = np.float32(low), np.float32(high - low) / np.float32(last - first)
    zero = int(np.clip(np.floor(np.float32(first) - narrow_low / narrow_scale + 0.5), first, last))
    scale = (high - low) / (last - first)
    return scale, (first - zero) * scale, (last - zero) * scale
