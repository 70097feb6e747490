"""Loops of TensorFlow 1 as TensorFlow 2 writes them: one ``While`` with a function for its condition and its body.

TensorFlow 1 built a loop of single nodes in a frame (``Enter``, ``Merge``, ``LoopCond``, ``Switch``, ``NextIteration``,
``Exit``) and kept rows in a ``TensorArray``, a resource with a number that says in what order it is used. Here both
become values that flow: functions of the library, and tensor lists. What is irregular stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diglot.graph_nodes import node_name

_ENTERS = ("Enter", "RefEnter")
_NEXT = ("NextIteration", "RefNextIteration")
_EXITS = ("Exit", "RefExit")
_SWITCHES = ("Switch", "RefSwitch")
_MERGES = ("Merge", "RefMerge")
_VARIANT = 21  # DT_VARIANT


def functional(definition: Any) -> Any:
    """A ``GraphDef`` with its loops as functions; the same one where it has none."""
    from tensorflow.core.framework import graph_pb2

    ops = {node.op for node in definition.node}
    if not ops & {*_ENTERS, "TensorArrayV3"}:
        return definition
    made = graph_pb2.GraphDef()
    made.CopyFrom(definition)
    _as_lists(made)
    irregular: set[str] = set()
    while True:  # each rewriting gives a new list of nodes
        frames = [frame for frame in _frames(made) if frame.name not in irregular]
        if not frames:
            return made
        loop = _Loop.of(frames[0], made)
        if loop is None or not loop.write(made):
            irregular.add(frames[0].name)


def _data(node: Any) -> list[str]:
    return [text for text in node.input if not text.startswith("^")]


# --- frames ------------------------------------------------------------------------------------


@dataclass
class _Frame:
    """The nodes of a loop by name, those that enter it included and those that leave it not."""

    name: str
    nodes: dict[str, Any] = field(default_factory=dict)
    exits: list[Any] = field(default_factory=list)
    parent: str = ""


def _frames(definition: Any) -> list[_Frame]:
    """The loops of a graph, each after those within it."""
    users: dict[str, list[Any]] = {}
    for node in definition.node:
        for text in node.input:
            users.setdefault(node_name(text), []).append(node)
    frames: dict[str, _Frame] = {}
    pending: list[tuple[Any, _Frame]] = []
    for node in definition.node:
        if node.op in _ENTERS:
            name = node.attr["frame_name"].s.decode("utf-8", "replace")
            pending.append((node, frames.setdefault(name, _Frame(name))))
    while pending:
        node, frame = pending.pop()
        if node.name in frame.nodes:
            continue
        frame.nodes[node.name] = node
        for user in users.get(node.name, ()):
            if user.op in _ENTERS:
                frames[user.attr["frame_name"].s.decode("utf-8", "replace")].parent = frame.name
            elif user.op in _EXITS:
                if user not in frame.exits:
                    frame.exits.append(user)
            else:
                pending.append((user, frame))
        if not pending:  # what an inner loop gives belongs to the one around it
            for inner in frames.values():
                around = frames.get(inner.parent)
                if around is not None:
                    pending += [(n, around) for n in inner.exits if n.name not in around.nodes]
    return sorted(frames.values(), key=lambda f: -_depth(f, frames))


def _depth(frame: _Frame, frames: dict[str, _Frame]) -> int:
    depth, seen = 0, {frame.name}
    while frame.parent in frames and frame.parent not in seen:
        frame = frames[frame.parent]
        seen.add(frame.name)
        depth += 1
    return depth


class _Irregular(Exception):
    """A frame that is no loop as TensorFlow's own functions write them."""


