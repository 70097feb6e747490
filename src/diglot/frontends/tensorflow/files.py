"""SavedModel folders and frozen graphs -> :class:`Graph`, read as data: nothing in them runs.

``tf.saved_model.load`` is not used: it rebuilds the Python objects of the exporter and fails on those it no longer
knows (optimizer slots), though graph and variables are fine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diglot.errors import BadInput
from diglot.frontends.tensorflow.ends import Signature, between, short
from diglot.frontends.tensorflow.graph import Graph, Node, Out, Variable
from diglot.frontends.tensorflow.protobufs import (
    Loader,
    is_read,
    shape_of,
    type_name,
)
from diglot.graph_loops import functional
from diglot.graph_nodes import node_name

_ROOT = 0
#: Ops that weights feed, and at which inputs: their constants in a frozen graph are weights.
_WEIGHTS = {
    "Conv2D": (1,),
    "Conv3D": (1,),
    "DepthwiseConv2dNative": (1,),
    "Conv2DBackpropInput": (1,),
    "Conv3DBackpropInputV2": (1,),
    "MatMul": (0, 1),
    "BatchMatMulV2": (0, 1),
    "BiasAdd": (1,),
    "FusedBatchNorm": (1, 2, 3, 4),
    "FusedBatchNormV2": (1, 2, 3, 4),
    "FusedBatchNormV3": (1, 2, 3, 4),
    "GatherV2": (0,),
    "Gather": (0,),
    "Einsum": (0, 1),
}


def parse(message: Any, path: Path, what: str) -> Any:
    """Fill a protobuf from a file. Raises :class:`BadInput` for a file that is no such thing, or damaged."""
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}", received=str(error)) from error
    except (DecodeError, RecursionError, MemoryError) as error:
        raise BadInput(
            f"{path} is not {what}, or it is damaged",
            received=str(error) or type(error).__name__,
            hint="export the model again; a file that was cut off while copying cannot be read",
        ) from error
    return message


# --- SavedModel --------------------------------------------------------------------------------


def read_saved_model(
    folder: Path,
    signature: str | None = None,
    tags: Sequence[str] | None = None,
    feeds: Sequence[str] | None = None,
    fetches: Sequence[str] | None = None,
) -> tuple[Graph, Signature]:
    """The graph of one signature of a SavedModel folder, TensorFlow 1's or 2's.

    ``signature`` defaults to ``serving_default``, or the only one there is; in its place ``feeds`` and ``fetches`` can
    say between which tensors, as for a frozen graph. Raises :class:`BadInput`.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    if not path.is_file():
        raise BadInput(
            f"{folder} is no SavedModel",
            expected="a file saved_model.pb in it",
            hint="name the folder",
        )
    model = parse(saved_model_pb2.SavedModel(), path, "a SavedModel")
    meta = _meta_graph(model, folder, tags)
    definition = meta.graph_def
    if feeds or fetches:
        chosen, definition = between(definition, feeds, fetches, path)
    else:
        chosen = _signature(meta, folder, signature)
    chosen.tags = list(meta.meta_info_def.tags)
    store = _Variables(folder, meta)
    graph = _read(functional(definition), chosen, store.find, folder)
    chosen.keys = {node: variable.key for node, variable in store.made.items()}
    return graph, chosen


def _meta_graph(model: Any, folder: Path, tags: Sequence[str] | None) -> Any:
    graphs = list(model.meta_graphs)
    if not graphs:
        raise BadInput(
            f"{folder}/saved_model.pb holds no graph; it is damaged", hint="export again"
        )
    wanted = set(tags or ())
    if wanted:
        for graph in graphs:
            if set(graph.meta_info_def.tags) == wanted:
                return graph
        have = "; ".join(", ".join(g.meta_info_def.tags) for g in graphs)
        raise BadInput(
            f"{folder} has no graph with the tags {', '.join(sorted(wanted))}", received=have
        )
    serving = [g for g in graphs if "serve" in g.meta_info_def.tags]
    return (serving or graphs)[0]


def _signature(meta: Any, folder: Path, name: str | None) -> Signature:
    found = {k: s for k, s in meta.signature_def.items() if not k.startswith("__saved_model")}
    if name is None:
        name = (
            "serving_default"
            if "serving_default" in found or len(found) != 1
            else next(iter(found))
        )
    if name not in found:
        raise BadInput(
            f"{folder} has no signature {name!r}",
            received=f"signatures: {', '.join(sorted(found)) or 'none'}",
            hint="choose one by name (--signature NAME, or read_saved_model(folder, NAME)); a SavedModel without "
            "any must be exported with one",
        )
    proto = found[name]
    inputs, outputs = sorted(proto.inputs), sorted(proto.outputs)
    return Signature(
        {k: proto.inputs[k].name for k in inputs},
        {k: proto.outputs[k].name for k in outputs},
        {k: shape_of(proto.inputs[k].tensor_shape) for k in inputs},
        {k: type_name(proto.inputs[k].dtype) for k in inputs},
    )


