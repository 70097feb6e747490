"""Runs of calls that the author wrote as a loop over a ModuleList."""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Any

from diglot.codegen import author
from diglot.ir.hub import Call, Port, is_mark

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter


@dataclasses.dataclass
class Run:
    """``for variable in self.attribute[slice]: x = variable(x, …)``."""

    calls: list[Call]
    attribute: str
    slice: tuple[int, int | None] | None
    variable: str
    chain: str  # the parameter that takes the previous result
    start: Any  # the value before the loop
    start_mark_value: Any
    result: Port  # of the last call


class Loops:
    """Finds runs; remembers which calls are part of one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.looped: set[Call] = set()

    def run_at(self, writer: RegionWriter, items: list[Any], position: int) -> Run | None:
        """Return the run that starts at an item, if it has at least two calls."""
        first = items[position]
        if first.function or self.program.is_sequential(first):
            return None
        key = writer.child_key(first)
        if not isinstance(key[1], int):
            return None
        calls = [first]
        chain: str | None = None
        for item in items[position + 1 :]:
            if not isinstance(item, Call):
                if is_mark(item):
                    continue
                break
            link = self._link(writer, calls[-1], item, chain)
            if link is None:
                break
            chain = link
            calls.append(item)
        if len(calls) < 2 or chain is None or not self._alike(calls):
            return None
        return self._make(writer, calls, chain)

    def _link(
        self, writer: RegionWriter, before: Call, after: Call, chain: str | None
    ) -> str | None:
        """Return the parameter through which ``after`` takes the only result of ``before``."""
        key, last = writer.child_key(after), writer.child_key(before)
        if after.function or key[0] != last[0] or after.cls is not before.cls:
            return None
        if not (isinstance(key[1], int) and isinstance(last[1], int)) or key[1] != last[1] + 1:
            return None
        live = self.program.live_outputs(before)
        if len(live) != 1 or len(self.program.live_outputs(after)) != 1:
            return None
        ours = {p.name: p.value for p in self.program.live_inputs(after)}
        theirs = {p.name: p.value for p in self.program.live_inputs(before)}
        if set(ours) != set(theirs):
            return None
        links = [n for n, v in ours.items() if v is live[0].node]
        inside = set(after.nodes())
        if len(links) != 1 or any(u not in inside for u in live[0].node.users):
            return None
        if any(v is not theirs[n] for n, v in ours.items() if n not in links):
            return None
        return links[0] if chain in (None, links[0]) else None

    def _alike(self, calls: list[Call]) -> bool:
        """A loop needs every call to take the same parameters in the same order."""
        writers = [self.program.writer(c) for c in calls]
        first = writers[0]
        for other in writers[1:]:
            if other.params != first.params or [n for n, _ in other.extra] != [
                n for n, _ in first.extra
            ]:
                return False
        return not any(self.program.function_parameters(c) for c in calls)

    def _make(self, writer: RegionWriter, calls: list[Call], chain: str) -> Run:
        self.looped.update(calls)
        attribute, low = writer.child_key(calls[0])
        high = writer.child_key(calls[-1])[1]
        length = self._length(writer, attribute)
        whole = low == 0 and high == length - 1
        start = next(p for p in self.program.live_inputs(calls[0]) if p.name == chain)
        return Run(
            calls=calls,
            attribute=attribute,
            slice=None if whole else (low or 0, None if high == length - 1 else (high or 0) + 1),
            variable=self.variable(writer, calls[0], attribute),
            chain=chain,
            start=start.value,
            start_mark_value=start.value,
            result=self.program.live_outputs(calls[-1])[0],
        )

    def _length(self, writer: RegionWriter, attribute: str) -> int:
        """Return how many members of a list attribute are called in this region."""
        found = {
            writer.child_key(item)[1]
            for item in self.program.calls_below(writer.call)
            if writer.child_key(item)[0] == attribute
        }
        return len(found)

    def variable(self, writer: RegionWriter, call: Call, attribute: str) -> str:
        """Return the author's loop variable, or the singular of the list's name."""
        frames = writer.frames(call)
        for frame in reversed(frames):
            name = author.loop_variable(frame)
            if name:
                return name
        if attribute.endswith("s") and len(attribute) > 2:
            return attribute[:-1]
        return "layer"


def parse_target(target: ast.expr) -> str | None:
    """Return the last plain name of a loop target (``i, layer`` -> ``layer``)."""
    if isinstance(target, ast.Tuple):
        target = target.elts[-1]
    return target.id if isinstance(target, ast.Name) else None
