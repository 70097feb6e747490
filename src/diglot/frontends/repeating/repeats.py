"""Parts of a model that repeat: what a person would have written once, as a class.

The steps of a Functional model stand in an order that keeps branches whole, so a part with one result is a run of
them. Runs are alike when they call the same kinds of layers, wired in the same way, whatever the sizes; a shortcut
(``x + f(x)``), a projection in it and padding may be there or not. The family of runs that saves the most lines is
made into blocks, and the search goes on with the blocks as single steps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from diglot.frontends.repeating.groups import Groups, stage, template
from diglot.frontends.repeating.items import Block, Family, Item, Step, flat

_LONGEST = 64  # steps in a block
_INPUTS = 2  # tensors that a block may take
_CLASS = 5.0  # lines that a class needs beside those of its steps
_LEAST = 1.0  # lines that a class must save
_CHAIN = 3  # layers in the projection of a shortcut


@dataclasses.dataclass
class _Window:
    """A candidate: the items from ``start`` up to ``stop``."""

    start: int
    stop: int
    inputs: list[int]
    output: int
    lines: float
    cut: bool = False  # whether it cuts through something that a person would keep together


class _Windows:
    """All runs of items with one result and few inputs, by what they have in common."""

    def __init__(self, items: list[Item], results: set[int], groups: Groups) -> None:
        self.items = items
        self.groups = groups
        self.last_use: dict[int, int] = {}
        self.uses: dict[int, int] = dict.fromkeys(results, 1)
        for place, item in enumerate(items):
            for tensor in item.inputs:
                self.last_use[tensor] = place
                self.uses[tensor] = self.uses.get(tensor, 0) + 1
        for tensor in results:
            self.last_use[tensor] = len(items)
        self.maker = {t: place for place, item in enumerate(items) for t in item.outputs}
        self.found: dict[Any, list[_Window]] = {}
        self.all: dict[tuple[int, int], _Window] = {}
        for start in range(len(items)):
            self._from(start)

    def _from(self, start: int) -> None:
        made: set[int] = set()
        inputs: list[int] = []
        lines = 0.0
        for stop in range(start + 1, min(start + _LONGEST, len(self.items)) + 1):
            item = self.items[stop - 1]
            if item.shared:
                return
            inputs += [t for t in dict.fromkeys(item.inputs) if t not in made and t not in inputs]
            if len(inputs) > _INPUTS:
                return
            made.update(item.outputs)
            lines += item.lines
            live = [t for t in made if self.last_use.get(t, -1) >= stop]
            if stop == start + 1 or len(live) != 1 or not inputs or _is_padding(item):
                continue
            window = _Window(start, stop, list(inputs), live[0], lines)
            window.cut = self._cuts(window)
            self.all[start, stop] = window
            key = self.signature(window)[0]
            if key is not None:
                self.found.setdefault(key, []).append(window)

    def _cuts(self, window: _Window) -> bool:
        """Tell whether a run ends before an activation or a norm that belongs to its last layer, or begins with one."""
        if self.groups.cut(self.items[window.start : window.stop]):
            return True
        first, entry = self.items[window.start], self.maker.get(window.inputs[0])
        before = self.items[entry] if entry is not None else None
        if (
            before is not None
            and not isinstance(before, Block)
            and self.uses[window.inputs[0]] == 1
        ):
            if _belongs(before, first):
                return True
        after = self.items[window.stop] if window.stop < len(self.items) else None
        last = self.items[window.stop - 1]
        return (
            after is not None
            and after.inputs == [window.output]
            and self.uses[window.output] == 1
            and not isinstance(last, Block)
            and _belongs(last, after)
        )

    def named(self, prefix: str) -> _Window | None:
        """Return the run of all steps whose names begin with a prefix, with what belongs to its end."""
        members = self.groups.members[prefix]
        places = [
            i for i, item in enumerate(self.items) if any(id(s) in members for s in flat(item))
        ]
        found = [self.all.get((places[0], stop)) for stop in range(places[-1] + 1, places[-1] + 4)]
        return next((w for w in found if w is not None and not w.cut), None)

    def kept(self, window: _Window) -> list[Item]:
        """Return the steps of a run that all its like have."""
        _, dropped, _ = self.signature(window)
        return [i for i in self.items[window.start : window.stop] if id(i) not in dropped]

    # --- what windows have in common -----------------------------------------------------------------

    def signature(self, window: _Window) -> tuple[Any, set[int], list[Item]]:
        """Return a run's form without what its like may lack; the steps it is without; those of the projection."""
        items = self.items[window.start : window.stop]
        dropped, same, projection = _optional(items, window.inputs, self.uses)
        refs: dict[int, Any] = {t: ("in", i) for i, t in enumerate(window.inputs)}
        form = []
        for item in items:
            if id(item) in dropped:
                continue
            form.append((item.symbol, tuple(refs.get(_through(t, same), "?") for t in item.inputs)))
            refs.update({t: (len(form), i) for i, t in enumerate(item.outputs)})
        if sum(not _is_turn(i) for i in items if id(i) not in dropped) < 2:
            return None, dropped, projection
        return (tuple(form), refs.get(_through(window.output, same))), dropped, projection


