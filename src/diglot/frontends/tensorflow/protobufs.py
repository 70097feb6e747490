"""GraphDef protobufs -> :class:`~diglot.frontends.tensorflow.graph.Graph`. Nothing is executed or imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diglot.errors import BadInput, Problem, Unsupported
from diglot.frontends.tensorflow.graph import Graph, Node, Out, Variable
from diglot.graph_nodes import CALLS, VARIABLES, node_name

_UPDATES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
#: Attributes that name a function of the library, for the ops that run one under a condition.
_BRANCHES = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
    "Case": ("branches",),
    "StatelessCase": ("branches",),
}


def type_name(number: int) -> str:
    """The name of a ``DataType`` (``float32``, ``resource``, …)."""
    import tensorflow as tf

    try:
        return tf.dtypes.as_dtype(int(number)).base_dtype.name
    except TypeError:
        return f"unknown type {number}"


def tensor_value(proto: Any, where: str) -> np.ndarray:
    """The array of a ``TensorProto``. Raises :class:`BadInput` where its bytes do not fit its shape."""
    import tensorflow as tf

    try:
        return np.asarray(tf.make_ndarray(proto))
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise BadInput(
            "a constant of the graph cannot be read; the file is damaged",
            where=where,
            received=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="export the model again",
        ) from error


def shape_of(proto: Any) -> list[int | None] | None:
    """A ``TensorShapeProto`` as a list (``None``: a size that is not fixed), or ``None`` for an unknown rank."""
    if proto.unknown_rank:
        return None
    return [None if d.size < 0 else int(d.size) for d in proto.dim]


def _attribute(value: Any, where: str) -> Any:
    kind = value.WhichOneof("value")
    if kind == "s":
        return value.s.decode("utf-8", "replace")
    if kind == "type":
        return type_name(value.type)
    if kind == "shape":
        return shape_of(value.shape)
    if kind == "tensor":
        return tensor_value(value.tensor, where)
    if kind == "func":
        return value.func.name
    if kind == "list":
        items = value.list
        return (
            [s.decode("utf-8", "replace") for s in items.s]
            or [type_name(t) for t in items.type]
            or [shape_of(s) for s in items.shape]
            or [f.name for f in items.func]
            or [float(f) for f in items.f]
            or [bool(b) for b in items.b]
            or [int(i) for i in items.i]
        )
    return getattr(value, kind) if kind else None


def op_definition(op: str) -> Any:
    """TensorFlow's own definition of an op, or ``None``."""
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op)


def _output_offset(definition: Any, node: Any, output: str | None) -> int:
    """Where a named output begins in the flat list of a node's outputs; for ``None`` where the list ends."""
    offset = 0
    for arg in definition.output_arg:
        if arg.name == output:
            return offset
        if arg.number_attr:
            offset += int(node.attr[arg.number_attr].i)
        elif arg.type_list_attr:
            offset += len(node.attr[arg.type_list_attr].list.type)
        else:
            offset += 1
    if output is None:
        return offset
    raise BadInput(
        f"the op {node.op} has no output {output!r}; the file is damaged", where=node.name
    )


def output_count(node: Any) -> int | None:
    """How many outputs a node definition has; ``None`` for an op that TensorFlow does not know."""
    definition = op_definition(node.op)
    if definition is None:
        return None
    return _output_offset(definition, node, None)


