"""One walk over a graph with symbolic sizes: shapes become known, branches are chosen, loops unrolled.

Every op runs on fake tensors whose dynamic sizes are symbols. What turns out to be a plain number on the host becomes
a constant; an op that changes nothing disappears; a branch whose predicate is a constant is taken, another becomes a
choice between both results; a loop is recognised (``recurrent.py``) or, with a known number of steps, unrolled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
)

from diglot.errors import BadInput, Problem, Unsupported
from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.dynamic import Axis, are_short, check_equal, equal_sizes
from diglot.frontends.tensorflow.graph import Graph, Node, Out, Variable, const
from diglot.frontends.tensorflow.ops import registry
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.values import Constant, Lacking, Precision, Refused

#: A loop of more steps is not written out.
MAX_STEPS = 256
_IFS = ("If", "StatelessIf", "Case", "StatelessCase")
#: Their last input is a table of sizes.
_TABLES = ("SpaceToBatchND", "BatchToSpaceND", "Pad", "MirrorPad")
_LOOPS = ("While", "StatelessWhile")
_DROPPED = (
    "Identity",
    "PlaceholderWithDefault",
    "EnsureShape",
    "CheckNumerics",
    "Snapshot",
    "ReadVariableOp",
)


class Dead:
    """The value of an edge that no run takes (the other side of a ``Switch``)."""


class Unknown:
    """The value of an op that could not be run; a problem was noted for it."""


@dataclass
class Lowered:
    """A graph without control flow, and the value (fake tensor or host value) of each output of its nodes.

    ``equal`` pairs axes of inputs that the graph needs to be of one size. ``is_short`` where some axis has the size 1
    for the examples' sizes alone.
    """

    graph: Graph
    values: dict[Out, Any] = field(default_factory=dict)
    equal: list[tuple[Axis, Axis]] = field(default_factory=list)
    is_short: bool = False

    def shape(self, out: Out) -> list[Any] | None:
        """The sizes of an output: ints and symbols; ``None`` where it is no tensor."""
        value = self.values.get(out)
        if isinstance(value, torch.Tensor):
            return list(value.shape)
        if isinstance(value, Constant):
            return list(value.array.shape)
        return None

    def constant(self, out: Out) -> np.ndarray | None:
        """The array of an output that is a constant on the host."""
        return values.array_of(self.values.get(out))


class Lowering:
    """Rewrites one graph; see :func:`lower`."""

    def __init__(self, rnn: Callable[[Lowering, Node, list[Out]], list[Out] | None] | None) -> None:
        self.values: dict[Out, Any] = {}
        self.problems: list[Problem] = []
        self.precision = Precision()
        self.mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False), allow_non_fake_inputs=True)
        self._rnn = rnn
        self._names: dict[str, int] = {}
        self._made: dict[Node, Node] = {}
        self._tags: dict[Out, dict[Out, bool]] = {}

    # -- nodes and values ---------------------------------------------------------------------

    def input(self, node: Node, example: torch.Tensor, shape: Sequence[int | None]) -> Out:
        """A placeholder with a fake value; sizes of ``None`` are symbols."""
        sizes = [DimDynamic.STATIC if s is not None else DimDynamic.DYNAMIC for s in shape]
        context = StatelessSymbolicContext(dynamic_sizes=sizes)  # type: ignore[arg-type]
        fake = self.mode.from_tensor(example, symbolic_context=context)
        return self.put(node, fake)[0]

    def put(self, node: Node, *results: Any) -> list[Out]:
        """Note the values of a node's outputs."""
        outs = [Out(node, i) for i in range(len(results))]
        self.values.update(zip(outs, results, strict=True))
        return outs

    def name(self, name: str) -> str:
        """A unique name for a new node, in the scope of the old one."""
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return name if not count else f"{name}__{count}"

    def emit(self, name: str, op: str, inputs: list[Out], **attrs: Any) -> list[Out]:
        """Add a node for an op of the table; its outputs with their values known."""
        return self._run(Node(self.name(name), op, inputs, attrs))

    def plain(self, out: Out) -> list[int] | None:
        """The integers of an output that is known."""
        array = values.array_of(self.values[out])
        return None if array is None or array.dtype.kind not in "iu" else array.ravel().tolist()

    def refuse(self, node: Node, what: str, reason: str) -> list[Out]:
        """Note a problem; the outputs are unknown from here on."""
        self.problems.append(Problem(what, node.name, "", reason))
        return self.put(node, *[Unknown()] * 64)

    # -- the walk -----------------------------------------------------------------------------

    def walk(self, graph: Graph, given: dict[Node, Out]) -> list[Out]:
        """The outputs of ``graph`` with ``given`` in place of its inputs."""
        done: dict[Out, Out] = {Out(n): out for n, out in given.items()}
        made: dict[Node, list[Out]] = {}
        for node in graph.order():
            if node.op == "Input":
                if node not in given:
                    raise BadInput(f"the graph's input {node.name} is not given")
                continue
            inputs = [self._follow(out, done, made) for out in node.inputs]
            made[node] = self._node(node, inputs)
        return [self._follow(out, done, made) for out in graph.outputs]

    def _follow(self, out: Out, done: dict[Out, Out], made: dict[Node, list[Out]]) -> Out:
        if out in done:
            return done[out]
        outs = made[out.node]
        if out.index >= len(outs):
            raise BadInput(
                f"the graph reads output {out.index} of {out.node.name}, which has {len(outs)}; "
                "the file is damaged"
            )
        return outs[out.index]

    def _node(self, node: Node, inputs: list[Out]) -> list[Out]:
        given = [self.values[out] for out in inputs]
        if node.op == "Merge":
            return self._merge(node, inputs, given)
        if any(isinstance(v, Dead) for v in given):
            return self.put(Node(self.name(node.name), node.op), *[Dead()] * 64)
        if any(isinstance(v, Unknown) for v in given):
            return self.put(Node(self.name(node.name), node.op), *[Unknown()] * 64)
        lacking = next((v for v in given if isinstance(v, Lacking)), None)
        if lacking is not None:
            return self.refuse(node, f"the TensorFlow op {node.op}", lacking.reason)
        if node.op in ("Const", "Variable"):
            return self._leaf(node)
        if node.op in _DROPPED:
            return [inputs[0]]
        if node.op in _IFS:
            return self._branch(node, inputs, given)
        if node.op in _LOOPS:
            return self._loop(node, inputs)
        if node.op in ("Switch", "RefSwitch"):
            return self._switch(node, inputs, given)
        if node.op == "IdentityN":
            return inputs
        if node.op == "TensorListStack" and inputs[0].node.op == "TensorListFromTensor":
            return [inputs[0].node.inputs[0]]
        if node.op == "Transpose" and inputs[0].node.op == "Transpose":
            first, then = self.plain(inputs[0].node.inputs[1]), self.plain(inputs[1])
            if first and then and [first[i] for i in then] == list(range(len(first))):
                return [inputs[0].node.inputs[0]]
        if node.op in _TABLES and isinstance(self.values[inputs[-1]], torch.Tensor):
            inputs = [*inputs[:-1], self._flat(inputs[-1])]
        copy = Node(self.name(node.name), node.op, inputs, node.attrs)
        outs = self._run(copy)
        self._tag(outs, inputs)
        return outs

    def _flat(self, out: Out) -> Out:
        """A table of sizes (paddings, by axis) as the list of its numbers, where it is made of lists."""
        node = out.node
        given = [self.values[i] for i in node.inputs]
        if node.op == "StridedSlice":  # all of it, as `table[: len(axes)]` is
            ones = self.plain(node.inputs[3]) == [1] * len(self.plain(node.inputs[3]) or [])
            whole = _shape(self.values[out]) == _shape(given[0])
            return self._flat(node.inputs[0]) if ones and whole else out
        if node.op == "Pack" and all(values.is_host(value) for value in given):
            axis = self.constant(f"{node.name}/axis", np.int32(0))
            return self.emit(f"{node.name}/flat", "ConcatV2", [*node.inputs, axis], **node.attrs)[0]
        return out

    def _leaf(self, node: Node) -> list[Out]:
        if node not in self._made:
            self._made[node] = Node(self.name(node.name), node.op, [], node.attrs)
            copy = self._made[node]
            if node.op == "Const" and node.attrs.get("weight") and is_array(node.value):
                # A frozen variable: it is not folded into other constants, and is trained again.
                copy.op, copy.attrs = (
                    "Variable",
                    {"variable": Variable(node.name, node.value, node=node.attrs.get("node", ""))},
                )
                self.put(copy, self._fake(node.value))
            elif node.op == "Const":
                self.put(copy, Constant(node.value))
            else:
                value = node.attrs["variable"].value
                self.put(copy, self._fake(value))
        return [Out(self._made[node])]

    def _fake(self, array: np.ndarray) -> Any:
        if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
            return Unknown()
        dtype = values.torch_dtype(array.dtype.name, self.precision)
        with self.mode:
            return torch.empty(array.shape, dtype=dtype)

    def _run(self, node: Node) -> list[Out]:
        if node.op not in registry.TABLE:
            reason = registry.REFUSED.get(node.op, "there is no rule for it yet")
            return self.refuse(node, f"the TensorFlow op {node.op}", reason)
        arguments = [self.values[out] for out in node.inputs]
        call = Call(node.name, node.op, node.attrs, self.precision, sizes_only=True)
        try:
            # Without the dispatcher some kernels take symbolic sizes for the example's.
            with self.mode, torch.no_grad(), enable_python_dispatcher():
                result = registry.evaluate(call, [self._real(a) for a in arguments])
        except Refused as error:
            return self.refuse(node, f"the TensorFlow op {node.op}", str(error))
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            return self.refuse(node, f"the TensorFlow op {node.op}", _first_line(error))
        results = list(result) if isinstance(result, tuple) else [result]
        if len(results) == 1:
            return self._kept(node, arguments, results[0])
        return self.put(node, *results)

    def _real(self, value: Any) -> Any:
        """A constant as the table takes it: large ones as fake tensors, whose elements need not be looked at."""
        if isinstance(value, Constant) and value.tensor is None and value.array.size > 64:
            if value.array.dtype.kind == "f":
                value.tensor = self._fake(value.array)
        return value

    def _kept(self, node: Node, arguments: list[Any], result: Any) -> list[Out]:
        """The node, unless it changed nothing or gave plain numbers."""
        for out, argument in zip(node.inputs, arguments, strict=True):
            if result is argument and isinstance(argument, torch.Tensor):
                return [out]
        if isinstance(result, Constant):
            result.tensor = None
        array = values.array_of(result)
        if array is not None and node.op != "Const":
            made = const(node.name, array)
            made.attrs["weight"] = any(o.node.attrs.get("weight") for o in node.inputs)
            self.values[Out(made)] = result
            return [Out(made)]
        return self.put(node, result)

    # -- branches -----------------------------------------------------------------------------

    def _branch(self, node: Node, inputs: list[Out], given: list[Any]) -> list[Out]:
        graphs = (
            [node.attrs["else_branch"], node.attrs["then_branch"]]
            if "then_branch" in node.attrs
            else list(node.attrs["branches"])
        )
        known = values.array_of(given[0])
        if known is not None and known.size == 1:
            at = int(known.reshape(())) if len(graphs) > 2 else int(bool(known.reshape(())))
            at = min(max(at, 0), len(graphs) - 1) if 0 <= at < len(graphs) else len(graphs) - 1
            return self.walk(graphs[at], dict(zip(graphs[at].inputs, inputs[1:], strict=True)))
        if len(graphs) != 2:
            return self.refuse(node, "tf.switch_case", "its index depends on the data")
        sides = [self.walk(g, dict(zip(g.inputs, inputs[1:], strict=True))) for g in graphs]
        return self._choose(node, inputs[0], sides)

    def _choose(self, node: Node, predicate: Out, sides: list[list[Out]]) -> list[Out]:
        """Both sides are computed, and the predicate picks."""
        chosen = []
        for no, yes in zip(*sides, strict=True):
            if no == yes:
                chosen.append(no)
                continue
            shapes = [_shape(self.values[o]) for o in (no, yes)]
            if shapes[0] is None or shapes[1] is None or not values.same_shape(*shapes):  # type: ignore[arg-type]
                return self.refuse(
                    node,
                    "tf.cond",
                    "its predicate depends on the data, and its two results differ in shape",
                )
            some = self.values[yes]
            dtype = some.dtype if isinstance(some, torch.Tensor) else None
            name = str(dtype).removeprefix("torch.") if dtype is not None else "float32"
            chosen += self.emit(f"{node.name}/select", "SelectV2", [predicate, yes, no], T=name)
        return chosen

    def _switch(self, node: Node, inputs: list[Out], given: list[Any]) -> list[Out]:
        known = values.array_of(given[1])
        if known is not None:
            dead = self.put(Node(self.name(f"{node.name}/dead"), "Dead"), Dead())[0]
            return [dead, inputs[0]] if bool(known.reshape(())) else [inputs[0], dead]
        sides = []
        for taken in (False, True):
            side = self.put(
                Node(self.name(node.name), "Identity", [inputs[0]], node.attrs), given[0]
            )[0]
            self._tags[side] = {**self._tags.get(inputs[0], {}), inputs[1]: taken}
            sides.append(side)
        return sides

    def _tag(self, outs: list[Out], inputs: list[Out]) -> None:
        tags = {k: v for out in inputs for k, v in self._tags.get(out, {}).items()}
        if tags:
            self._tags.update((out, tags) for out in outs)

    def _merge(self, node: Node, inputs: list[Out], given: list[Any]) -> list[Out]:
        alive = [o for o, v in zip(inputs, given, strict=True) if not isinstance(v, Dead)]
        if len(alive) == 1:
            return [
                alive[0],
                self.constant(f"{node.name}/index", np.int32(inputs.index(alive[0]))),
            ]
        if not alive:
            return self.put(Node(self.name(node.name), "Dead"), Dead(), Dead())
        if len(alive) == 2:
            one, two = (self._tags.get(o, {}) for o in alive)
            for predicate, side in one.items():
                if two.get(predicate) is (not side):
                    sides = [[alive[1]], [alive[0]]] if side else [[alive[0]], [alive[1]]]
                    chosen = self._choose(node, predicate, sides)
                    rest = {k: v for k, v in {**one, **two}.items() if k != predicate}
                    self._tags[chosen[0]] = rest
                    return [*chosen, self.constant(f"{node.name}/index", np.int32(0))]
        return self.refuse(node, "tf.cond (Switch and Merge)", "its branches cannot be told apart")

    def constant(self, name: str, value: Any) -> Out:
        """A constant node."""
        return self.put(const(self.name(name), value), Constant(np.asarray(value)))[0]

    # -- loops --------------------------------------------------------------------------------

    def _loop(self, node: Node, inputs: list[Out]) -> list[Out]:
        if self._rnn is not None:
            found = self._rnn(self, node, inputs)
            if found is not None:
                return found
        cond, body = node.attrs["cond"], node.attrs["body"]
        state = list(inputs)
        for _ in range(MAX_STEPS + 1):
            before = len(self.problems)
            going = self.walk(cond, dict(zip(cond.inputs, state, strict=True)))[0]
            known = values.array_of(self.values[going])
            if known is None:
                if len(self.problems) > before:
                    return self.put(node, *[Unknown()] * 64)
                return self.refuse(
                    node,
                    "tf.while_loop",
                    "the number of its steps depends on the data or on a dynamic size; fix that size, or "
                    "write the loop as a layer (keras.layers.RNN) or without one",
                )
            if not bool(known.reshape(())):
                return state
            state = self.walk(body, dict(zip(body.inputs, state, strict=True)))
        return self.refuse(node, "tf.while_loop", f"it takes more than {MAX_STEPS} steps")


