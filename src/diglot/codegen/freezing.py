"""How a PyTorch program says that weights are not trained: outermost first, what is inside does not say so again."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E
from diglot.codegen.statements import Member, placed_at, weight_nodes

if TYPE_CHECKING:
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program
    from diglot.ir.hub import Hub


def frozen_modules(hub: Hub) -> frozenset[str]:
    """The paths of modules of which no weight is trained, the outermost of each; "" where nothing is."""
    weights = {p.name: p.trainable for p in hub.parameters.values() if not p.buffer}
    found: list[str] = []
    for region in hub.root.walk():
        path = region.path
        below = [trains for name, trains in weights.items() if _is_below(name, path)]
        known = region.function or any(_is_below(path, each) or path == each for each in found)
        if below and not any(below) and not known:
            found.append(path)
    return frozenset(found)


def _is_below(name: str, path: str) -> bool:
    return not path or name.startswith(f"{path}.")


def frozen_weights(program: Program, member: Member) -> list[str]:
    """Which of a layer's weights do not train, where no module around it says so."""
    found = []
    for name, value in member.weights.items():
        parameters = [program.hub.parameters[n] for n in weight_nodes(value)]
        if any(
            not p.buffer
            and not p.trainable
            and not any(_is_below(p.name, path) for path in program.frozen_modules)
            for p in parameters
        ):
            found.append(name)
    return found


def freezing(program: Program, first: Instance) -> list[ast.expr]:
    """``self.norm.weight.requires_grad_(False)``; for a whole layer ``self.norm.requires_grad_(False)``, for a list of
    them ``self.norms.requires_grad_(False)``, and so for a module of other classes."""
    if first.region is program.hub.root and "" in program.frozen_modules:
        return [E("self.requires_grad_(False)")]
    made = []
    members = first.writer.members
    whole = {key for key, member in members.items() if _is_frozen(program, member)}
    for key, member in members.items():
        name, index = key
        beside = [k for k in members if k[0] == name]
        if len(beside) > 1 and whole.issuperset(beside):
            made += [E(f"self.{name}.requires_grad_(False)")] if key == beside[0] else []
            continue
        place = program.dense(first.region, (name, index))
        base = E(f"self.{name}")
        if place is not None:
            base = placed_at(base, place, ast.Constant)
        if key in whole:
            made.append(E("base.requires_grad_(False)", base=base))
        elif member.kind == "layer":
            frozen = frozen_weights(program, member)
            made += [E(f"base.{weight}.requires_grad_(False)", base=base) for weight in frozen]
    return made


def _is_frozen(program: Program, member: Member) -> bool:
    """Whether a member of a class is to say that nothing of it is trained."""
    if member.child is not None:
        return member.child.path in program.frozen_modules
    frozen = frozen_weights(program, member) if member.kind == "layer" else []
    others = [value for name, value in member.weights.items() if name not in frozen]
    return bool(frozen) and all(program.hub.parameters[weight_nodes(v)[0]].buffer for v in others)
