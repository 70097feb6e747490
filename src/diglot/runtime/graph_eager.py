"""A GraphDef run node by node with TensorFlow's own ops, every float32 in it made float64.

TensorFlow's tape differentiates what is run, loops and branches included, since they are run in Python.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from diglot.errors import BadInput
from diglot.graph_nodes import CALLS, VARIABLES, node_name
from diglot.literals import intended
from diglot.runtime.graph_ops import REPLACED, attribute, definition

_MOST_STEPS = 100_000
_OUTPUTS = 64  # of an op that is not run, whose number of outputs nobody asks


class _Dead:
    """What comes out of the side of a ``Switch`` that is not taken."""


_DEAD = _Dead()


class Interpreter:
    """Runs one GraphDef in float64.

    ``held`` gives, by node, the variables that nodes stand for: of variables and of constants alike. A node within a
    function is called ``function:node``.
    """

    def __init__(self, definition: Any, held: Mapping[str, Any]) -> None:
        self.nodes = {node.name: node for node in definition.node}
        self.functions = {f.signature.name: f for f in definition.library.function}
        self.bodies = {n: {d.name: d for d in f.node_def} for n, f in self.functions.items()}
        self.held = held
        self._constants: dict[str, Any] = {}
        self._orders: dict[tuple[str, tuple[str, ...]], list[str]] = {}

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str]) -> list[Any]:
        """The tensors ``fetches`` with ``feeds`` (both by name) in place of others."""
        given = {name.removesuffix(":0"): value for name, value in feeds.items()}
        return self._body("", self.nodes, given, list(fetches))

    # -- bodies -------------------------------------------------------------------------------

    def _call(self, name: str, arguments: Sequence[Any], fixed: Sequence[bool] = ()) -> list[Any]:
        """What a function returns. ``fixed``: which of its arguments are made of constants alone."""
        if name not in self.functions:
            raise BadInput(f"The graph calls the function {name}, which the file does not hold.")
        function = self.functions[name]
        given = {
            argument.name: value
            for argument, value in zip(function.signature.input_arg, arguments, strict=True)
        }
        fetches = [function.ret[result.name] for result in function.signature.output_arg]
        constants = {n for n, is_fixed in zip(given, fixed, strict=False) if is_fixed}
        return self._body(name, self.bodies[name], given, fetches, constants)

    def _body(
        self,
        function: str,
        nodes: Mapping[str, Any],
        given: dict[str, Any],
        fetches: list[str],
        constants: Collection[str] = (),
    ) -> list[Any]:
        made: dict[str, list[Any]] = {}
        fixed = set(constants)
        for name in self._order(function, nodes, given, fetches):
            node = nodes[name]
            read = [t for t in node.input if not t.startswith("^")]
            inputs = [_follow(t, given, made, nodes) for t in read]
            key = f"{function}:{name}" if function else name
            known = [node_name(t) in fixed for t in read]
            made[name] = self._node(node, inputs, key, known)
            if node.op == "Const":
                if key not in self.held:  # a frozen variable is a weight, to the last bit
                    fixed.add(name)
            elif known and all(known):
                fixed.add(name)
                made[name] = [_as_stored(value) for value in made[name]]
        return [_follow(t, given, made, nodes) for t in fetches]

    def _order(
        self, function: str, nodes: Mapping[str, Any], given: Mapping[str, Any], fetches: list[str]
    ) -> list[str]:
        """The nodes that the fetches need, each after its inputs."""
        key = (function, tuple(fetches))
        if key in self._orders:
            return self._orders[key]
        order: dict[str, bool] = {}
        pending = [(text, False) for text in reversed(fetches)]
        while pending:
            text, ready = pending.pop()
            name = node_name(text)
            if text in given or name in given or order.get(name):
                continue
            if name not in nodes:
                raise BadInput(f"The graph reads {name}, which it does not hold.")
            if ready:
                order.pop(name)  # to the end
                order[name] = True
                continue
            if name in order:
                raise BadInput(
                    "The graph has a loop of TensorFlow 1, which cannot be run.", where=name
                )
            order[name] = False
            pending.append((text, True))
            pending += [(t, False) for t in reversed(nodes[name].input) if t[0] != "^"]
        self._orders[key] = list(order)
        return self._orders[key]

    # -- nodes --------------------------------------------------------------------------------

    def _node(self, node: Any, inputs: list[Any], key: str, fixed: Sequence[bool]) -> list[Any]:
        if node.op == "Merge":
            alive = [i for i, value in enumerate(inputs) if value is not _DEAD]
            return [inputs[alive[0]], np.int32(alive[0])] if alive else [_DEAD, _DEAD]
        if any(value is _DEAD for value in inputs):
            return [_DEAD] * _OUTPUTS
        if key in self.held or node.op in VARIABLES:
            return [self._weight(node, key)]
        if node.op == "Const":
            if key not in self._constants:
                self._constants[key] = _constant(node)
            return [self._constants[key]]
        if node.op in CALLS:
            return self._call(node.attr["f"].func.name, inputs, fixed)
        if node.op in self.functions:
            return self._call(node.op, inputs, fixed)
        if node.op in _CONTROL:
            return _CONTROL[node.op](self, node, inputs)
        if node.op in _PLAIN:
            return _PLAIN[node.op](node, inputs)
        replaced = REPLACED[node.op](node, inputs) if node.op in REPLACED else None
        return execute(node, inputs) if replaced is None else replaced

    def _weight(self, node: Any, key: str) -> Any:
        if key not in self.held:
            raise BadInput(f"The file holds no value for the variable {key}.")
        # A resource is the variable itself, to be read later; anything else is its value.
        variable = self.held[key].value
        return variable if node.op == "VarHandleOp" else _read(variable)

    def _if(self, node: Any, inputs: list[Any]) -> list[Any]:
        side = "then_branch" if bool(np.any(_numpy(inputs[0]))) else "else_branch"
        return self._call(node.attr[side].func.name, inputs[1:])

    def _case(self, node: Any, inputs: list[Any]) -> list[Any]:
        branches = node.attr["branches"].list.func
        index = int(_numpy(inputs[0]))
        chosen = branches[index if 0 <= index < len(branches) else -1]
        return self._call(chosen.name, inputs[1:])

    def _while(self, node: Any, inputs: list[Any]) -> list[Any]:
        state = inputs
        for _ in range(_MOST_STEPS):
            (going,) = self._call(node.attr["cond"].func.name, state)
            if not bool(np.any(_numpy(going))):
                return state
            state = self._call(node.attr["body"].func.name, state)
        raise BadInput(f"The loop takes more than {_MOST_STEPS} steps.", where=node.name)

    def _switch(self, node: Any, inputs: list[Any]) -> list[Any]:
        value, taken = inputs[0], bool(_numpy(inputs[1]))
        return [_DEAD, value] if taken else [value, _DEAD]


_CONTROL = {
    "If": Interpreter._if,
    "StatelessIf": Interpreter._if,
    "Case": Interpreter._case,
    "StatelessCase": Interpreter._case,
    "While": Interpreter._while,
    "StatelessWhile": Interpreter._while,
    "Switch": Interpreter._switch,
}


def _numpy(value: Any) -> np.ndarray:
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def _read(value: Any) -> Any:
    """A variable's value; anything else is one."""
    import tensorflow as tf

    return tf.convert_to_tensor(value) if isinstance(value, tf.Variable) else value