def _shape(value: Any) -> list[Any] | None:
    if isinstance(value, torch.Tensor):
        return list(value.shape)
    if isinstance(value, Constant):
        return list(value.array.shape)
    if isinstance(value, list):
        return [len(value)]
    return [] if values.is_size(value) else None


def is_array(value: np.ndarray) -> bool:
    """Tell whether a constant may be a weight: floats of at least one axis."""
    return value.ndim > 0 and value.dtype.kind == "f"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def lower(
    graph: Graph,
    examples: Sequence[torch.Tensor],
    shapes: Sequence[Sequence[int | None]],
    rnn: Callable[[Lowering, Node, list[Out]], list[Out] | None] | None = None,
) -> Lowered:
    """``graph`` without control flow, with the values of its edges known.

    ``examples`` are tensors for its inputs, ``shapes`` say which sizes are dynamic (``None``). Raises
    :class:`Unsupported` with everything that cannot be translated.
    """
    registry.load()
    lowering, inputs, outputs = _lower(graph, examples, shapes, rnn, [])
    equal = equal_sizes(lowering.mode.shape_env, [lowering.values[Out(n)] for n in inputs])
    if equal:
        lowering, inputs, outputs = _lower(graph, examples, shapes, rnn, equal)
    if lowering.problems:
        raise Unsupported(lowering.problems)
    for out in outputs:
        value = lowering.values[out]
        if isinstance(value, Lacking):
            raise Unsupported([Problem("an output of the graph", out.node.name, "", value.reason)])
        if isinstance(value, (Dead, Unknown)):
            raise BadInput(f"the output {out.node.name} is never computed")
    return Lowered(
        Graph(inputs, outputs, graph.output_names, graph.name),
        lowering.values,
        equal,
        are_short(lowering.mode.shape_env, lowering.values.values()),
    )


def _lower(
    graph: Graph,
    examples: Sequence[torch.Tensor],
    shapes: Sequence[Sequence[int | None]],
    rnn: Callable[[Lowering, Node, list[Out]], list[Out] | None] | None,
    equal: list[tuple[Axis, Axis]],
) -> tuple[Lowering, list[Node], list[Out]]:
    lowering = Lowering(rnn)
    given = {}
    inputs = []
    for node, example, shape in zip(graph.inputs, examples, shapes, strict=True):
        copy = Node(lowering.name(node.name), "Input", [], node.attrs)
        inputs.append(copy)
        given[node] = lowering.input(copy, example, shape)
    check_equal([lowering.values[Out(n)] for n in inputs], equal)
    return lowering, inputs, lowering.walk(graph, given)