def _through(tensor: int, same: dict[int, int]) -> int:
    while tensor in same:
        tensor = same[tensor]
    return tensor


def _is_padding(item: Item) -> bool:
    return item.kind.startswith("ZeroPadding")


def _is_turn(item: Item) -> bool:
    """Tell whether a step only orders axes, as around layers that have them in another order: it is no line."""
    return item.kind in ("Permute", "Transpose")


def _is_glue(item: Item) -> bool:
    """Tell whether a step stands between blocks rather than at the start of one."""
    return any(part in item.kind for part in ("Pooling", "Dropout", "UpSampling", "Concatenate"))


def _is_norm(item: Item) -> bool:
    return "Normalization" in item.kind


def is_sum(item: Item) -> bool:
    """Tell whether a step adds tensors."""
    return item.kind == "Add" and len(item.inputs) == 2


def _belongs(before: Item, after: Item) -> bool:
    """Tell whether a step stands with the one before it: the norm or activation of a layer."""
    weighty = any(part in before.kind for part in ("Conv", "Dense"))
    if _is_norm(after):
        return weighty and after.kind == "BatchNormalization"
    return after.is_activation and (weighty or _is_norm(before) or is_sum(before))


def _optional(
    items: list[Item], inputs: list[int], uses: dict[int, int]
) -> tuple[set[int], dict[int, int], list[Item]]:
    """Return the steps that blocks of a class may lack, which tensors are the same without them, and a projection.

    Padding; a sum with the block's own input, with the dropout before it; the layers between the input and such a sum.
    """
    maker = {t: item for item in items for t in item.outputs}
    dropped: set[int] = set()
    same: dict[int, int] = {}
    projection: list[Item] = []
    for item in items:
        if _is_padding(item):
            dropped.add(id(item))
            same[item.outputs[0]] = item.inputs[0]
        if not is_sum(item):
            continue
        chains = [_chain(t, inputs[0], maker, uses) for t in item.inputs]
        found = _shortcut(chains)
        if found is None:
            continue
        chain, main = chains[found] or [], item.inputs[1 - found]
        if chain and projection:
            continue
        projection = projection or chain
        dropped |= {id(item), *(id(c) for c in chain)}
        before = maker.get(main)
        if before is not None and "Dropout" in before.kind and uses[main] == 1 and not chain:
            dropped.add(id(before))
            same[main] = before.inputs[0]
        same[item.outputs[0]] = main
    return dropped, same, projection


def _chain(
    tensor: int, entry: int, maker: dict[int, Item], uses: dict[int, int]
) -> list[Item] | None:
    """Return the steps, first first, that lead from a block's input to a tensor; ``None`` where they branch."""
    chain: list[Item] = []
    while tensor != entry:
        item = maker.get(tensor)
        if item is None or len(item.inputs) != 1 or uses[tensor] != 1 or len(chain) >= _CHAIN:
            return None
        if item.is_activation:
            return None
        chain.append(item)
        tensor = item.inputs[0]
    return chain[::-1]


def _shortcut(chains: list[list[Item] | None]) -> int | None:
    """Return which of the two ways to a sum is its shortcut."""
    lengths = [len(c) if c is not None else _LONGEST for c in chains]
    if min(lengths) == _LONGEST or lengths[0] == lengths[1]:
        return None
    return lengths.index(min(lengths))


# --- choosing ----------------------------------------------------------------------------------------------


def repeats(steps: Sequence[Step], results: set[int]) -> tuple[list[Item], list[Family]]:
    """Return the steps with every part that repeats as a block, and the families of blocks.

    ``results`` are the tensors that the model returns. Without a part worth a class, the steps as they were.
    """
    groups = Groups(steps)
    items: list[Item] = list(steps)
    families: list[Family] = []
    while True:
        windows = _Windows(items, results, groups)
        best = max(
            (_choice(found, windows) for found in windows.found.values() if len(found) > 1),
            key=lambda choice: choice[0],
            default=(0.0, []),
        )
        if best[0] < _LEAST:
            return items, families
        family = Family(len(families))
        families.append(family)
        items = _folded(items, _namesakes(best[1], windows), family, windows)
        items = _chained(items, results)


def _choice(found: list[_Window], windows: _Windows) -> tuple[float, list[_Window]]:
    """Return which of some windows that are alike become blocks, and about how many lines that saves."""
    kept: list[_Window] = []
    for window in sorted(found, key=lambda w: (w.cut, w.start, -w.stop)):
        if all(window.stop <= k.start or window.start >= k.stop for k in kept):
            kept.append(window)
    kept.sort(key=lambda w: w.start)
    if len(kept) < 2:
        return 0.0, kept
    uses = 0.0
    for before, window in zip([None, *kept], kept, strict=False):
        joined = before is not None and before.stop == window.start and _links(before, window)
        uses += 0.6 if joined else 1.6
    saved = sum(w.lines for w in kept) - max(w.lines for w in kept) - _CLASS - uses
    saved -= sum(0.5 for w in kept if _is_glue(windows.items[w.start]))
    share = sum(w.cut for w in kept) / len(kept)
    return saved * (1 - share / 2), kept


