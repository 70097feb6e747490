"""A Functional model that came from PyTorch as the tree of modules that it was there.

Its layers know their modules' paths, and the weight map the classes of the modules around them. Whatever lies on a way
between two layers of one call of a module was computed in it. What stands at its ends (a sum, an activation) belongs
to it where it does so in all modules of its class.
"""

from __future__ import annotations

import heapq
import inspect

from keras.src.models.functional import Functional
from torch import nn

from diglot.frontends.keras_tracing.blocks import Plan, parameters_of
from diglot.frontends.keras_tracing.classes import made_class
from diglot.frontends.keras_tracing.graph import Step, steps_of
from diglot.frontends.keras_tracing.known_ends import SEQUENTIAL, Ends
from diglot.frontends.keras_tracing.known_steps import Flow, Homes, below, is_in
from diglot.frontends.keras_tracing.original_names import Names
from diglot.frontends.repeating.items import Block, Family, Item

#: One call of a module: its path, and which call it is.
Part = tuple[str, int]
ROOT: Part = ("", 0)


def known_plan(model: Functional, names: Names | None) -> Plan | None:
    """Return how a model is written with the classes that it had in PyTorch; None where these are not known."""
    if names is None or not names.classes:
        return None
    flow = Flow(steps_of(model), {id(t) for t in model.outputs})
    homes = Homes(flow.steps, names)
    regions = {r for home in homes.found if home is not None for r in homes.around(home.region)}
    while True:
        tree = Tree(flow, homes, regions)
        torn = tree.torn()
        if not torn:
            Ends(tree, names.classes).run()
            torn = tree.unlike()
        if not torn:
            return _Planned(model, tree, names.classes).run()
        regions -= torn


class Tree:
    """Which step is in which call of which module, for the modules ``regions``."""

    def __init__(self, flow: Flow, homes: Homes, regions: set[str]) -> None:
        self.flow = flow
        self.homes = homes
        self.conflicts: set[str] = set()
        self.inside: dict[Part, set[int]] = {ROOT: set(range(len(flow.steps)))}
        for region in sorted(regions, key=lambda r: (len(r), r)):
            calls = self._calls(region)
            if calls is None:
                self.conflicts.add(region)
            else:
                self.inside.update({(region, n): found for n, found in enumerate(calls)})
        self.part: list[Part] = [self._innermost(i) for i in range(len(flow.steps))]

    def _calls(self, region: str) -> list[set[int]] | None:
        """Return the steps of each call of a module; None where steps of another are among them."""
        own = [i for i, h in enumerate(self.homes.found) if h and is_in(h.region, region)]
        calls: dict[int, list[int]] = {}
        for i in own:
            calls.setdefault(id(self.flow.steps[i].operation), []).append(i)
        count = len(next(iter(calls.values())))
        ways = [[own], [[places[0] for places in calls.values()]]]
        if count > 1 and all(len(places) == count for places in calls.values()):
            ways.insert(0, [list(places) for places in zip(*calls.values(), strict=True)])
        for way in ways:
            found = [self._call(places, set(own)) for places in way]
            whole = [each for each in found if each is not None]
            if len(whole) == len(way) and len(set().union(*whole)) == sum(map(len, whole)):
                return whole
        return None

    def _call(self, places: list[int], own: set[int]) -> set[int] | None:
        """Return the steps of one call, of which some are known."""
        read = [j for i in places for j in self.flow.uses(i)]
        found = self.flow.between(read) | set(places)
        others = found - set(places)
        known = [i for i in others if self.homes.found[i] is not None]
        return None if known and (len(places) < len(own) or not own.issuperset(known)) else found

    def _innermost(self, place: int) -> Part:
        holders = [part for part, found in self.inside.items() if place in found]
        innermost = max(holders, key=lambda part: len(part[0]))
        if any(not is_in(innermost[0], other) for other, _ in holders):
            self.conflicts |= {path for path, _ in holders if path}
        return innermost

    def torn(self) -> set[str]:
        """Return the modules whose calls were not made one after the other."""
        if self.conflicts:
            return self.conflicts
        for part in self.inside:
            cycle = ordered(self.flow, self.items(part))[1]
            found = {item[0] for item in cycle if isinstance(item, tuple)}
            if found:
                return found
        return set()

    def unlike(self) -> set[str]:
        """Return the modules whose calls differ in how much they take or give."""
        counts: dict[str, set[tuple[int, int]]] = {}
        for (path, _), found in self.inside.items():
            sizes = len(self.flow.inputs(found)), len(self.flow.outputs(found))
            counts.setdefault(path, set()).add(sizes)
        return {path for path, sizes in counts.items() if path and len(sizes) > 1}

    def around(self, part: Part) -> Part:
        """The call that another is made in."""
        own = self.inside[part]
        holders = [
            p
            for p, found in self.inside.items()
            if p[0] != part[0] and is_in(part[0], p[0]) and own <= found
        ]
        return max(holders, key=lambda p: len(p[0]), default=ROOT)

    def items(self, part: Part) -> dict[int | Part, set[int]]:
        """Return what is right in a call: steps by place, and calls, each with its steps."""
        found: dict[int | Part, set[int]] = {
            i: {i} for i in self.inside[part] if self.part[i] == part
        }
        for inner in self.inside:
            if inner != ROOT and self.around(inner) == part:
                found[inner] = self.inside[inner]
        return found

    def put(self, place: int, part: Part) -> None:
        """Put a step into a call, and into those around it."""
        self.part[place] = part
        while part != ROOT:
            around = self.around(part)
            self.inside[part].add(place)
            part = around


