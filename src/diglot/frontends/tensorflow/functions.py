"""A ``tf.function``'s concrete function -> :class:`Graph`."""

from __future__ import annotations

from typing import Any

from diglot.frontends.tensorflow.graph import Graph, Node, Out, Variable, const
from diglot.frontends.tensorflow.protobufs import Loader, shape_of, type_name


def read_function(function: Any, names: dict[int, str] | None = None) -> Graph:
    """The graph of a ``ConcreteFunction``. ``names`` names variables by ``id`` of their handle."""
    func_graph = function.graph
    definition = func_graph.as_graph_def()
    variables = {id(v.handle): v for v in func_graph.variables}
    feeds: dict[str, Out] = {}
    loader = Loader(definition.library, lambda node: None)
    for external, placeholder in func_graph.captures:
        feeds[placeholder.op.name] = _captured(
            loader, external, placeholder, variables, names or {}
        )
    captured = set(feeds)
    inputs = []
    for tensor in func_graph.inputs:
        if tensor.op.name not in captured:
            inputs.append(_input(tensor))
            feeds[tensor.op.name] = Out(inputs[-1])
    fetches = [t.name for t in func_graph.outputs]
    outputs = loader.graph(definition, feeds, fetches)
    loader.check()
    return Graph(inputs, outputs, output_names(func_graph), func_graph.name)


def _input(tensor: Any) -> Node:
    shape = shape_of(tensor.shape.as_proto())
    attrs = {"dtype": type_name(tensor.dtype.as_datatype_enum), "shape": shape}
    return Node(tensor.op.name, "Input", [], attrs)


def _captured(
    loader: Loader,
    external: Any,
    placeholder: Any,
    variables: dict[int, Any],
    names: dict[int, str],
) -> Out:
    if id(external) in variables:
        variable = variables[id(external)]
        name = names.get(id(external), variable.name.split(":")[0])
        made = Variable(name, variable.numpy(), bool(variable.trainable), variable.dtype.name)
        known = {v.name: v for v in loader.variables}
        if name in known:
            made.name = f"{name}__{len(known)}"
        return Out(loader.variable_node(made))
    if placeholder.dtype.name in ("resource", "variant"):
        return Out(Node(placeholder.op.name, "HashTableV2"))
    if hasattr(external, "numpy"):
        return Out(const(placeholder.op.name, external.numpy()))
    return Out(Node(placeholder.op.name, "PyFunc"))


def output_names(func_graph: Any) -> list[str]:
    """Names of the outputs, where the function returns a dict."""
    structured = func_graph.structured_outputs
    if isinstance(structured, dict) and len(structured) == len(func_graph.outputs):
        by_tensor = {id(t): k for k, t in structured.items()}
        found = [by_tensor.get(id(t)) for t in func_graph.outputs]
        if all(found):
            return [str(n) for n in found]
    return []


def structure_of(func_graph: Any) -> Any:
    """``"tensor"``, ``"tuple"`` or the names of a dict: what the function returns."""
    names = output_names(func_graph)
    if names:
        return names
    single = len(func_graph.outputs) == 1 and not isinstance(
        func_graph.structured_outputs, (list, tuple, dict)
    )
    return "tensor" if single else "tuple"
