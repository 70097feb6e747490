"""How a PyTorch program says that weights of a layer are not trained."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.codegen.statements import Member, placed_at, weight_nodes

if TYPE_CHECKING:
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program


def frozen_weights(program: Program, member: Member) -> list[str]:
    """Which of a layer's weights do not train."""
    found = []
    for name, value in member.weights.items():
        parameters = [program.hub.parameters[n] for n in weight_nodes(value)]
        if any(not p.buffer and not p.trainable for p in parameters):
            found.append(name)
    return found


def freezing(program: Program, first: Instance) -> list[ast.expr]:
    """``self.norm.weight.requires_grad_(False)``; for a whole layer ``self.norm.requires_grad_(False)``."""
    made = []
    for name, index in first.writer.members:
        member = first.writer.members[(name, index)]
        frozen = frozen_weights(program, member) if member.kind == "layer" else []
        place = program.dense(first.region, (name, index))
        base = E(f"self.{name}")
        if place is not None:
            base = placed_at(base, place, ast.Constant)
        trained = [
            n
            for n, value in member.weights.items()
            if n not in frozen and not program.hub.parameters[weight_nodes(value)[0]].buffer
        ]
        if frozen and not trained:
            made.append(E("base.requires_grad_(False)", base=base))
        else:
            made += [E(f"base.{weight}.requires_grad_(False)", base=base) for weight in frozen]
    return made