@dataclass
class _Loop:
    """A loop: its variables, in order, and what stays the same in all steps."""

    frame: _Frame
    condition: str
    starts: list[str]
    following: list[str]
    merges: list[str]
    switches: dict[str, int]
    constants: list[Any]
    types: list[int]
    loose: dict[str, Any]  # constants of the graph, which a tool may have cut off from the frame

    @classmethod
    def of(cls, frame: _Frame, definition: Any) -> _Loop | None:
        """The loop of a frame; ``None`` for an irregular one."""
        conditions = [n for n in frame.nodes.values() if n.op == "LoopCond"]
        if len(conditions) != 1:
            return None
        loose = {n.name: n for n in definition.node if n.op == "Const"}
        loop = cls(frame, _data(conditions[0])[0], [], [], [], {}, [], [], loose)
        entered: set[str] = set()
        for node in (n for n in definition.node if n.name in frame.nodes and n.op in _MERGES):
            enter, back, *_ = [frame.nodes.get(node_name(t)) for t in _data(node)] + [None, None]
            if enter is None or back is None or enter.op not in _ENTERS or back.op not in _NEXT:
                continue
            entered.add(enter.name)
            loop.starts.append(_data(enter)[0])
            loop.following.append(_data(back)[0])
            loop.merges.append(node.name)
            loop.types.append(enter.attr["T"].type)
        for node in frame.nodes.values():
            given = _data(node)
            if node.op in _SWITCHES and node_name(given[1]) == conditions[0].name:
                if node_name(given[0]) not in loop.merges:
                    return None
                loop.switches[node.name] = loop.merges.index(node_name(given[0]))
        enters = [n for n in definition.node if n.name in frame.nodes and n.op in _ENTERS]
        loop.constants = [n for n in enters if n.name not in entered]
        return loop

    def write(self, definition: Any) -> bool:
        """Put a ``While`` and its functions in place of the frame's nodes; ``False``: it is irregular, and left."""
        from tensorflow.core.framework import function_pb2

        name = self.frame.name.removesuffix("/while_context")
        functions = [function_pb2.FunctionDef(), function_pb2.FunctionDef()]
        try:
            used: set[str] = set()
            cond = self._closure([self.condition], used)
            body = self._closure(self.following, used)
            exits = [(node, self._left(node)) for node in self.frame.exits]
        except _Irregular:
            return False
        constants = [n for n in self.constants if n.name in used]
        types = [*self.types, *(n.attr["T"].type for n in constants)]
        arguments = self._arguments(constants)
        loop = definition.node.add(name=_unused(f"{name}/While", definition), op="While")
        results = [self._named(text, arguments) for text in self.following]
        results += [arguments[n.name] for n in constants]
        for function, key, nodes, fetched, kinds in (
            (functions[0], "cond", cond, [self._named(self.condition, arguments)], [10]),
            (functions[1], "body", body, results, types),
        ):
            function.signature.name = f"{loop.name}/{key}"
            for i, kind in enumerate(types):
                function.signature.input_arg.add(name=f"arg_{i}", type=kind)
            for i, (kind, text) in enumerate(zip(kinds, fetched, strict=True)):
                function.signature.output_arg.add(name=f"result_{i}", type=kind)
                function.ret[f"result_{i}"] = text
            function.node_def.extend(self._copies(nodes, arguments))
            loop.attr[key].func.name = function.signature.name
        loop.input.extend([*self.starts, *(_data(n)[0] for n in constants)])
        loop.attr["T"].list.type.extend(types)
        definition.library.function.extend(functions)
        for node, position in exits:
            node.op = "Identity"
            node.input[:] = [f"{loop.name}:{position}"]
        kept = [n for n in definition.node if n.name not in self.frame.nodes]
        left = [_copied(n) for n in kept]
        del definition.node[:]
        definition.node.extend(left)
        return True

    def _arguments(self, constants: Sequence[Any]) -> dict[str, str]:
        """The argument of both functions that stands for a node of the frame."""
        found = {merge: f"arg_{i}" for i, merge in enumerate(self.merges)}
        found.update({switch: f"arg_{i}" for switch, i in self.switches.items()})
        first = len(self.merges)
        return {**found, **{n.name: f"arg_{first + i}" for i, n in enumerate(constants)}}

    def _left(self, node: Any) -> int:
        """Which of the loop's variables a node that leaves it gives."""
        text = _data(node)[0]
        if node_name(text) not in self.switches or ":1" in text:
            raise _Irregular
        return self.switches[node_name(text)]

    def _closure(self, wanted: Iterable[str], used: set[str]) -> list[Any]:
        """What ``wanted`` is computed of within a step; ``used`` collects the nodes that bring values in."""
        constants = {n.name for n in self.constants}
        found: dict[str, Any] = {}
        pending = list(wanted)
        while pending:
            name = node_name(pending.pop())
            if name in self.merges or name in self.switches:
                continue
            if name in constants:
                used.add(name)
                continue
            if name in found:
                continue
            node = self.frame.nodes.get(name) or self.loose.get(name)
            if node is None or node.op in (*_ENTERS, *_NEXT, "LoopCond"):
                raise _Irregular
            found[name] = node
            pending += _data(node)
        return list(found.values())

    def _copies(self, nodes: Iterable[Any], arguments: dict[str, str]) -> list[Any]:
        copies = []
        for node in nodes:
            copy = _copied(node)
            copy.input[:] = [self._named(text, arguments) for text in _data(node)]
            copies.append(copy)
        return copies

    def _named(self, text: str, arguments: dict[str, str]) -> str:
        return arguments.get(node_name(text), text)