class _Variables:
    """The variables of a SavedModel: which node of the graph is which, and their values in the checkpoint."""

    def __init__(self, folder: Path, meta: Any) -> None:
        self.folder = folder
        self.meta = meta
        self.objects = meta.object_graph_def
        self.made: dict[str, Variable] = {}
        self.by_node = self._captures() if self.objects.nodes else {}
        self.trainable = _trainable_names(meta)
        self.frozen = _listed(self.objects, "non_trainable_variables")
        self._reader: Any = None
        self._keys: dict[int, str] | None = None

    def find(self, node: Any) -> Variable | None:
        """The variable of a ``VarHandleOp`` or ``VariableV2`` node."""
        if node.name not in self.made:
            made = self._object(node) or self._named(node)
            if made is None:
                return None
            if made.name in {v.name for v in self.made.values()}:
                made.name = node.name
            made.node = node.name
            self.made[node.name] = made
        return self.made[node.name]

    def _captures(self) -> dict[str, int]:
        """Object numbers of the nodes that are handed to functions as captured variables."""
        found: dict[str, int] = {}
        for node in self.meta.graph_def.node:
            function = node.attr["f"].func.name if "f" in node.attr else ""
            if function in self.objects.concrete_functions:
                bound = list(self.objects.concrete_functions[function].bound_inputs)
                inputs = [i for i in node.input if not i.startswith("^")]
                for name, number in zip(inputs[len(inputs) - len(bound) :], bound, strict=False):
                    found[name.split(":")[0]] = number
        return found

    def _object(self, node: Any) -> Variable | None:
        number = self.by_node.get(node.name)
        if number is None or number >= len(self.objects.nodes):
            return None
        proto = self.objects.nodes[number]
        if proto.WhichOneof("kind") != "variable":
            return None
        key = self.keys().get(number)
        if key is None:
            return None
        name = proto.variable.name or key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        return self._value(key, name, bool(proto.variable.trainable) and number not in self.frozen)

    def _named(self, node: Any) -> Variable | None:
        name = node.attr["shared_name"].s.decode("utf-8", "replace") or node.name
        for key in (name, node.name):
            if self.reader().has_tensor(key):
                return self._value(key, key, not self.trainable or key in self.trainable)
        return None

    def _value(self, key: str, name: str, trainable: bool) -> Variable:
        value = self._tensor(key, f"the variable {name}")
        trained = trainable and value.dtype.kind == "f"
        return Variable(name, value, trained, value.dtype.name, key=key)

    def _tensor(self, key: str, what: str) -> Any:
        """A tensor of the checkpoint. Raises :class:`BadInput` where its bytes are damaged."""
        import tensorflow as tf

        try:
            return self.reader().get_tensor(key)
        except (tf.errors.OpError, ValueError, RuntimeError, IndexError, MemoryError) as error:
            raise BadInput(
                f"the value of {what} cannot be read; the checkpoint is damaged",
                where=str(self.folder / "variables"),
                received=str(error).splitlines()[0],
                hint="export the model again",
            ) from error

    def reader(self) -> Any:
        """The checkpoint's reader. Raises :class:`BadInput` where there is no checkpoint."""
        import tensorflow as tf

        if self._reader is None:
            path = self.folder / "variables" / "variables"
            try:
                self._reader = tf.train.load_checkpoint(str(path))
            except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
                raise BadInput(
                    "the variables of the SavedModel cannot be read",
                    where=str(path),
                    received=str(error).splitlines()[0],
                    hint="copy the whole folder, its subfolder variables included",
                ) from error
        return self._reader

    def keys(self) -> dict[int, str]:
        """The checkpoint's key of each object that has a value, found by walking both object graphs together."""
        if self._keys is None:
            self._keys = {}
            name = "_CHECKPOINTABLE_OBJECT_GRAPH"
            if self.reader().has_tensor(name):
                self._keys = _paired(self.objects, self._tensor(name, "the object graph"))
        return self._keys


def _paired(objects: Any, text: bytes) -> dict[int, str]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    tree = trackable_object_graph_pb2.TrackableObjectGraph()
    try:
        tree.ParseFromString(text)
    except DecodeError as error:
        raise BadInput("the checkpoint's object graph is damaged", hint="export again") from error
    keys: dict[int, str] = {}
    pending, seen = [(_ROOT, _ROOT)], set()
    while pending:
        number, other = pending.pop()
        if number in seen or number >= len(objects.nodes) or other >= len(tree.nodes):
            continue
        seen.add(number)
        for attribute in tree.nodes[other].attributes:
            if attribute.name == "VARIABLE_VALUE":
                keys[number] = attribute.checkpoint_key
        children = {c.local_name: c.node_id for c in tree.nodes[other].children}
        pending += [
            (c.node_id, children[c.local_name])
            for c in objects.nodes[number].children
            if c.local_name in children
        ]
    return keys


