"""A TensorFlow graph as text, its name scopes as headings: what stands beside a translation of one.

The graph is shown as it was read, with its functions written in place and the branches taken that are known.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diglot.frontends.listing import Listing
from diglot.frontends.tensorflow.graph import Node, Out
from diglot.frontends.tensorflow.lowering import Lowered
from diglot.frontends.tensorflow.names import is_function
from diglot.frontends.tensorflow.scope import LayerStep, Scope, WeightStep
from diglot.literals import intended

_WIDTH = 80
_INDENT = "  "
#: Attributes that say what the shapes and dtypes beside each line say, or how to run an op.
_UNSAID = frozenset(
    "dtype shape shapes value use_cudnn_on_gpu explicit_paddings num_args N validate_indices parallel_iterations "
    "use_locking container shared_name seed seed2 stop_on_failure U V".split()
)
_PLAIN: tuple[Any, ...] = (None, False, "", "NHWC", [], [1, 1, 1, 1])


@dataclass
class GraphListing(Listing):
    """A graph as lines; ``names`` gives the lines of each op, by its name, ``reads`` the ops that each reads from."""

    names: dict[str, list[int]] = field(default_factory=dict)
    reads: dict[str, list[str]] = field(default_factory=dict)

    def span(self, inside: Sequence[int]) -> list[int]:
        """First and last line of the scope that holds some lines, its heading included where it is right above."""
        depth = min(_depth(self.lines[n - 1]) for n in inside)
        first = heading = min(inside)
        while heading > 1 and self.lines[heading - 2].endswith("/"):
            heading -= 1
            if _depth(self.lines[heading - 1]) < depth:
                first = heading
                break
        return [first, max(inside)]

    def stands_for(self, nodes: Sequence[Node]) -> dict[str, list[int]]:
        """The lines that each node of the graph with its layers recognised was made of, by its name."""
        anchors = {node.name: node.name.partition(":")[0] for node in nodes}
        own = set(anchors.values())
        found = {}
        for name, anchor in anchors.items():
            seen, pending = {anchor}, [anchor]
            while pending:
                new = [n for n in self.reads.get(pending.pop(), ()) if n not in own | seen]
                seen.update(new)
                pending += new
            found[name] = sorted(line for n in seen for line in self.names.get(n, ()))
        return found


def listing(lowered: Lowered) -> GraphListing:
    """The text of a graph without control flow, one line for each op: ``name = Op(inputs)  # sizes dtype``."""
    made = GraphListing()
    writer = _Writer(lowered, made)
    for node in lowered.graph.inputs:
        writer.line(node, f"{node.name} = Input")
    for node in lowered.graph.order():
        writer.node(node)
    names = lowered.graph.output_names or [""]
    outputs = [writer.reference(out, ()) for out in lowered.graph.outputs]
    writer.heading(())
    made.lines.append(f"return {', '.join(outputs)}" + _comment(" ".join(n for n in names if n)))
    return made


def place(made: GraphListing, root: Scope, order: Sequence[Node]) -> None:
    """Note where the modules of a graph's mirror stand in its listing, and let each of their ops run at its line."""
    lines = made.stands_for(order)
    paths = {id(module): path for path, module in root.named_modules()}
    held: dict[str, list[int]] = {}
    for path, scope in root.named_modules():
        for step in scope.body.steps if isinstance(scope, Scope) else ():
            found = lines.get(step.node)
            if not found:
                continue
            step.line = found[-1]
            made.groups[step.line] = found
            held.setdefault(path, []).extend(found)
            if isinstance(step, LayerStep):
                made.places.setdefault(paths[id(step.module)], []).extend(found)
            elif isinstance(step, WeightStep):
                name = ".".join(filter(None, [paths[id(step.module)], step.name]))
                made.places.setdefault(name, []).extend(found)
    for path in list(held):
        if path:
            inner = [
                n for p, ns in held.items() if p == path or p.startswith(f"{path}.") for n in ns
            ]
            made.spans[path] = made.span(inner)
            made.places.setdefault(path, [made.spans[path][0]])
    made.spans[""] = [1, len(made.lines)]


