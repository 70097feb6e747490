"""Layers of Keras's that PyTorch has none for, on the way back."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call, to_ast
from diglot.codegen.names import unique
from diglot.rules.registry import Rule, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _layer(op: OpCall) -> ast.expr:
    """``x, h = layers.LSTM(4, activation="softsign", return_state=True)(x, mask=mask)``."""
    placed = op.writer.program.hub.kept[op["path"]]
    kept = placed.layer
    nodes = dict(zip(kept.sources, op["weights"], strict=True))
    weights = {
        entry.target.removeprefix(f"{kept.target}."): {
            "nodes": [nodes[name] for name in entry.sources],
            "steps": list(entry.steps),
            "combine": entry.combine,
        }
        for entry in kept.weights
    }
    values = [op.value(node) for node in op["inputs"]]
    items = list(kept.called_with(values, lambda mask: E("m[..., None]", m=mask)).items())
    positional = [value for _, value in items[: placed.positional]]
    options = {**dict(items[placed.positional :]), **kept.arguments}
    layer = op.layer(E(placed.constructor), weights)
    return _parts(op, call(layer, *positional, **options), [path for path, _ in kept.outputs])


def _parts(op: OpCall, made: ast.expr, paths: list[str]) -> ast.expr:
    """The tensors of what a layer returns, as a tuple."""
    if paths == [""]:
        return ast.Tuple([made], ast.Load())
    places = [[int(part) for part in path.split(".")] for path in paths]
    if places == [[place] for place in range(len(places))]:
        return made
    writer = op.writer
    name = unique(op.writer.program.noun_for(writer, op.node, "results"), writer.holder)
    found = writer.frames(op.node)
    writer.push(ast.Assign([ast.Name(name, ast.Store())], made), found[-1] if found else None)
    writer.holder[name] = op.node
    results = []
    for path in places:
        result: ast.expr = ast.Name(name, ast.Load())
        for place in path:
            result = ast.Subscript(result, to_ast(place), ast.Load())
        results.append(result)
    return ast.Tuple(results, ast.Load())


register(
    __name__,
    Rule(
        "diglot.keras_layer.default",
        _layer,
        torch="a module that stands for one layer of Keras's",
        layout="logical",
    ),
)
