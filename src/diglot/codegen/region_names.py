"""What the author called the values of a region, and where names may be used again."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import author, names
from diglot.codegen.expr import names_in
from diglot.codegen.statements import assignment
from diglot.ir.hub import Call, Frame, is_mark, target_name

if TYPE_CHECKING:
    from diglot.codegen.region import RegionWriter

#: A packed sequence is a padded batch and this mask: the author's name is the whole's.
_STEP_MASK = "diglot.step_mask.default"
#: The first of the two results of ``pad_packed_sequence``; the second are the lengths that it was given.
_TRIM_STEPS = "diglot.trim_steps.default"

_NUMBER = re.compile(r"\d+")


def _period(signatures: list[Any]) -> int:
    """Return the length of the shortest block that a list is repetitions of."""
    count = len(signatures)
    return next(
        p
        for p in range(1, count + 1)
        if count % p == 0 and all(signatures[i] == signatures[i - p] for i in range(p, count))
    )


class NameWriter:
    """Mixed into :class:`RegionWriter`."""

    def _frames_of_call(self: RegionWriter, region: Call) -> tuple[Frame, ...]:
        ports = region.inputs or region.outputs
        return self.program.frames(ports[0].node) if ports else ()

    def _root_prefix(self: RegionWriter) -> int:
        ports = self.call.inputs or self.call.outputs
        return len(self.program.frames(ports[0].node)) if ports else 0

    def frames(self: RegionWriter, item: fx.Node | Call) -> tuple[Frame, ...]:
        """Return the frames of an item from this region's own ``forward`` inwards."""
        found = self._frames_of_call(item) if isinstance(item, Call) else self.program.frames(item)
        return found[self._prefix :]

    def where(self: RegionWriter, node: fx.Node) -> str:
        """Return ``file:line`` of a node."""
        found = self.program.frames(node)
        return f"{found[-1].file}:{found[-1].line}" if found else "?"

    def _author_names(
        self: RegionWriter, item: fx.Node | Call
    ) -> tuple[list[str | None] | None, Frame | None]:
        """Return the names the author assigned this item's value to, when the item ends that statement."""
        if item in self._places:
            name, frame = self._places[item]
            return [name], frame
        found = self.frames(item)
        part = item.meta.get("part") if isinstance(item, fx.Node) else None
        for frame in reversed(found) if part else ():
            assigned = author.assigned_names(frame)
            if assigned and len(assigned) == 1 and assigned[0]:
                return [f"{assigned[0].rstrip('_')}_{part}"], frame
            if not author.is_return(frame):
                break
        statements = self._statements_of(item)
        for depth in range(len(found), 0, -1):
            key = statements[:depth]
            if (key, item) not in self._ends:
                return None, found[-1]
            assigned = author.assigned_names(found[depth - 1])
            if assigned is not None:
                target = target_name(item) if isinstance(item, fx.Node) else ""
                if target == _STEP_MASK:
                    assigned = ["mask"]
                elif target == _TRIM_STEPS:
                    assigned = assigned[:1]
                return assigned, found[depth - 1]
            if not author.is_return(found[depth - 1]):
                return None, found[-1]
        return None, found[-1] if found else None

    def _statements_of(self: RegionWriter, item: fx.Node | Call) -> tuple[Frame, ...]:
        """Return the frames of an item, each at the first line of its statement."""
        return tuple(author.start(frame) for frame in self.frames(item))

    @functools.cached_property
    def _ends(self: RegionWriter) -> set[tuple[tuple[Frame, ...], Any]]:
        """The items with which a run of one of the author's statements ends (a helper may run twice)."""
        shown = self._shown
        ends: set[tuple[tuple[Frame, ...], Any]] = set()
        for item, following in zip(shown, [*shown[1:], None], strict=True):
            found = self._statements_of(item)
            after = self._statements_of(following) if following is not None else ()
            ends.update(
                (found[:d], item) for d in range(1, len(found) + 1) if after[:d] != found[:d]
            )
        return ends | self._ends_in_loops()

    def _ends_in_loops(self: RegionWriter) -> set[tuple[tuple[Frame, ...], Any]]:
        """The items with which a loop's only statement ends, each time around but the last."""
        ends: set[tuple[tuple[Frame, ...], Any]] = set()
        shown = self._shown
        deepest = max((len(self.frames(item)) for item in shown), default=0)
        for depth in range(1, deepest + 1):
            for prefix, group in itertools.groupby(
                shown, lambda i, d=depth: self._statements_of(i)[:d]
            ):
                if len(prefix) == depth and author.is_looped(prefix[-1]):
                    run = list(group)
                    period = _period([self._signature(item, depth) for item in run])
                    ends.update((prefix, item) for item in run[period - 1 :: period])
        return ends

    def _signature(self: RegionWriter, item: fx.Node | Call, depth: int) -> tuple[Any, ...]:
        """What an item has in common with the one that stands for it in the next turn of a loop."""
        if isinstance(item, Call):
            kind, path = item.class_name, item.path
        else:
            kind, path = target_name(item), self.leaf_path(item)
        return kind, _NUMBER.sub("*", path), self._statements_of(item)[depth:]

    @functools.cached_property
    def _shown(self: RegionWriter) -> list[Any]:
        """The items that can end a statement: all but marks, parts and functions that were handed in."""
        return [
            item
            for item in self.call.items
            if not (isinstance(item, Call) and item.function)
            and not (
                isinstance(item, fx.Node)
                and (is_mark(item) or target_name(item).endswith("getitem"))
            )
        ]

    @functools.cached_property
    def _places(self: RegionWriter) -> dict[Any, tuple[str, Frame]]:
        """Names of the values of ``a, b = f(x), g(x)``, by their order, where each part is one value."""
        found: dict[Any, tuple[str, Frame]] = {}
        shown = self._shown
        deepest = max((len(self.frames(item)) for item in shown), default=0)
        for depth in range(1, deepest + 1):
            for prefix, group in itertools.groupby(
                shown, lambda i, d=depth: self._statements_of(i)[:d]
            ):
                targets = author.parallel_names(prefix[-1]) if len(prefix) == depth else None
                if not targets:
                    continue
                run = list(group)
                inside = {n for i in run for n in (i.nodes() if isinstance(i, Call) else (i,))}
                kept = [i for i in run if self._read_after(i, inside)]
                if len(kept) == len(targets):
                    found.update((i, (t, prefix[-1])) for i, t in zip(kept, targets, strict=True))
        return found

    def _read_after(self: RegionWriter, item: fx.Node | Call, inside: set[fx.Node]) -> bool:
        """Tell whether a value is read outside the statement that made it."""
        values = [p.node for p in item.outputs] if isinstance(item, Call) else [item]
        users = [u for v in values for u in v.users if u not in values]
        return any(
            self._read_after(u, inside) if target_name(u).endswith("getitem") else u not in inside
            for u in users
        )

    # --- names that are free ----------------------------------------------------------------------------

    def _free_name(self: RegionWriter, wanted: str, node: fx.Node, made: ast.expr) -> str:
        """Return a name that no living value holds, moving an old value aside where the author did."""
        held = self.holder.get(wanted)
        if held is None or held is node:
            return wanted
        if self._is_dead(wanted):
            self._flush_readers(wanted)
            self._save_sizes(held)
            return wanted
        # What was read for the last time may have been read by the statement that is being made.
        free = (c for c in self._author_copies(wanted) if c not in names_in(made))
        aside = next(free, None)
        if aside is not None:
            self._flush_readers(aside)
            self.push(assignment(aside, ast.Name(wanted, ast.Load())), None)
            self.holder[aside] = held
            for value, expression in self.exprs.items():
                if isinstance(expression, ast.Name) and expression.id == wanted:
                    self.exprs[value] = ast.Name(aside, ast.Load())
            self._flush_readers(wanted)
            return wanted
        return names.unique(wanted, self.holder)

    def _is_dead(self: RegionWriter, name: str) -> bool:
        """Tell whether no value that is still to be read holds a name."""
        held = self.holder.get(name)
        return held is None or (isinstance(held, fx.Node) and self.left.get(held, 0) <= 0)

    def is_taken(self: RegionWriter, name: str) -> bool:
        """Tell whether a value would get a number to its name (``x_2``), as a living one holds it."""
        wanted = names.local(name)
        if self._is_dead(wanted):
            return False
        return not self._author_copies(wanted)

    def _author_copies(self: RegionWriter, name: str) -> list[str]:
        """The names that the author gave to a variable's value besides, which are free by now."""
        cls = self.call.cls
        location = author.class_location(cls) if cls and author.has_own_body(cls) else None
        if location is None or not isinstance(self.holder.get(name), fx.Node):
            return []
        copies = [names.local(copy) for copy in author.copies(*location).get(name, [])]
        return [copy for copy in copies if copy != name and self._is_dead(copy)]

    def _flush_readers(self: RegionWriter, name: str) -> None:
        """Write out unread inline expressions that read a variable about to change."""
        for node, made in list(self.inline.items()):
            if name in names_in(made):
                del self.inline[node]
                found = self.frames(node)
                chosen = names.unique(names.local(self.put_aside(node)), self.holder)
                self.push(assignment(chosen, made), found[-1] if found else None)
                self.holder[chosen] = node
                self.exprs[node] = ast.Name(chosen, ast.Load())
