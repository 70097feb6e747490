"""Lists of tensors that a module takes, longer from one call to the next (the layers of a DenseNet).

Written as the author did, with one parameter for the whole list::

    features = [init_features]
    for layer in self.layers:
        features.append(layer(features))
    return ops.concatenate(features, axis=-1)
"""

from __future__ import annotations

import ast
import dataclasses
import re
from typing import TYPE_CHECKING, Any

from torch import fx

from diglot.codegen import author, names
from diglot.codegen.expr import E, call
from diglot.codegen.statements import assignment
from diglot.ir.hub import Call, Port, is_mark

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter

_NUMBERED = re.compile(r"(?P<stem>.*[a-zA-Z])_?(?P<number>\d+)")


@dataclasses.dataclass
class Parameter:
    """One parameter of a region: a tensor, or a list of tensors (``stem`` is then its name)."""

    ports: list[Port]
    stem: str | None = None


@dataclasses.dataclass
class Growing:
    """Calls of which each takes the list of the one before and that one's result."""

    calls: list[Call]
    attribute: str
    start: list[fx.Node]
    results: list[fx.Node]


class Lists:
    """Finds the parameters that are lists, and runs of calls with a growing list."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._lengths: dict[Any, dict[str, set[int]]] | None = None

    def parameters(self, region: Call) -> list[Parameter]:
        """Return what a region takes, in order."""
        found: list[Parameter] = []
        stems = self._stems(region)
        for port in self.program.live_inputs(region):
            stem = port.name.partition(".")[0]
            if stem not in stems:
                found.append(Parameter([port]))
            elif found and found[-1].stem == stem:
                found[-1].ports.append(port)
            else:
                found.append(Parameter([port], stem))
        return found

    def _stems(self, region: Call) -> set[str]:
        """Return the parameters of a region's class that take lists of several lengths."""
        if self._lengths is None:
            self._lengths = {}
            for other in self.program.hub.root.walk():
                if other is self.program.hub.root or other.function:
                    continue
                known = self._lengths.setdefault(_class_of(other), {})
                for stem, length in self._own_lengths(other).items():
                    known.setdefault(stem, set()).add(length)
        if region is self.program.hub.root or region.function:
            return set()
        lengths = self._lengths.get(_class_of(region), {})
        return {stem for stem, found in lengths.items() if len(found) > 1 and 0 not in found}

    def _own_lengths(self, region: Call) -> dict[str, int]:
        """Return the length of each list a call takes; 0 where a part is missing or nested."""
        parts: dict[str, list[str]] = {}
        for port in self.program.live_inputs(region):
            stem, dot, rest = port.name.partition(".")
            if dot:
                parts.setdefault(stem, []).append(rest)
        wanted = {s: [str(i) for i in range(len(found))] for s, found in parts.items()}
        return {s: len(found) if found == wanted[s] else 0 for s, found in parts.items()}

    def listed(self, region: Call) -> Parameter | None:
        """Return the only list among a region's parameters."""
        found = [p for p in self.parameters(region) if p.stem]
        return found[0] if len(found) == 1 else None

    # --- runs -------------------------------------------------------------------------------------------

    def growing_at(self, writer: RegionWriter, items: list[Any], position: int) -> Growing | None:
        """Return the run that starts at an item, if it has at least two calls."""
        first = items[position]
        if first.function or self.program.is_sequential(first) or self.listed(first) is None:
            return None
        calls = [first]
        for item in items[position + 1 :]:
            if isinstance(item, Call) and self._grows(writer, calls[-1], item):
                calls.append(item)
            elif isinstance(item, Call) or not is_mark(item):
                break
        attribute = self._attribute(writer, calls) if len(calls) > 1 else None
        if attribute is None:
            return None
        start = self.listed(first)
        assert start is not None
        results = [self.program.live_outputs(c)[0].node for c in calls]
        return Growing(calls, attribute, [p.value for p in start.ports], results)

    def _grows(self, writer: RegionWriter, before: Call, after: Call) -> bool:
        """Tell whether a call takes what the one before took, and that one's only result at the end of its list."""
        ours, theirs = self.listed(after), self.listed(before)
        if after.function or after.cls is not before.cls or ours is None or theirs is None:
            return False
        results = self.program.live_outputs(before)
        if len(results) != 1 or len(self.program.live_outputs(after)) != 1:
            return False
        if writer.program.writer(after).params != writer.program.writer(before).params:
            return False
        if self.program.writer(after).extra or self.program.function_parameters(after):
            return False
        grown = [*(p.value for p in theirs.ports), results[0].node]
        rest = {p.name: p.value for p in self.program.live_inputs(after) if p not in ours.ports}
        kept = {p.name: p.value for p in self.program.live_inputs(before) if p not in theirs.ports}
        return [p.value for p in ours.ports] == grown and rest == kept

    def _attribute(self, writer: RegionWriter, calls: list[Call]) -> str | None:
        """Return the list attribute that holds the layers: the author's, or one for ``layer1``, ``layer2``, …"""
        keys = [writer.child_key(c) for c in calls]
        others = [
            writer.child_key(c)[0]
            for c in self.program.calls_below(writer.call)
            if c not in calls
        ]  # fmt: skip
        if keys[0][1] is not None:
            whole = [(keys[0][0], i) for i in range(len(calls))]
            return keys[0][0] if keys == whole and keys[0][0] not in others else None
        matches = [_NUMBERED.fullmatch(name) for name, index in keys if index is None]
        found = [m for m in matches if m]
        if len(found) != len(keys) or len({m["stem"] for m in found}) > 1:
            return None
        first = int(found[0]["number"])
        if [int(m["number"]) for m in found] != list(range(first, first + len(keys))):
            return None
        attribute = self.program.dialect.attribute(f"{found[0]['stem']}s")
        if attribute in others:
            return None
        writer.series.update({c.path: (attribute, i) for i, c in enumerate(calls)})
        return attribute