def _listed(objects: Any, name: str) -> set[int]:
    """The variables in a list of the exported object: Keras lists those of layers that are not trained."""
    if not objects.nodes:
        return set()
    lists = [c.node_id for c in objects.nodes[_ROOT].children if c.local_name == name]
    held = [c for n in lists if n < len(objects.nodes) for c in objects.nodes[n].children]
    return {c.node_id for c in held}


def _trainable_names(meta: Any) -> set[str]:
    """The variables that TensorFlow 1 lists as trained."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import variable_pb2

    names = set()
    for data in (
        meta.collection_def["trainable_variables"].bytes_list.value
        if ("trainable_variables" in meta.collection_def)
        else ()
    ):
        try:
            names.add(variable_pb2.VariableDef.FromString(data).variable_name.split(":")[0])
        except DecodeError:
            continue  # only whether it is trained is lost
    return names


# --- frozen graphs -----------------------------------------------------------------------------


def read_frozen(
    path: Path, feeds: Sequence[str] | None = None, fetches: Sequence[str] | None = None
) -> tuple[Graph, Signature]:
    """A frozen ``GraphDef`` between ``feeds`` and ``fetches`` (tensor names, ``:0`` may be left out).

    ``NAME=VALUE`` among the feeds gives a node a value. Without other feeds the placeholders that the fetches need are
    fed; without fetches what nothing reads is fetched.
    """
    from tensorflow.core.framework import graph_pb2

    definition = parse(graph_pb2.GraphDef(), path, "a frozen graph (GraphDef)")
    if not definition.node:
        raise BadInput(f"{path} holds no node: it is no frozen graph, or it is damaged")
    return from_definition(definition, feeds, fetches, path)


def from_definition(
    definition: Any, feeds: Sequence[str] | None, fetches: Sequence[str] | None, path: Path
) -> tuple[Graph, Signature]:
    """As :func:`read_frozen`, for a ``GraphDef`` that was read already."""
    signature, definition = between(definition, feeds, fetches, path)
    definition = functional(definition)
    _mark_weights(definition)
    return _read(definition, signature, _no_variable(path), path), signature


def _no_variable(path: Path) -> Callable[[Any], Variable | None]:
    def find(node: Any) -> Variable | None:
        raise BadInput(
            f"the graph reads the variable {node.name}, so it is not frozen",
            where=str(path),
            hint="freeze it (convert_variables_to_constants), or give the SavedModel folder",
        )

    return find


def _mark_weights(definition: Any) -> None:
    """Note which constants are weights: frozen variables, by the names of their reads.

    Where a tool has removed these (``…/read``): what feeds layers directly.
    """
    by_name = {n.name: n for n in definition.node}
    reads = [n.name for n in definition.node if n.op == "Identity" and is_read(n.name)]
    held = [_passed_on(name, by_name) for name in (*reads, *_read_within(definition))]
    if not any(node is not None for node in held):
        held = [
            by_name.get(node_name(node.input[position]))
            for node in definition.node
            for position in _WEIGHTS.get(node.op, ())
            if position < len(node.input)
        ]
    for node in held:
        if node is not None and node.op == "Const":
            node.attr["diglot_weight"].b = True


def _passed_on(name: str, by_name: dict[str, Any]) -> Any:
    """The constant that a node is, or hands on unchanged; or ``None``."""
    node = by_name.get(name)
    while node is not None and node.op in ("Identity", "Switch", "Enter") and node.input:
        node = by_name.get(node_name(node.input[0]))
    return node if node is not None and node.op == "Const" else None


def _read_within(definition: Any) -> Iterator[str]:
    """The nodes that branches and loops are given and read as variables."""
    functions = {f.signature.name: f for f in definition.library.function}
    for node in definition.node:
        called = [f.name for v in node.attr.values() for f in (v.func, *v.list.func) if f.name]
        for function in (functions[name] for name in called if name in functions):
            arguments = [a.name for a in function.signature.input_arg]
            inputs = [text for text in node.input if not text.startswith("^")]
            given = dict(zip(arguments[::-1], inputs[::-1], strict=False))
            for inner in function.node_def:
                if inner.op == "Identity" and is_read(inner.name) and inner.input[0] in given:
                    yield node_name(given[inner.input[0]])


# --- both --------------------------------------------------------------------------------------


def _read(
    definition: Any, signature: Signature, find: Callable[[Any], Variable | None], where: Path
) -> Graph:
    loader = Loader(definition.library, find)
    feeds, inputs = {}, []
    for name, tensor in signature.inputs.items():
        attrs = {"dtype": signature.dtypes[name], "shape": signature.shapes[name]}
        inputs.append(Node(name, "Input", [], attrs))
        feeds[short(tensor)] = feeds[tensor] = Out(inputs[-1])
    outputs = loader.graph(definition, feeds, list(signature.outputs.values()))
    loader.check()
    return Graph(inputs, outputs, list(signature.outputs), where.stem)