def ordered(
    flow: Flow, items: dict[int | Part, set[int]]
) -> tuple[list[int | Part], list[int | Part]]:
    """Return items, each after those that it reads from, in the steps' order where it is free; those in a cycle."""
    holder = {i: key for key, steps in items.items() for i in steps}
    needs = {
        key: {holder[j] for i in steps for j in flow.before[i] if j in holder} - {key}
        for key, steps in items.items()
    }
    readers: dict[int | Part, list[int | Part]] = {}
    for key, sources in needs.items():
        for source in sources:
            readers.setdefault(source, []).append(key)
    ready = [(min(items[key]), str(key), key) for key, sources in needs.items() if not sources]
    heapq.heapify(ready)
    found: list[int | Part] = []
    while ready:
        key = heapq.heappop(ready)[2]
        found.append(key)
        for reader in readers.get(key, ()):
            needs[reader].discard(key)
            if not needs[reader]:
                heapq.heappush(ready, (min(items[reader]), str(reader), reader))
    return found, [key for key in items if key not in set(found)]


class _Planned:
    """The plan of a tree: its calls as blocks."""

    def __init__(self, model: Functional, tree: Tree, classes: dict[str, str]) -> None:
        self.model = model
        self.tree = tree
        self.flow = tree.flow
        self.classes = classes
        self.names: dict[int, str] = {}
        self.families: dict[tuple[str, int, int], Family] = {}
        tensors = [*model.inputs, *(t for s in self.flow.steps for t in s.node.outputs)]
        self.dtypes = {id(t): str(t.dtype) for t in tensors}

    def run(self) -> Plan:
        """Return the plan."""
        steps = self._items(ROOT)
        made: dict[Family, type[nn.Module]] = {}
        for (name, _, _), family in self.families.items():
            given = self._parameters(family.blocks[0])
            made[family] = made_class(name, Functional, nn.Module, given)
        chains = made_class(SEQUENTIAL, Functional, nn.Sequential, parameters_of(["input"]))
        whole = self.classes.get("") == SEQUENTIAL
        return Plan(self.model, steps, self.names, made, chains, known=True, is_sequence=whole)

    def _items(self, part: Part) -> list[Item]:
        found: list[Item] = []
        for key in ordered(self.flow, self.tree.items(part))[0]:
            if isinstance(key, tuple):
                item: Item = self._block(key)
                self.names[id(item)] = below(key[0], part[0])
            else:
                item = self.flow.steps[key]
                self._name(key, item, part[0])
            found.append(item)
        return found

    def _name(self, place: int, step: Step, region: str) -> None:
        home = self.tree.homes.found[place]
        if home is None or not is_in(home.region, region):
            return
        own = home.name or step.name
        held = below(home.region, region) if home.region != region else ""
        self.names[id(step)] = f"{held}.{own}" if held else own

    def _block(self, part: Part) -> Block:
        inside = self.tree.inside[part]
        inputs, outputs = self.flow.inputs(inside), self.flow.outputs(inside)
        inputs.sort(key=lambda tensor: "float" not in self.dtypes[tensor])  # ids and masks last
        name = self.classes[part[0]]
        family = None
        if name != SEQUENTIAL or len(inputs) != 1 or len(outputs) != 1:
            key = (name, len(inputs), len(outputs))
            family = self.families.setdefault(key, Family(len(self.families)))
        block = Block(family, self._items(part), inputs, outputs)
        if family is not None:
            family.blocks.append(block)
        return block

    def _parameters(self, block: Block) -> tuple[inspect.Parameter, ...]:
        """What a block's tensors are called: by what they are, and in their order."""
        taken: list[str] = []
        for tensor in block.inputs:
            said = _called(self.dtypes[tensor], first=not taken)
            same = sum(n.rpartition("_")[0] == said or n == said for n in taken)
            taken.append(f"{said}_{same + 1}" if same else said)
        return parameters_of(taken)


def _called(dtype: str, first: bool) -> str:
    if "float" not in dtype:
        return "mask" if dtype == "bool" else "ids"
    return "x" if first else "context"


__all__ = ["ROOT", "Part", "Tree", "known_plan"]