class ListWriter:
    """Mixed into :class:`RegionWriter`."""

    def list_parameter(self: RegionWriter, parameter: Parameter) -> None:
        """Declare a parameter that is a list."""
        name = names.unique(names.local(parameter.stem or "inputs"), self.holder)
        self.params.append(name)
        self._hold_list(name, [p.node for p in parameter.ports])

    def _hold_list(self: RegionWriter, name: str, nodes: list[fx.Node]) -> None:
        self.holder[name] = "list"
        self.lists[name] = nodes
        for i, node in enumerate(nodes):
            if not isinstance(self.exprs.get(node), ast.Name):
                self.exprs[node] = E("xs[i]", xs=ast.Name(name, ast.Load()), i=i)

    def list_variable(self: RegionWriter, nodes: list[fx.Node]) -> ast.expr | None:
        """Return the variable that holds exactly these values."""
        roots = [self._root_value(n) for n in nodes]
        for name, held in self.lists.items():
            if [self._root_value(n) for n in held] == roots:
                for root in roots:
                    self.left[root] = self.left.get(root, 1) - 1
                return ast.Name(name, ast.Load())
        return None

    def list_argument(self: RegionWriter, nodes: list[fx.Node]) -> ast.expr:
        """Return a list of values as an argument."""
        return self.list_variable(nodes) or ast.List([self.read(n) for n in nodes], ast.Load())

    def grow(self: RegionWriter, run: Growing) -> None:
        """``for layer in self.layers: features.append(layer(features))``."""
        for child in run.calls:
            self.members.setdefault(self.child_key(child), self.child_member(child))
        self.program.loops.looped.update(run.calls)
        frames = self.frames(run.calls[0])
        origin = frames[-1] if frames else None
        parameter = self.program.lists.listed(run.calls[0])
        wanted = (author.first_argument(origin) if origin else None) or "features"
        start = self.list_argument(run.start)
        start = call("list", start) if isinstance(start, ast.Name) else start
        name = names.unique(names.local(wanted), self.holder)
        self.push(assignment(name, start), origin)
        self.holder[name] = "list"
        arguments: list[ast.expr] = []
        for other in self.program.lists.parameters(run.calls[0]):
            given = ast.Name(name, ast.Load())
            if other.stem is None or parameter is None or other.stem != parameter.stem:
                self.settle_inline(other.ports[0].value)
                given = self.read(other.ports[0].value)
            arguments.append(given)
        for child in run.calls[1:]:
            for port in child.inputs:
                root = self._root_value(port.value)
                self.left[root] = self.left.get(root, 1) - 1
        variable = self.program.loops.variable(self, run.calls[0], run.attribute)
        variable = names.unique(names.local(variable), self.holder)
        grown = E("xs.append(y)", xs=ast.Name(name, ast.Load()),
                  y=call(ast.Name(variable, ast.Load()), *arguments))  # fmt: skip
        loop = ast.For(
            ast.Name(variable, ast.Store()), E(f"self.{run.attribute}"), [ast.Expr(grown)], [], None
        )
        self.push(loop, origin)
        self._hold_list(name, [*run.start, *run.results])


def _class_of(region: Call) -> Any:
    return region.cls or region.class_name
