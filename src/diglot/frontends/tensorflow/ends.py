"""What goes into a graph and comes out: tensors by name, some of which are given a value."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diglot.errors import BadInput
from diglot.frontends.tensorflow.protobufs import output_count, shape_of, type_name
from diglot.graph_nodes import needed, node_name, with_values


@dataclass
class Signature:
    """What goes in and out of a graph: names of its arguments and results, and of their tensors.

    ``keys`` gives the checkpoint's name of each variable's value, by node; ``tags`` are those of the graph; ``values``
    are of the nodes that are given one.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: dict[str, list[int | None] | None] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def between(
    definition: Any, feeds: Sequence[str] | None, fetches: Sequence[str] | None, path: Path
) -> tuple[Signature, Any]:
    """What goes in and out between tensors by name, and the graph with the values that ``NAME=VALUE`` gives."""
    by_name = {n.name: n for n in definition.node}
    given = [name for name in feeds or () if "=" not in name]
    values = dict(_value(name) for name in feeds or () if "=" in name)
    wanted = list(fetches or _results(definition))
    for name in (*given, *values, *wanted):
        if name.split(":")[0] not in by_name:
            raise _no_node(name, by_name, definition, path)
    for name in wanted:
        _check_output(name, by_name[name.split(":")[0]])
    try:
        definition = with_values(definition, values)
    except (TypeError, ValueError, StopIteration) as error:
        raise BadInput(
            f"a value that --feed gives does not fit: {', '.join(f'{k}={v}' for k, v in values.items())}",
            received=str(error).splitlines()[0] if str(error) else None,
            hint="give a number, True, False or a list of numbers, of the placeholder's dtype",
        ) from error
    if not given:
        read = needed(definition, wanted)
        given = [n.name for n in read if n.op == "Placeholder" and n.name not in values]
    signature = Signature({short(n): n for n in given}, {short(n): n for n in wanted})
    signature.values = values
    for name, tensor in signature.inputs.items():
        attrs = by_name[tensor.split(":")[0]].attr
        kind = next((attrs[k].type for k in ("dtype", "T", "DstT") if k in attrs), 1)
        signature.dtypes[name] = type_name(kind)
        signature.shapes[name] = shape_of(attrs["shape"].shape) if "shape" in attrs else None
    return signature, definition


def _value(text: str) -> tuple[str, Any]:
    """``keep_prob=1.0``: the node and its value."""
    name, _, value = text.partition("=")
    try:
        return name.strip().removesuffix(":0"), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError) as error:
        raise BadInput(
            f"--feed {text} gives no value",
            expected="NAME=VALUE with a number, True, False or a list of numbers",
            received=value,
        ) from error


def _no_node(name: str, by_name: Mapping[str, Any], definition: Any, path: Path) -> BadInput:
    close = difflib.get_close_matches(name.split(":")[0], by_name, 3, 0.6)
    named = [n.name for n in definition.node if n.op == "Placeholder"]
    return BadInput(
        f"{path} has no node {name!r}",
        received=f"placeholders: {', '.join(named)}; results: {', '.join(_results(definition)[:8])}",
        hint=f"did you mean {' or '.join(close)}?"
        if close
        else "check the names of the feeds and fetches",
    )


def _check_output(name: str, node: Any) -> None:
    """Raise BadInput for a tensor that a node does not have among its outputs."""
    _, *rest = name.split(":")
    count = output_count(node)
    if not rest or count is None or (len(rest) == 1 and rest[0].isdigit() and int(rest[0]) < count):
        return
    names = ", ".join(f"{node.name}:{i}" for i in range(count))
    raise BadInput(
        f"there is no tensor {name!r}: the node {node.name} ({node.op}) has {count} output{'s'[: count != 1]}",
        expected=names or None,
        received=name,
        hint="name one of them with --fetch" if count else "fetch another node",
    )


def short(name: str) -> str:
    return name.removesuffix(":0")


def _results(definition: Any) -> list[str]:
    read = {node_name(i) for n in definition.node for i in n.input}
    dull = ("NoOp", "Assert", "Const", "Placeholder", "Exit", "RefExit", "TensorArrayCloseV3")
    return [n.name for n in definition.node if n.name not in read and n.op not in dull]
