"""Which items of a region only one mode runs: the bodies of ``if self.training:`` and of its ``else:``.

A choice by mode reads one value in training and another in evaluation. All that nothing but the choice reads, on
either side, is run in that mode alone. Choices that share such items, or that follow each other, are one ``if``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import Any

from torch import fx

from diglot.ir.hub import ASSIGN, Call, is_call, is_mark
from diglot.passes.by_mode import BY_MODE

TRAINING, EVALUATION = 0, 1
_INLINE = 4  # ops of a choice that is written as an expression


@dataclasses.dataclass(eq=False)
class Branch:
    """Some choices by mode, what each mode runs for them, and the assignments that training alone makes."""

    members: list[fx.Node]
    arms: tuple[list[Any], list[Any]]
    kept: dict[
        fx.Node, fx.Node
    ]  # a choice between a new value and the buffer's own -> its assignment


def branched(region: Call, weights: Container[fx.Node] = ()) -> list[Any]:
    """Return a region's items with :class:`Branch` objects in the places of those that one mode runs.

    ``weights`` are those that their layer makes in its first call. That is in evaluation, so it must be called there.
    """
    if not any(_is_choice(item) for item in region.items):
        return region.items
    return _Branches(region.items, weights).items_with_branches()


def _is_choice(item: Any) -> bool:
    return isinstance(item, fx.Node) and is_call(item, {BY_MODE})


class _Branches:
    """Works on the places of items in their list."""

    def __init__(self, items: list[Any], weights: Container[fx.Node] = ()) -> None:
        self.items, self.weights = items, weights
        self.where = {node: i for i, item in enumerate(items) for node in _nodes(item)}
        self.readers = [self._readers(item) for item in items]

    def _readers(self, item: Any) -> list[tuple[int | None, fx.Node, fx.Node]]:
        """Who reads an item's values: the reader's place (None outside the region), its node, the value."""
        own = set(_nodes(item))
        return [(self.where.get(u), u, n) for n in own for u in n.users if u not in own]

    def items_with_branches(self) -> list[Any]:
        """The list, with each branch where its last choice was."""
        places: dict[int, list[Any]] = {}
        gone: set[int] = set()
        for group in self._groups():
            branch, taken = self._branch(group)
            if self._is_written_out(branch):
                later = self._later(group)
                places[max(group)] = [branch, *(self.items[i] for i in sorted(later))]
                gone |= taken | later
        found = []
        for i, item in enumerate(self.items):
            if i not in gone:
                found.append(item)
            found += places.get(i, [])
        return found

    def _groups(self) -> list[set[int]]:
        """Choices that belong together."""
        groups: list[set[int]] = []
        for place in (i for i, item in enumerate(self.items) if _is_choice(item)):
            for group in reversed(groups):
                if self._belong_together(group, place) and self._holds({*group, place}):
                    group.add(place)
                    break
            else:
                groups.append({place})
        return groups

    def _belong_together(self, group: set[int], place: int) -> bool:
        both = self._arms({*group, place})
        apart = [self._arms(group), self._arms({place})]
        shared = any(both[k] != apart[0][k] | apart[1][k] for k in (TRAINING, EVALUATION))
        kept = [bool(self._kept(g)) for g in (group, {place})]
        return shared or all(kept)

    def _holds(self, group: set[int]) -> bool:
        """Tell whether some choices can all be made at the last one's place."""
        inside, later = self._inside(group), self._later(group)
        moved = [self.items[i] for i in later]
        read = {r for i in later for r, _, _ in self.readers[i]}
        return (
            inside.isdisjoint(read)
            and not any(map(_is_choice, moved))
            and self._kept_in_time(group)
        )

    def _kept_in_time(self, group: set[int]) -> bool:
        """Tell whether nothing reads what some choices write to before the last one's place."""
        inside, last = self._inside(group), max(group)
        return not any(
            held in node.all_input_nodes
            for place, assignment in self._kept(group).items()
            for held in [self.items[place].args[EVALUATION]]
            for i in range(assignment + 1, last)
            if i not in inside
            for node in _nodes(self.items[i])
        )

    def _inside(self, group: set[int]) -> set[int]:
        training, evaluation = self._arms(group)
        return {*group, *training, *evaluation, *self._kept(group).values()}

    def _later(self, group: set[int]) -> set[int]:
        """What reads some choices before the last one's place: it comes after it."""
        inside, last = self._inside(group), max(group)
        found: set[int] = set()
        stack = list(group)
        while stack:
            readers = {r for r, _, _ in self.readers[stack.pop()] if r is not None and r < last}
            stack += readers - inside - found
            found |= readers - inside
        return found

    def _kept(self, group: set[int]) -> dict[int, int]:
        """Of the choices between a new value and what a buffer holds anyway: the places of their assignments."""
        found: dict[int, int] = {}
        for place in group:
            for reader, user, _ in self.readers[place]:
                held = self.items[place].args[EVALUATION]
                if reader is not None and is_call(user, {ASSIGN}) and user.args[0] is held:
                    found[place] = reader
        return found

    def _arms(self, group: set[int]) -> tuple[set[int], set[int]]:
        """The places of what only training, and of what only evaluation, runs for some choices."""
        found: tuple[set[int], set[int]] = (set(), set())
        for mode in (TRAINING, EVALUATION):
            for place in reversed(range(len(self.items))):
                readers = self.readers[place]
                alone = readers and all(
                    r in found[mode] or (r in group and self._reads_in(mode, u, n))
                    for r, u, n in readers
                )
                if place not in group and alone and not _keeps(self.items[place]):
                    found[mode].add(place)
        return found

    def _reads_in(self, mode: int, choice: fx.Node, value: fx.Node) -> bool:
        return choice.args[mode] is value and choice.args[1 - mode] is not value

    def _branch(self, group: set[int]) -> tuple[Branch, set[int]]:
        arms, kept = self._arms(group), self._kept(group)
        items = tuple([self.items[i] for i in sorted(arm)] for arm in arms)
        members = [self.items[i] for i in sorted(group)]
        assigned = {self.items[i]: self.items[j] for i, j in kept.items()}
        branch = Branch(members, items, assigned)  # type: ignore[arg-type]
        return branch, {*group, *arms[0], *arms[1], *kept.values()}

    def _is_written_out(self, branch: Branch) -> bool:
        """Tell whether a choice is more than a person would write as ``a if training else b``."""
        if branch.kept:
            return True
        if self._makes_weights(branch):
            return False
        if len(branch.members) > 1:
            return True
        shown = [
            i for arm in branch.arms for i in arm if not (isinstance(i, fx.Node) and is_mark(i))
        ]
        return len(shown) > _INLINE or any(isinstance(i, Call) for i in shown)

    def _makes_weights(self, branch: Branch) -> bool:
        """Tell whether a layer that only training calls makes its weights then: too late for them to be loaded."""
        inside = {node for item in branch.arms[TRAINING] for node in _nodes(item)}
        read = {given for node in inside for given in node.all_input_nodes}
        return any(w in self.weights and inside.issuperset(w.users) for w in read)


def _nodes(item: Any) -> list[fx.Node]:
    return list(item.nodes()) if isinstance(item, Call) else [item]


def _keeps(item: Any) -> bool:
    """Tell whether an item changes what the model holds, in whatever mode."""
    return any(is_call(node, {ASSIGN}) for node in _nodes(item))