class Loader:
    """Turns node definitions into nodes, inlining the functions that they call.

    ``variable_of`` gives the variable of a ``VarHandleOp`` or ``VariableV2`` node by name; ``problems`` collects
    what cannot be translated.
    """

    def __init__(self, library: Any, variable_of: Callable[[Any], Variable | None]) -> None:
        self.functions = {f.signature.name: f for f in library.function}
        self.variable_of = variable_of
        self.problems: list[Problem] = []
        self.variables: dict[Variable, Node] = {}
        self._names: dict[str, int] = {}
        self._open: list[str] = []

    # -- entry points -------------------------------------------------------------------------

    def graph(self, definition: Any, feeds: dict[str, Out], fetches: Sequence[str]) -> list[Out]:
        """The outputs ``fetches`` (``name`` or ``name:0``) of a ``GraphDef``, with ``feeds`` in place of nodes."""
        return self._body(definition.node, feeds, [f.removeprefix("^") for f in fetches], "")

    def function(self, name: str, args: Sequence[Out], prefix: str = "") -> list[Out]:
        """The outputs of a function of the library on ``args``."""
        function = self._function(name)
        if len(args) != len(function.signature.input_arg):
            raise BadInput(
                f"the function {name} takes {len(function.signature.input_arg)} arguments, "
                f"it is called with {len(args)}; the file is damaged"
            )
        self._refuse_updates(function)
        given = {a.name: out for a, out in zip(function.signature.input_arg, args, strict=True)}
        fetches = [function.ret.get(a.name, "") for a in function.signature.output_arg]
        self._open.append(name)
        try:
            return self._body(function.node_def, given, fetches, prefix)
        finally:
            self._open.pop()

    def subgraph(self, name: str) -> Graph:
        """A function of the library as a graph of its own (a loop's body, a branch)."""
        function = self._function(name)
        inputs = [
            Node(f"{name}/{a.name}", "Input", [], {"dtype": type_name(a.type)})
            for a in function.signature.input_arg
        ]
        outputs = self.function(name, [Out(n) for n in inputs])
        names = [a.name for a in function.signature.output_arg]
        return Graph(inputs, outputs, names, name)

    def check(self) -> None:
        """Raise :class:`Unsupported` when something was met that cannot be translated."""
        if self.problems:
            raise Unsupported(self.problems)

    def _function(self, name: str) -> Any:
        if name not in self.functions:
            raise BadInput(f"the graph calls the function {name!r}, which the file does not hold")
        if name in self._open:
            raise Unsupported(
                [Problem("a recursive tf.function", name, "", "rewrite the recursion as a loop")]
            )
        return self.functions[name]

    def _refuse_updates(self, function: Any) -> None:
        """Note updates of variables: they run beside what is returned, and would be lost without a word."""
        for node in function.node_def:
            if node.op in _UPDATES and type_name(node.attr["dtype"].type).startswith("float"):
                reason = (
                    "it changes a variable while the model runs; export the model for inference"
                )
                self.problems.append(Problem(f"the TensorFlow op {node.op}", node.name, "", reason))

    # -- bodies -------------------------------------------------------------------------------

    def _body(
        self, definitions: Any, given: dict[str, Out], fetches: list[str], prefix: str
    ) -> list[Out]:
        by_name = {d.name: d for d in definitions}
        done: dict[str, list[Out] | Node] = {}
        stack = [(node_name(f), False) for f in reversed(fetches)]
        open_nodes: set[str] = set()
        while stack:
            name, ready = stack.pop()
            if name in done or name in given:
                continue
            if name not in by_name:
                raise BadInput(
                    f"the graph reads {name!r}, which it does not hold",
                    hint="check the names of the feeds and fetches; or the file is damaged",
                )
            definition = by_name[name]
            needs = [node_name(i) for i in definition.input if not i.startswith("^")]
            if ready:
                open_nodes.discard(name)
                inputs = [
                    self._resolve(i, given, done, by_name)
                    for i in definition.input
                    if not i.startswith("^")
                ]
                done[name] = self._node(definition, inputs, prefix)
                continue
            if name in open_nodes:
                self._refuse_loop(definition)
            open_nodes.add(name)
            stack.append((name, True))
            stack.extend((n, False) for n in reversed(needs) if n not in done and n not in given)
        return [self._resolve(f, given, done, by_name) for f in fetches]

    def _refuse_loop(self, definition: Any) -> None:
        raise Unsupported(
            [
                Problem(
                    "a loop of TensorFlow 1 (Enter, NextIteration, Exit)",
                    definition.name,
                    "",
                    "export the model with control flow v2 (tf.compat.v1.enable_control_flow_v2)",
                )
            ]
        )

    def _resolve(
        self, text: str, given: dict[str, Out], done: dict, by_name: dict[str, Any]
    ) -> Out:
        if text in given:
            return given[text]
        name, *rest = text.split(":")
        index = int(rest[-1]) if rest and rest[-1].isdigit() else 0
        if name in given:
            return given[name]
        if len(rest) == 2:
            definition = op_definition(by_name[name].op)
            if definition is not None:
                index += _output_offset(definition, by_name[name], rest[0])
        made = done[name]
        if isinstance(made, Node):
            return Out(made, index)
        if index >= len(made):
            raise BadInput(f"the graph reads {text!r}, which does not exist; the file is damaged")
        return made[index]

    def _node(self, definition: Any, inputs: list[Out], prefix: str) -> Node | list[Out]:
        name = definition.name if not prefix else f"{prefix}/{definition.name}"
        op = definition.op
        if op in CALLS or op in self.functions:
            inner = definition.attr["f"].func.name if op in CALLS else op
            scope = name.rpartition("/")[0]
            return self.function(inner, inputs, self._prefix(inner, scope))
        known = op_definition(op)
        if known is None:
            self.problems.append(
                Problem(f"the op {op}", name, "", "TensorFlow does not know it: a custom op")
            )
            return Node(self._unique(name), op, inputs)
        if op in VARIABLES:
            variable = self.variable_of(definition)
            if variable is None:
                raise BadInput(f"the file holds no value for the variable {definition.name}")
            return self.variable_node(variable)
        if op == "ReadVariableOp" and inputs[0].node.op == "Variable":
            return [inputs[0]]
        if op in ("Identity", "CopyOnRead", "DisableCopyOnRead") and inputs:
            return [self._read(definition.name, inputs[0])]
        return self._plain_node(definition, known, inputs, name)

    def _plain_node(self, definition: Any, known: Any, inputs: list[Out], name: str) -> Node:
        attrs = {
            a.name: _attribute(a.default_value, name)
            for a in known.attr
            if a.HasField("default_value")
        }
        attrs.update({k: _attribute(v, name) for k, v in definition.attr.items() if k[0] != "_"})
        attrs["weight"] = attrs.pop("diglot_weight", False)
        op = definition.op
        if op == "Const":
            held = self._open[-1:]  # the function that it is in
            attrs["node"] = ":".join([*held, definition.name])
        for key in _BRANCHES.get(op, ()):
            names = attrs[key] if isinstance(attrs[key], list) else [attrs[key]]
            graphs = [self.subgraph(n) for n in names]
            attrs[key] = graphs if isinstance(attrs[key], list) else graphs[0]
        if op in ("Placeholder", "PlaceholderV2"):
            raise BadInput(
                f"the outputs need the placeholder {name}, which is not among the feeds",
                hint=f"name {name} among the feeds",
            )
        return Node(self._unique(name), op, inputs, attrs)

    def variable_node(self, variable: Variable) -> Node:
        """The one node that stands for a variable's value."""
        if variable not in self.variables:
            self.variables[variable] = Node(
                self._unique(variable.name), "Variable", [], {"variable": variable}
            )
        return self.variables[variable]

    def _read(self, name: str, out: Out) -> Out:
        """An identity is nothing; that of a frozen variable (``kernel/read``) marks its constant as a weight."""
        if out.node.op == "Const" and is_read(name):
            out.node.attrs["weight"] = True
        return out

    def _prefix(self, function: str, scope: str) -> str:
        """The scope that the nodes of an inlined function are in: the call's, unless their names hold it."""
        if not scope:
            return ""
        first = scope.split("/")[0]
        body = self._function(function).node_def
        held = any(d.name.startswith(scope + "/") or d.name.startswith(first + "/") for d in body)
        return "" if held else scope

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if not count else f"{name}__{count}"


_READ = re.compile(r"(^|/)(read|ReadVariableOp)(_\d+)?$")


def is_read(name: str) -> bool:
    """Tell whether an identity of this name is the read of a variable."""
    return bool(_READ.search(name))