def _copied(node: Any) -> Any:
    made = type(node)()
    made.CopyFrom(node)
    return made


def _unused(name: str, definition: Any) -> str:
    taken = {node.name for node in definition.node}
    taken |= {f.signature.name for f in definition.library.function}
    found, count = name, 1
    while found in taken or f"{found}/body" in taken:
        count += 1
        found = f"{name}_{count}"
    return found


# --- tensor arrays -----------------------------------------------------------------------------


def _as_lists(definition: Any) -> None:
    """Rewrite the ops of tensor arrays as those of tensor lists: what a list holds flows where its number did."""
    by_name = {node.name: node for node in definition.node}
    arrays = {n.name for n in definition.node if n.op == "TensorArrayV3"}
    if not all(_plain(node, by_name) for node in definition.node):
        return
    shapes: list[Any] = []
    for node in list(definition.node):
        given = _data(node)
        if node.op == "TensorArrayV3":
            shapes.append(_shape_of(node))
            _become(node, "TensorListReserve", [shapes[-1].name, given[0]], "dtype")
        elif node.op in _LIST_OPS:
            op, order = _LIST_OPS[node.op]
            inputs = [given[i] for i in order]
            if op in ("TensorListFromTensor", "TensorListGetItem", "TensorListStack"):
                shapes.append(_shape_of(node))
                inputs.append(shapes[-1].name)
            _become(node, op, inputs, "T" if "T" in node.attr else "dtype")
    definition.node.extend(shapes)
    for node in definition.node:
        texts = [
            text.removesuffix(":1") if node_name(text) in arrays else text for text in node.input
        ]
        if texts != list(node.input):
            node.input[:] = texts


#: What an op of tensor arrays becomes, and which of its inputs that takes, in order.
_LIST_OPS = {
    "TensorArrayScatterV3": ("TensorListFromTensor", (2,)),
    "TensorArrayReadV3": ("TensorListGetItem", (2, 1)),
    "TensorArrayWriteV3": ("TensorListSetItem", (3, 1, 2)),
    "TensorArrayGatherV3": ("TensorListStack", (2,)),
    "TensorArraySizeV3": ("TensorListLength", (1,)),
}


def _plain(node: Any, by_name: dict[str, Any]) -> bool:
    """Tell whether an op of tensor arrays is one that lists have: all rows are read or written, in order."""
    if node.op in ("TensorArrayV3", "TensorArrayCloseV3") or not node.op.startswith("TensorArray"):
        return True
    if node.op not in _LIST_OPS:
        return False
    if node.op in ("TensorArrayScatterV3", "TensorArrayGatherV3"):
        rows = by_name.get(node_name(_data(node)[1]))
        if rows is None or rows.op != "Range":
            return False
        start, _, step = (by_name.get(node_name(text)) for text in _data(rows))
        return _is_number(start, 0) and _is_number(step, 1)
    return True


def _is_number(node: Any, number: int) -> bool:
    import tensorflow as tf

    if node is None or node.op != "Const":
        return False
    return bool((tf.make_ndarray(node.attr["value"].tensor) == number).all())


def _shape_of(node: Any) -> Any:
    """A constant node: the sizes of a list's elements as far as a node says them."""
    import tensorflow as tf

    known = "element_shape" in node.attr and not node.attr["element_shape"].shape.unknown_rank
    sizes = [axis.size for axis in node.attr["element_shape"].shape.dim] if known else -1
    made = type(node)(name=f"{node.name}/element_shape", op="Const")
    made.attr["dtype"].type = tf.int32.as_datatype_enum
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(sizes, tf.int32))
    return made


def _become(node: Any, op: str, inputs: Sequence[str], kind: str) -> None:
    """Let a node be another op on tensors of the dtype that its attribute ``kind`` gives."""
    import tensorflow as tf

    dtype = node.attr[kind].type
    for key in list(node.attr):
        del node.attr[key]
    node.op = op
    node.input[:] = list(inputs)
    if op != "TensorListLength":
        node.attr["element_dtype"].type = dtype
    if op in ("TensorListReserve", "TensorListFromTensor"):
        node.attr["shape_type"].type = tf.int32.as_datatype_enum
