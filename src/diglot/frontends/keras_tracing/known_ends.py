"""What stands at the ends of modules: put into them where it does so in every module of a class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from keras import Layer

from diglot.frontends.keras_tracing.graph import Step
from diglot.frontends.keras_tracing.known_steps import below, is_in

if TYPE_CHECKING:
    from diglot.frontends.keras_tracing.known_tree import Part, Tree

SEQUENTIAL = "Sequential"
_NEAR = 12  # steps before a module among which what belongs to it is looked for


class Ends:
    """Grows the calls of a tree, in place."""

    def __init__(self, tree: Tree, classes: Mapping[str, str]) -> None:
        self.tree = tree
        self.flow = tree.flow
        self.classes = classes

    def run(self) -> None:
        """Go on, the innermost modules first, until nothing is left that belongs to them."""
        groups: dict[tuple[str, ...], list[Part]] = {}
        for part in self.tree.inside:
            if part[0]:
                groups.setdefault(self._group(part), []).append(part)
        ordered = sorted(groups.values(), key=lambda g: -max(path.count(".") for path, _ in g))
        for group in ordered:
            if self.classes[group[0][0]] == SEQUENTIAL:
                for part in group:
                    self._fill(part)
        self._grow(ordered)
        for group in ordered:
            if len(group) > 1 and self.classes[group[0][0]] != SEQUENTIAL:
                self._begin(group)
        self._grow(ordered)

    def _grow(self, groups: list[list[Part]]) -> None:
        while any(self._grown(group) for group in groups):
            pass

    def _group(self, part: Part) -> tuple[str, ...]:
        """Calls that are alike: of one class; of sequences, which have none, in the same place of one."""
        cls = self.classes[part[0]]
        if cls != SEQUENTIAL:
            return (cls,)
        around = self.tree.around(part)[0]
        place = [p for p in below(part[0], around).split(".") if not p.isdigit()]
        return (cls, self.classes[around], *place)

    def _is_free(self, place: int, part: Part) -> bool:
        """Whether a step is known to be in no module but those around a call."""
        around = self.tree.part[place][0]
        return self.tree.homes.found[place] is None and is_in(part[0], around) and around != part[0]

    # --- before a module ---------------------------------------------------------------------------------

    def _begin(self, group: list[Part]) -> None:
        """Put what is computed for nobody but modules of a class into them, as far as they take no more for it."""
        before = [self._before(part) for part in group]
        symbols = ([self.flow.steps[i].symbol for i in places] for places in before)
        rows = zip(*symbols, strict=False)
        alike = len(list(itertools.takewhile(lambda row: len(set(row)) == 1, rows)))

        def taken(count: int) -> int:
            each = zip(group, before, strict=True)
            members = [self.tree.inside[part] | set(found[:count]) for part, found in each]
            return max(len(self.flow.inputs(m)) for m in members)

        fewest = min(taken(count) for count in range(alike + 1))
        count = max(count for count in range(alike + 1) if taken(count) == fewest)
        for part, found in zip(group, before, strict=True):
            for place in found[:count]:
                self.tree.put(place, part)

    def _fill(self, part: Part) -> None:
        """Put what comes before the first known item of a sequence into it, as many as its number says."""
        names = [
            below(home.region if home.region != part[0] else f"{part[0]}.{home.name}", part[0])
            for i in self.tree.inside[part]
            if (home := self.tree.homes.found[i]) is not None and is_in(home.region, part[0])
        ]
        places = [int(first) for name in names if (first := name.partition(".")[0]).isdigit()]
        for _ in range(min(places, default=0)):
            found = self._before(part)[:1]
            if not found or not self._fits(self.flow.steps[found[0]], part, alone=True):
                return
            self.tree.put(found[0], part)

    def _before(self, part: Part) -> list[int]:
        """Return the steps that only a module reads, each after its readers."""
        inside = set(self.tree.inside[part])
        found: list[int] = []
        for i in reversed(range(max(inside, default=0))):
            step = self.flow.steps[i]
            if i in inside or not self._is_free(i, part) or not step.inputs:
                continue
            readers = [j for t in step.outputs for j in self.flow.readers.get(t, ())]
            if readers and inside.issuperset(readers) and not self.flow.results & {*step.outputs}:
                inside.add(i)
                found.append(i)
        return found

    # --- after it ----------------------------------------------------------------------------------------

    def _grown(self, group: list[Part]) -> bool:
        found = [next(self._next(part, len(group) == 1), None) for part in group]
        added = [places for places in found if places is not None]
        if len(added) < len(found):
            return False
        if len({tuple(self.flow.steps[i].symbol for i in places) for places in added}) > 1:
            return False
        for part, places in zip(group, added, strict=True):
            for place in places:
                self.tree.put(place, part)
        return True

    def _next(self, part: Part, alone: bool) -> Iterator[list[int]]:
        """Yield what can be computed in a module after it, so that it takes and gives no more than before."""
        inside = self.tree.inside[part]
        inputs, outputs = self.flow.inputs(inside), self.flow.outputs(inside)
        after = {i for t in outputs for i in self.flow.readers.get(t, ())} - inside
        for i in sorted(after):
            step = self.flow.steps[i]
            if not self._is_free(i, part) or not self._fits(step, part, alone):
                continue
            for start in self._starts(i, part, alone):
                members = self.flow.between({*inside, i, *start})
                added = sorted(members - inside)
                if not all(self._is_free(j, part) for j in added):
                    continue
                taken, given = self.flow.inputs(members), self.flow.outputs(members)
                if not {*inputs} & {*step.inputs} or self._repeats(part):
                    if len(taken) <= len(inputs) and len(given) <= len(outputs):
                        yield added

    def _starts(self, place: int, part: Part, alone: bool) -> Iterator[tuple[int, ...]]:
        """Yield what may belong to a module beside a step after it: nothing; a step before both, as a split is."""
        yield ()
        if alone or self.classes[part[0]] == SEQUENTIAL:
            return
        above = self.flow.above[place]
        near = [i for i in reversed(range(place)) if above >> i & 1 and self._is_free(i, part)]
        for i in near[:_NEAR]:
            yield (i,)

    def _fits(self, step: Step, part: Part, alone: bool) -> bool:
        """Whether a module may end in a step: a sequence in what is a layer, a lone module in an activation."""
        if self.classes[part[0]] == SEQUENTIAL:
            plain = isinstance(step.operation, Layer) and not step.operation.weights
            return len(step.inputs) == 1 and (plain or step.is_activation)
        return not alone or step.is_activation

    def _repeats(self, part: Part) -> bool:
        """Whether modules of one class follow each other: what is added to their inputs is added in them."""
        around = self.tree.around(part)
        beside = {
            self.classes[p[0]] for p in self.tree.inside if p[0] and self.tree.around(p) == around
        }
        return self.classes.get(around[0]) == SEQUENTIAL or beside == {self.classes[part[0]]}
