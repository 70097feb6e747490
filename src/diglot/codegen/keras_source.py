"""Hub -> Keras source: classes, ``build_model``, formatted by ruff; and which line came from which."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diglot import carried
from diglot.codegen import names
from diglot.codegen.classes import Classes, LayerClass
from diglot.codegen.expr import E, call, names_in, text, to_ast
from diglot.codegen.limits import sentence
from diglot.codegen.program import Program
from diglot.codegen.source import (
    LINE_LENGTH,
    Written,
    bare_returns,
    compose,
    format_source,
    line_map,
    structure_ast,
)
from diglot.codegen.statements import Statement, assignment
from diglot.ir.hub import Hub
from diglot.ir.sizes import is_static, shape_of


def write(
    hub: Hub, model: nn.Module | None, float_dtype: torch.dtype, style: str = "layers"
) -> Written:
    """Return the Keras program for a hub with layouts. Raises :class:`Unsupported` listing every problem."""
    if style == "functional":
        from diglot.codegen.functional import write_functional

        return write_functional(hub, model, float_dtype)
    program, classes, root = compose(lambda: Program(hub, model, float_dtype), hub)
    return assemble(program, classes, root)


def assemble(program: Program, classes: Classes, root: LayerClass | None) -> Written:
    """Put the parts together and format them."""
    hub = program.hub
    body: list[ast.stmt] = [made.tree for made in classes.classes]
    root_name = program.root_name
    layer_name = hub.root_layer or root_name
    if root is not None:
        construct = call(root.name, name=layer_name)
    else:
        construct = classes.sequence(hub.root)
        construct.keywords.append(ast.keyword("name", to_ast(layer_name)))
    body.append(build_function(program, construct, root_name))
    source = finish(program, body, docstring(program))
    lines, class_lines = line_map(source, classes.classes)
    return Written(source, program, classes.classes, layer_name, lines, class_lines)


def docstring(program: Program) -> str:
    """Return the first lines of the generated file."""
    name = program.hub.root.class_name
    where = program.hub.root.cls.__module__ if program.hub.root.cls else "a saved program"
    if where.startswith("diglot_generated"):  # nobody wrote that
        return f'"""{name} in Keras, translated from PyTorch by Diglot."""'
    line = f'"""{name} in Keras, translated from PyTorch ({where}.{name}) by Diglot."""'
    if len(line) <= LINE_LENGTH:
        return line
    return f'"""{name} in Keras, translated from PyTorch by Diglot.\n\nSource: {where}.{name}\n"""'


def finish(program: Program, body: list[ast.stmt], head: str) -> str:
    """Return the formatted module text."""
    read = {name for node in body for name in names_in(node)}
    texts = carried.sources(program.helpers & read)  # a layer may stand for a function
    code = "\n\n\n".join([*texts, *(bare_returns(text(node)) for node in body)])
    imports = ["import keras", *(["import numpy as np"] if re.search(r"\bnp\.", code) else [])]
    wanted = [n for n in ("layers", "ops") if f"{n}." in code]
    if wanted:
        imports.append(f"from keras import {', '.join(wanted)}")
    standard = [f"import {n}" for n in ("math", "functools") if f"{n}." in code]
    blocks = [head, "\n".join(standard), "\n".join(imports), code]
    return format_source("\n\n".join(b for b in blocks if b) + "\n")


_ARGUMENT = "weights"  # of build_model


def input_variables(hub: Hub) -> list[str]:
    """Name the variables that hold the inputs."""
    return [names.unique(names.local(n), {_ARGUMENT}) for n in hub.input_names]


def input_dtype(value: torch.Tensor) -> str | None:
    """Return the dtype of a keras.Input (``None``: the default float)."""
    if value.dtype.is_floating_point:
        return None
    return "bool" if value.dtype == torch.bool else "int32"


def input_shape(node: Any) -> tuple[int | None, ...]:
    """Return a keras.Input's shape without the batch, in the target's layout."""
    shape = shape_of(node.meta["val"])
    layout = node.meta.get("layout")
    if layout:
        shape = tuple(shape[p] for p in layout)
    return tuple(s if is_static(s) else None for s in shape[1:])


def build_function(
    program: Program,
    construct: ast.expr,
    root_name: str,
    statements: list[Statement] | None = None,
    result: Any = None,
    variables: list[str] | None = None,
) -> ast.FunctionDef:
    """Return ``def build_model(weights=None)``."""
    hub = program.hub
    head = _head(program)
    body: list[ast.stmt] = [ast.Expr(ast.Constant(head))]
    given = [names.local(n) for n in hub.input_names]
    variables = variables or input_variables(hub)
    for node, variable, name in zip(hub.inputs, variables, given, strict=True):
        body.append(ast.Assign([ast.Name(variable, ast.Store())], input_layer(node, name)))
    inputs: ast.expr = ast.Name(variables[0], ast.Load())
    if hub.input_structure == "list":
        inputs = to_ast([ast.Name(v, ast.Load()) for v in variables])
    elif hub.input_structure == "dict":
        keys = [to_ast(n) for n in hub.input_names]
        inputs = ast.Dict(list(keys), [ast.Name(v, ast.Load()) for v in variables])
    if statements is None:
        read = [
            ast.Name(v, ast.Load())
            for v, n in zip(variables, hub.inputs, strict=True)
            if root_reads(program, n)
        ]
        result = call(construct, *read)
        live = program.live_outputs(hub.root)
        if len(live) > 1 or hub.output_structure != "tensor":
            result = _unpack(program, body, result)
    else:
        body.extend(s.node for s in statements)
    body.append(ast.Assign([ast.Name("outputs", ast.Store())], result))
    body.append(
        ast.Assign(
            [ast.Name("model", ast.Store())],
            E("keras.Model(i, outputs, name=n)", i=inputs, n=root_name),
        )
    )
    return _function(body)


def build_sequence(program: Program, layers: Sequence[ast.expr], name: str) -> ast.FunctionDef:
    """Return ``def build_model(weights=None)`` of a ``keras.Sequential``."""
    hub = program.hub
    items = [input_layer(hub.inputs[0], names.local(hub.input_names[0])), *layers]
    made = call("keras.Sequential", ast.List(items, ast.Load()), name=name)
    body = [ast.Expr(ast.Constant(_head(program))), assignment("model", made)]
    return _function(body)


def _head(program: Program) -> str:
    """Return what ``build_model`` says of itself."""
    head = "Build the model; ``weights`` is the path of a ``.weights.h5`` file."
    stated = [sentence(limit) for limit in program.limits]
    stated += filter(None, [program.initial.sentence()])
    if stated:
        head = "\n\n    ".join([head, "\n    ".join(stated)]) + "\n    "
    return head


def input_layer(node: Any, name: str | None) -> ast.expr:
    """Return ``keras.Input(…)``; Keras names one without a name."""
    shape = shape_of(node.meta["val"])
    dtype = input_dtype(node.meta["val"]) or ...
    fixed = shape[0] if shape and is_static(shape[0]) else ...
    return call(
        "keras.Input",
        input_shape(node),
        batch_size=fixed,
        dtype=dtype,
        name=name if name is not None else ...,
    )


def _function(body: Sequence[ast.stmt]) -> ast.FunctionDef:
    arguments = ast.arguments([], [ast.arg("weights")], None, [], [], None, [ast.Constant(None)])
    return ast.FunctionDef("build_model", arguments, [*body, *_tail()], [])


def _tail() -> list[ast.stmt]:
    tree = ast.parse(
        "def f():\n    if weights is not None:\n        model.load_weights(weights)\n    return model"
    )
    return tree.body[0].body  # type: ignore[attr-defined]


def root_reads(program: Program, node: Any) -> bool:
    """Tell whether the root takes an input as a parameter."""
    live = {p.value for p in program.live_inputs(program.hub.root)}
    return node in live


def _unpack(program: Program, body: list[ast.stmt], result: ast.expr) -> ast.expr:
    """Give the root's results the structure that the source returned."""
    hub = program.hub
    ports = program.live_outputs(hub.root)
    if len(ports) == 1:
        return structure_ast(hub.output_structure, {ports[0].name: result}, "")
    variables = [names.unique(names.local(_result_name(p.name)), set()) for p in ports]
    taken: set[str] = {*input_variables(hub), _ARGUMENT}
    for i, name in enumerate(variables):
        variables[i] = names.unique(name, taken)
        taken.add(variables[i])
    target = ast.Tuple([ast.Name(v, ast.Store()) for v in variables], ast.Store())
    body.append(ast.Assign([target], result))
    values = {p.name: ast.Name(v, ast.Load()) for p, v in zip(ports, variables, strict=True)}
    return structure_ast(hub.output_structure, values, "")


def _result_name(path: str) -> str:
    last = path.rpartition(".")[2]
    return f"output_{path.replace('.', '_')}" if last.isdigit() else last