def _gather(node: Any, inputs: list[Any]) -> list[Any]:
    import tensorflow as tf

    return [tf.gather(_read(inputs[0]), inputs[1], batch_dims=attribute(node, "batch_dims").i)]


def _shape(node: Any, inputs: list[Any]) -> list[Any]:
    import tensorflow as tf

    return [tf.shape(_read(inputs[0]), tf.as_dtype(attribute(node, "out_type").type))]


_PLAIN = {
    "ReadVariableOp": lambda node, inputs: [_read(inputs[0])],
    "Identity": lambda node, inputs: inputs,
    "PlaceholderWithDefault": lambda node, inputs: inputs,
    "ResourceGather": _gather,
    "VariableShape": _shape,
    "NoOp": lambda node, inputs: [],
}


def _follow(
    text: str,
    given: Mapping[str, Any],
    made: Mapping[str, list[Any]],
    nodes: Mapping[str, Any],
) -> Any:
    """The value that a reference leads to."""
    if text in given:
        return given[text]
    name, *rest = text.split(":")
    if name in given:
        return given[name]
    index = int(rest[-1]) if rest and rest[-1].isdigit() else 0
    if len(rest) == 2:
        counts = _output_counts(nodes[name])
        if counts is not None:
            index += sum(list(counts.values())[: list(counts).index(rest[0])])
    if index >= len(made[name]):
        raise BadInput(f"The graph reads {text}, which does not exist.")
    return made[name][index]