def _links(before: _Window, after: _Window) -> bool:
    return after.inputs[0] == before.output


def _namesakes(chosen: list[_Window], windows: _Windows) -> list[_Window]:
    """Return the runs that the author named alike, where most are: without others, and with those that lack parts."""
    prefixes = [windows.groups.of(windows.items[w.start : w.stop]) for w in chosen]
    form, count = (
        Counter(template(p) for p in prefixes if p).most_common(1)[0] if any(prefixes) else ("", 0)
    )
    if count < 2 or count * 2 <= len(chosen):
        return chosen
    kept = [w for w, p in zip(chosen, prefixes, strict=True) if p and template(p) == form]
    whole = windows.kept(kept[0])
    for prefix in windows.groups.members:
        found = (
            windows.named(prefix) if template(prefix) == form and prefix not in prefixes else None
        )
        if found is None or any(found.start < k.stop and k.start < found.stop for k in kept):
            continue
        if _missing(whole, windows.kept(found)):
            kept.append(found)
    return sorted(kept, key=lambda w: w.start)


def _missing(whole: list[Item], part: list[Item]) -> list[Item]:
    """Return the one run of layers that some steps are without, of those in ``whole``; nothing if they differ more."""
    ours, theirs = [i.symbol for i in whole], [i.symbol for i in part]
    same = 0
    while same < len(theirs) and ours[same : same + 1] == theirs[same : same + 1]:
        same += 1
    run = whole[same : same + len(ours) - len(theirs)]
    if len(theirs) < 2 or ours[same + len(run) :] != theirs[same:]:
        return []
    return run if any(i.lines > 1 for i in run) else []


def _folded(
    items: list[Item], chosen: list[_Window], family: Family, windows: _Windows
) -> list[Item]:
    """Return the items with some runs of them as blocks of a family."""
    made: list[Item] = []
    place = 0
    forms = [windows.kept(w) for w in chosen]
    whole = max(forms, key=len)
    lacking = next((run for form in forms if (run := _missing(whole, form))), [])
    at = whole.index(lacking[0]) if lacking else 0
    for window, form in zip(chosen, forms, strict=True):
        inside = items[window.start : window.stop]
        _, optional, projection = windows.signature(window)
        if len(projection) > 1:
            inside = _chained_in(inside, projection, optional)
        if lacking and len(form) == len(whole):
            inside = _chained_in(inside, form[at : at + len(lacking)], optional)
        block = Block(family, inside, window.inputs, [window.output])
        block.optional, block.prefix = optional, windows.groups.of(inside)
        family.blocks.append(block)
        made += [*items[place : window.start], block]
        place = window.stop
    return [*made, *items[place:]]


def _chained_in(items: list[Item], part: list[Item], optional: set[int]) -> list[Item]:
    """Return the items with some of them as one chain that others may lack, if they are one after the other."""
    at = items.index(part[0])
    linked = all(b.inputs == a.outputs for a, b in itertools.pairwise(part))
    used = [t for i in items if i not in part for t in i.inputs]
    inner = [t for i in part[:-1] for t in i.outputs]
    if len(part) < 2 or items[at : at + len(part)] != part or not linked or set(inner) & set(used):
        return items
    chain = Block(None, part, part[0].inputs, part[-1].outputs)
    optional.add(id(chain))
    return [*items[:at], chain, *items[at + len(part) :]]


def _chained(items: list[Item], results: set[int]) -> list[Item]:
    """Return the items with blocks of one family that follow each other as a chain."""
    uses: dict[int, int] = dict.fromkeys(results, 1)
    for tensor in (t for item in items for t in item.inputs):
        uses[tensor] = uses.get(tensor, 0) + 1
    runs: list[list[Item]] = []
    for item in items:
        if runs and _continues(runs[-1][-1], item, uses):
            runs[-1].append(item)
        else:
            runs.append([item])
    return [_chain_of(run) if len(run) > 1 else run[0] for run in runs]


def _continues(before: Item, item: Item, uses: dict[int, int]) -> bool:
    """Tell whether a block only goes on with what the one before it gives, in the same stage."""
    if not (isinstance(before, Block) and isinstance(item, Block)):
        return False
    same = before.family is item.family is not None and len(before.inputs) == 1
    linked = item.inputs == before.outputs and uses[before.outputs[0]] == 1
    return same and linked and stage(before.prefix) == stage(item.prefix)


def _chain_of(run: list[Item]) -> Block:
    chain = Block(None, run, run[0].inputs, run[-1].outputs)
    chain.prefix = stage(run[0].prefix) if isinstance(run[0], Block) else ""
    return chain
