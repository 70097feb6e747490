"""What whoever reads or runs a TensorFlow graph must know of its nodes."""

from __future__ import annotations

#: Ops that call a function of the graph's library.
CALLS = ("PartitionedCall", "StatefulPartitionedCall")
#: Ops that stand for a variable.
VARIABLES = ("VarHandleOp", "VariableV2", "Variable", "VariableOp")


def node_name(text: str) -> str:
    """The node that a reference (``^name``, ``name:1``, ``name:out:0``) leads to."""
    return text.removeprefix("^").split(":")[0]