# -- TensorFlow's ops ---------------------------------------------------------------------------------


def _output_counts(node: Any) -> dict[str, int] | None:
    """How many tensors each named output of a node has; None for a function's."""
    known = definition(node.op)
    if known is None:
        return None
    counts = {}
    for output in known.output_arg:
        counts[output.name] = 1
        if output.number_attr:
            counts[output.name] = attribute(node, output.number_attr).i
        elif output.type_list_attr:
            counts[output.name] = len(attribute(node, output.type_list_attr).list.type)
    return counts


def execute(node: Any, inputs: list[Any]) -> list[Any]:
    """One op of TensorFlow on its inputs, its float32 made float64, noted for the gradient.

    Raises BadInput for an op that TensorFlow does not have in float64.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context
    from tensorflow.python.eager import execute as eager

    known, counts = definition(node.op), _output_counts(node)
    if known is None or counts is None:
        raise BadInput(f"TensorFlow has no op {node.op}.", where=node.name)
    attrs: list[Any] = []
    for attr in known.attr:
        value = attribute(node, attr.name)
        if value.WhichOneof("value"):
            attrs += [attr.name, _attribute(value)]
    tensors = [tf.convert_to_tensor(value) for value in inputs]
    try:
        made = eager.execute(
            node.op, sum(counts.values()), tensors, tuple(attrs), context.context()
        )
    except (tf.errors.NotFoundError, tf.errors.UnimplementedError, TypeError) as error:
        text = str(error).splitlines()[0]
        raise BadInput(
            f"TensorFlow does not have the op {node.op} in float64: {text}", where=node.name
        ) from error
    results = list(made) if isinstance(made, (list, tuple)) else [made]
    if eager.must_record_gradient():
        eager.record_gradient(node.op, tensors, tuple(attrs), results)
    if any(result.dtype == tf.float32 for result in results):
        raise BadInput(f"TensorFlow computes the op {node.op} in float32 only.", where=node.name)
    return results


def _attribute(value: Any) -> Any:
    """An attribute as TensorFlow's eager mode takes it."""
    kind = value.WhichOneof("value")
    if kind == "type":
        return _wide(value.type)
    if kind == "shape":
        return _sizes(value.shape)
    if kind == "func":
        return value.func.name
    if kind == "list":
        found = value.list
        return (
            [_wide(item) for item in found.type]
            or [_sizes(item) for item in found.shape]
            or list(found.s or found.i or found.f or found.b)
        )
    return getattr(value, str(kind))


def _sizes(shape: Any) -> list[int | None] | None:
    if shape.unknown_rank:
        return None
    return [None if axis.size < 0 else axis.size for axis in shape.dim]


def _wide(dtype: int) -> int:
    """The number of a dtype, that of a narrow one replaced."""
    import tensorflow as tf

    wider = {tf.float32: tf.float64, tf.complex64: tf.complex128}
    return wider.get(tf.as_dtype(dtype), tf.as_dtype(dtype)).as_datatype_enum


def _as_stored(value: Any) -> Any:
    """A table that is computed from constants alone, with the 32 bits in which a translation keeps it."""
    import tensorflow as tf

    if isinstance(value, tf.Tensor) and value.dtype == tf.float64 and value.shape.rank:
        return tf.cast(tf.cast(value, tf.float32), tf.float64)
    return value


def _constant(node: Any) -> Any:
    import tensorflow as tf

    array = tf.make_ndarray(node.attr["value"].tensor)
    if array.dtype == np.float32:
        array = np.asarray(array, np.float64) if array.ndim else np.float64(intended(array[()]))
    elif array.dtype == np.complex64:
        array = array.astype(np.complex128)
    return tf.constant(array)
