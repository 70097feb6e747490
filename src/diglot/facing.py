"""A Keras model's own program for the pages: where nobody wrote one, the Functional program that it amounts to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from diglot.codegen.source import Written, placed
from diglot.codegen.statements import through
from diglot.frontends.keras_model import Mirror
from diglot.frontends.listing import Listing


def add_listing(info: dict[str, Any], mirror: Mirror, written: Written, model: Any) -> None:
    """Put the program of a Functional or Sequential model into ``translation.json``'s content, with its lines.

    It is that of the function that built the model, where that is known, or else what the model amounts to.
    A class of the PyTorch program stands beside the lines of its first instance; the root beside all of them.
    """
    from diglot.frontends.keras_tracing.authored import authored
    from diglot.frontends.keras_tracing.listing import listing

    made = listing(model)
    if made is None:
        return
    file, made = authored(model, mirror.layers) or (f"{model.name}.py", made)
    places = {
        path: made.places[id(layer)]
        for path, layer in mirror.layers.items()
        if id(layer) in made.places
    }
    _add(info, file, made, places, set(_pairs(info, written, places)))


def add_graph(info: dict[str, Any], written: Written, file: str, made: Listing) -> None:
    """Put a graph's listing into ``translation.json``'s content: what each layer and each statement was made of."""
    pairs = {*_pairs(info, written, made.places), *_statement_pairs(written, made)}
    _add(info, file, made, made.places, pairs)


def _add(
    info: dict[str, Any],
    file: str,
    made: Listing,
    places: dict[str, list[int]],
    pairs: set[tuple[int, int]],
) -> None:
    info["sources"][file] = {"first_line": 1, "text": made.text}
    for record in info["classes"]:
        if record["source_file"] is None:
            path = record["instances"][0]
            record["source_file"] = file
            record["source_lines"] = made.spans.get(path) or _extent(path, places, made)
    info["lines"] += [
        {"source_file": file, "source_line": a, "target_line": b} for a, b in sorted(pairs)
    ]


def _extent(path: str, places: dict[str, list[int]], made: Listing) -> list[int] | None:
    """The lines of what is below a module."""
    if not path:
        return [1, len(made.lines)]
    found = [line for p, lines in places.items() if _below(p, path) for line in lines]
    return [min(found), max(found)] if found else None


def _below(path: str, owner: str) -> bool:
    return path == owner or path.startswith(f"{owner}.")


def _statement_pairs(written: Written, made: Listing) -> Iterator[tuple[int, int]]:
    """Yield (line of the listing, line of PyTorch's) for what each statement computes."""
    regions = [i.region for c in written.classes for i in c.instances]
    regions.sort(key=lambda region: len(region.key))
    home = {node: region for region in regions for node in region.nodes()}  # the innermost
    for written_class, statement, first, last in placed(written.source, written.classes, "forward"):
        region = written_class.instances[0].region
        own = {through(s.value) for s in written_class.statements if s.value is not None}
        pending = [statement.value] if statement.value is not None else []
        pending = [through(node) for node in pending]
        if isinstance(statement.node, ast.Return):
            pending = [n for port in region.outputs if (n := through(port.node)) not in own]
        within, seen = set(region.nodes()), set(pending)
        while pending:
            node = pending.pop()
            if node not in within:
                continue
            said = made.groups.get(node.meta.get("listed", 0), ()) if home[node] is region else ()
            yield from ((line, number) for line in said for number in range(first, last + 1))
            new = {n for n in node.all_input_nodes if n not in own and n not in seen}
            seen |= new
            pending += new


def _pairs(
    info: dict[str, Any], written: Written, places: dict[str, list[int]]
) -> Iterator[tuple[int, int]]:
    """Yield (line of Keras's program, line of PyTorch's): where a layer is made and called."""
    lines = written.source.splitlines()
    for record in info["classes"]:
        first, last = record["target_lines"]
        for number in range(first, min(last, len(lines)) + 1):
            held = re.findall(r"self\.([A-Za-z_]\w*(?:\[\d+\])?)", lines[number - 1])
            for owner in record["instances"]:
                for name in held:
                    path = ".".join(filter(None, [owner, name.replace("[", ".").rstrip("]")]))
                    yield from ((place, number) for place in _first_lines(path, places))
                    yield from _items(lines, number, path, places)
    if not any("" in record["instances"] for record in info["classes"]):
        for number in range(1, len(lines) + 1):
            yield from _items(lines, number, "", places)


def _first_lines(path: str, places: dict[str, list[int]]) -> list[int]:
    """The lines of a layer; of a block, or a list of blocks, where each begins."""
    if path in places:
        return places[path]
    below = [(p, lines) for p, lines in places.items() if p.startswith(f"{path}.")]
    starts: dict[str, int] = {}
    for p, lines in below:
        part = p[len(path) + 1 :].split(".")[0]
        own = part if part.isdigit() else ""
        starts[own] = min(starts.get(own, lines[0]), lines[0])
    return list(starts.values())


def _items(
    lines: list[str], number: int, path: str, places: dict[str, list[int]]
) -> Iterator[tuple[int, int]]:
    """The items of an ``nn.Sequential`` that begins on a line, on lines of their own or all on one."""
    line = lines[number - 1]
    if not line.endswith("= nn.Sequential("):
        if "= nn.Sequential(" in line:
            own = [
                p for p in places if p.rpartition(".")[0] == path and p.rpartition(".")[2].isdigit()
            ]
            yield from ((place, number) for p in own for place in places[p][:1])
        return
    inner = number
    indent = len(lines[number]) - len(lines[number].lstrip())
    while inner < len(lines) and lines[inner].startswith(" " * indent):
        item = ".".join(filter(None, [path, str(inner - number)]))
        yield from ((place, inner + 1) for place in places.get(item, ())[:1])
        inner += 1


__all__ = ["add_graph", "add_listing"]
