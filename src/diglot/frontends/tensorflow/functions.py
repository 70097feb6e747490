"""A ``tf.function``'s concrete function -> :class:`Graph`, and its folder, from which it can be run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diglot.frontends.tensorflow.graph import Graph, Node, Out, Variable, const
from diglot.frontends.tensorflow.protobufs import Loader, shape_of, type_name


def read_function(
    function: Any, names: dict[int, str] | None = None, fed: Sequence[Any] = ()
) -> Graph:
    """The graph of a ``ConcreteFunction``. ``names`` names variables by ``id`` of their handle.

    ``fed`` are placeholders within it that are inputs, too, after its own.
    """
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
    for tensor in (*func_graph.inputs, *fed):
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
        made.node, made.key = placeholder.op.name, made.name
        return Out(loader.variable_node(made))
    if placeholder.dtype.name in ("resource", "variant"):
        return Out(Node(placeholder.op.name, "HashTableV2"))
    if hasattr(external, "numpy"):
        held = const(placeholder.op.name, external.numpy())
        held.attrs["node"] = placeholder.op.name
        return Out(held)
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
    """What the function returns, as :func:`diglot.graph_ends.returned` takes it."""
    import tensorflow as tf

    returned = func_graph.structured_outputs
    if not isinstance(returned, (list, tuple, dict)) and len(func_graph.outputs) == 1:
        return "tensor"
    if len(tf.nest.flatten(returned)) != len(func_graph.outputs):
        return "tuple"
    if isinstance(returned, dict) and output_names(func_graph):
        return output_names(func_graph)
    if isinstance(returned, (list, tuple)) and not any(tf.nest.is_nested(r) for r in returned):
        return "tuple"
    numbers = iter(range(len(func_graph.outputs)))
    return {"nest": _plain(tf.nest.map_structure(lambda _: next(numbers), returned))}


def _plain(nest: Any) -> Any:
    """A nest of plain dicts and lists."""
    if isinstance(nest, dict):
        return {str(key): _plain(value) for key, value in nest.items()}
    return [_plain(value) for value in nest] if isinstance(nest, (list, tuple)) else nest


def save(function: Any, graph: Graph, folder: Path) -> dict[str, Any]:
    """Write a concrete function as a SavedModel of TensorFlow 1's kind: its nodes, and the variables that it reads.

    ``graph`` is what :func:`read_function` made of it. Returns where it can be run: {path, tags, feeds, fetches, keys}.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    func_graph = function.graph
    variables = [n.attrs["variable"] for n in graph.order() if n.op == "Variable"]
    captured = {placeholder.op.name: external for external, placeholder in func_graph.captures}
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta = model.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.graph_def.CopyFrom(func_graph.as_graph_def())
    held = {variable.node: variable for variable in variables}
    for node in meta.graph_def.node:
        if node.name in held:
            _handle(node, held[node.name])
        elif hasattr(captured.get(node.name), "numpy") and node.attr["dtype"].type not in _NO_ARRAY:
            _constant(node, captured[node.name].numpy())
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    if variables:
        (folder / "variables").mkdir(exist_ok=True)
        tf.raw_ops.SaveV2(
            prefix=str(folder / "variables" / "variables"),
            tensor_names=[variable.key for variable in variables],
            shape_and_slices=[""] * len(variables),
            tensors=[tf.constant(variable.value) for variable in variables],
        )
    inputs = [t.name for t in func_graph.inputs if t.op.name not in captured]
    return {
        "path": str(folder.absolute()),
        "tags": ["serve"],
        "feeds": inputs,
        "fetches": [t.name for t in func_graph.outputs],
        "keys": {variable.node: variable.key for variable in variables},
    }


#: DT_RESOURCE and DT_VARIANT
_NO_ARRAY = (20, 21)


def _handle(node: Any, variable: Variable) -> None:
    import tensorflow as tf

    for key in list(node.attr):
        del node.attr[key]
    node.op = "VarHandleOp"
    node.attr["dtype"].type = tf.as_dtype(variable.dtype).as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tf.TensorShape(variable.value.shape).as_proto())
    node.attr["shared_name"].s = variable.key.encode()


def _constant(node: Any, value: Any) -> None:
    import tensorflow as tf

    for key in list(node.attr):
        del node.attr[key]
    node.op = "Const"
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype
