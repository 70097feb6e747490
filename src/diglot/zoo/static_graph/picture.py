"""The graphs of the ways, drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diglot.zoo.drawing import figure

Graph = Sequence[Sequence[Any]]


def levels(graph: Graph) -> dict[str, int]:
    """How many operations lie between each node and the inputs; nodes come after their inputs."""
    found: dict[str, int] = {}
    for name, _, inputs in graph:
        found[name] = 1 + max((found[item] for item in inputs), default=-1)
    return found


def draw_graphs(ways: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw each way's graph ("way", "graph": (name, operation, inputs) of every node), inputs on top."""
    columns = min(len(ways), 3)
    rows = -(-len(ways) // columns)
    with figure(path, width=4.2 * columns, height=3.4 * rows) as drawn:
        axes = drawn.subplots(rows, columns, squeeze=False).flat
        for axis in axes:
            axis.set_axis_off()
        for axis, way in zip(drawn.axes, ways, strict=False):
            axis.set_title(way["way"], fontsize=9)
            _draw(axis, way["graph"])


def _draw(axis: Any, graph: Graph) -> None:
    depth = levels(graph)
    rows: dict[int, list[str]] = {}
    for name, level in depth.items():
        rows.setdefault(level, []).append(name)
    place = {
        name: ((index + 1) / (len(names) + 1), -level)
        for level, names in rows.items()
        for index, name in enumerate(names)
    }
    for name, _, inputs in graph:
        for item in inputs:
            axis.annotate(
                "",
                xy=place[name],
                xytext=place[item],
                arrowprops={"arrowstyle": "->", "shrinkA": 14, "shrinkB": 14, "color": "#888"},
            )
    for name, operation, _ in graph:
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "#0072b2"}
        text = name if operation == name else f"{name}\n{operation}"
        axis.text(*place[name], text, ha="center", va="center", fontsize=7, bbox=box)
    axis.set_xlim(0, 1)
    axis.set_ylim(-max(depth.values()) - 0.6, 0.6)