class _Writer:
    def __init__(self, lowered: Lowered, made: GraphListing) -> None:
        self.lowered = lowered
        self.made = made
        self.scope: tuple[str, ...] = ()

    def node(self, node: Node) -> None:
        """Write the line of an op, below those of the weights that no line before it reads."""
        if node.op in ("Input", "Const", "Variable"):
            return
        self.made.reads[node.name] = [out.node.name for out in node.inputs]
        scope = _scope(node)
        self.heading(scope)
        for out in node.inputs:
            held = out.node.op == "Variable" or (
                out.node.op == "Const" and not self._inline(out.node)
            )
            if held and out.node.name not in self.made.names:
                self.line(out.node, f"{self.reference(out, scope)} = {out.node.op}")
        name = node.name.split("/", len(scope))[-1]
        arguments = [self.reference(out, scope) for out in node.inputs]
        arguments += [f"{k}={_said(v)}" for k, v in sorted(node.attrs.items()) if _tells(k, v)]
        self.line(node, f"{name} = {node.op}", arguments)

    def heading(self, scope: tuple[str, ...]) -> None:
        """Write the scopes that begin here."""
        same = 0
        while same < min(len(scope), len(self.scope)) and scope[same] == self.scope[same]:
            same += 1
        if self.made.lines and scope[:1] != self.scope[:1]:
            self.made.lines.append("")
        for depth in range(same, len(scope)):
            self.made.lines.append(f"{_INDENT * depth}{scope[depth]}/")
        self.scope = scope

    def line(self, node: Node, head: str, arguments: Sequence[str] = ()) -> None:
        """Write ``head(arguments)  # sizes dtype``, over several lines where it is long."""
        indent = _INDENT * len(self.scope)
        first = len(self.made.lines) + 1
        whole = f"{indent}{head}({', '.join(arguments)})"
        if len(whole) <= _WIDTH:
            parts = [whole]
        else:
            inner = textwrap.wrap(", ".join(arguments), _WIDTH - len(indent) - 4)
            parts = [f"{indent}{head}(", *(f"{indent}    {part}" for part in inner), f"{indent})"]
        parts[-1] += _comment(self._sizes(Out(node)))
        self.made.lines += parts
        self.made.names[node.name] = list(range(first, first + len(parts)))

    def reference(self, out: Out, scope: tuple[str, ...]) -> str:
        """What a line calls a value: its name from the scope that the line is in, or a small constant itself."""
        node = out.node
        if self._inline(node):
            return _said(node.value.tolist())
        path, own = node.name.split("/"), list(scope)
        while own and len(path) > 1 and path[0] == own[0]:
            path, own = path[1:], own[1:]
        number = f":{out.index}" if out.index else ""
        return "/".join(path) + number

    @staticmethod
    def _inline(node: Node) -> bool:
        return node.op == "Const" and node.value.ndim < 2 and node.value.size <= 8

    def _sizes(self, out: Out) -> str:
        if out.node.op in ("Const", "Variable"):
            held = out.node.value if out.node.op == "Const" else out.node.attrs["variable"].value
            return f"{_shape(held.shape)} {held.dtype.name}"
        value = self.lowered.values.get(out)
        shape = self.lowered.shape(out)
        if shape is None:
            return ""
        dtype = getattr(value, "dtype", None)
        return f"{_shape(shape)} {str(dtype).removeprefix('torch.')}" if dtype else _shape(shape)


def _scope(node: Node) -> tuple[str, ...]:
    """The scopes that are headings: not those that TensorFlow's own functions open for an op of theirs."""
    scope = node.scope
    while scope and is_function(scope[-1]):
        scope = scope[:-1]
    return scope


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _shape(sizes: Sequence[Any]) -> str:
    return f"[{', '.join(str(s) if isinstance(s, int) else '?' for s in sizes)}]"


def _comment(text: str) -> str:
    return f"  # {text}" if text else ""


def _tells(name: str, value: Any) -> bool:
    """Whether an attribute says what is computed, beyond what is usual."""
    if name in _UNSAID or name[0] == "_" or name[0] in "TS" or name.endswith("type"):
        return False
    plain = isinstance(value, (int, float, str)) or (
        isinstance(value, list) and all(isinstance(v, (int, float, str)) for v in value)
    )
    return plain and value not in _PLAIN


def _said(value: Any) -> str:
    if isinstance(value, float):
        return repr(intended(np.float32(value)))
    if isinstance(value, list):
        return f"[{', '.join(_said(v) for v in value)}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


__all__ = ["GraphListing", "listing", "place"]
