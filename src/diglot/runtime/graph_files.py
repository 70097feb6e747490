"""A TensorFlow graph as it lies in a translation's folder: kept there, read again, and run by TensorFlow itself.

`original` of translation.json tells of it: {"kind": "graph", "path": where it came from, "tags": a SavedModel's or None
for a frozen graph, "feeds", "fetches": names of tensors, "structure": how results are returned, "weights": {name in the
weight map: node that holds it}}.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diglot.errors import BadInput
from diglot.graph_nodes import VARIABLES, needed, with_values

FOLDER, FROZEN = "source", "source.pb"
#: Ops that reach beyond the graph. No session may run one, for control inputs bring in what no output reads.
_EFFECTS = frozenset(
    "ReadFile WriteFile MatchingFiles Save SaveV2 SaveSlices MergeV2Checkpoints Print PrintV2 PyFunc EagerPyFunc "
    "PyFuncStateless WholeFileReader WholeFileReaderV2 TFRecordReader TFRecordReaderV2 TextLineReader "
    "TextLineReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TextLineDataset TFRecordDataset "
    "InitializeTableFromTextFile InitializeTableFromTextFileV2 LookupTableExportV2 DebugIdentity "
    "DebugIdentityV2 WriteSummary WriteScalarSummary CreateSummaryFileWriter RemoteCall".split()
)


def place(record: Mapping[str, Any], folder: Path) -> Path:
    """Where the graph of a record is: in the translation's folder, or where it came from.

    Raises BadInput for one that no file holds.
    """
    if "path" not in record:
        raise BadInput(
            "The graph of this translation is a live tf.function, which no file holds: it cannot be run again.",
            hint="save it (tf.saved_model.save) and translate the folder",
        )
    kept = folder / (FROZEN if record["tags"] is None else FOLDER)
    return kept if kept.exists() else Path(record["path"])


def keep(record: Mapping[str, Any], source: Path, folder: Path) -> None:
    """Copy a graph from ``source`` into a translation's folder. Raises BadInput where it cannot be."""
    target = folder / (FROZEN if record["tags"] is None else FOLDER)
    if not source.exists() or (target.exists() and source.samefile(target)):
        return
    part = folder / f".part-{target.name}"
    try:
        if source.is_dir():
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source, part)
            shutil.rmtree(target, ignore_errors=True)
        else:
            shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
        raise BadInput(
            f"{target.name} could not be written: {error.strerror or error}.",
            where=str(folder),
            hint="make room there, or name another output folder",
        ) from error


class GraphFile:
    """A graph that was read: ``definition`` is its GraphDef."""

    def __init__(self, record: Mapping[str, Any], folder: Path) -> None:
        """Read it. Raises BadInput for a file that is gone or damaged."""
        from google.protobuf.message import DecodeError
        from tensorflow.core.framework import graph_pb2
        from tensorflow.core.protobuf import saved_model_pb2

        self.path = place(record, folder)
        self._keys: Mapping[str, str] = record.get("keys") or {}
        self._saver: Any = None
        try:
            if record["tags"] is None:
                read = graph_pb2.GraphDef.FromString(self.path.read_bytes())
                self.definition = with_values(read, record.get("values") or {})
                return
            data = (self.path / "saved_model.pb").read_bytes()
            graphs = saved_model_pb2.SavedModel.FromString(data).meta_graphs
        except (OSError, DecodeError) as error:
            raise BadInput(
                "The TensorFlow graph of this translation cannot be read any more.",
                where=str(self.path),
                received=str(error) or type(error).__name__,
                hint="translate again",
            ) from error
        chosen = [g for g in graphs if sorted(g.meta_info_def.tags) == sorted(record["tags"])]
        if not chosen:
            raise BadInput(f"{self.path} has no graph with the tags {', '.join(record['tags'])}.")
        self.definition = with_values(chosen[0].graph_def, record.get("values") or {})
        self._saver = chosen[0].saver_def

    def _values(self, nodes: Sequence[str]) -> dict[str, np.ndarray]:
        """The values of variables, as TensorFlow itself restores them."""
        import tensorflow as tf

        v1 = tf.compat.v1
        with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            self._open(session, nodes)
            read = {}
            for name in nodes:
                operation = graph.get_operation_by_name(name)
                read[name] = operation.outputs[0]
                if operation.type == "VarHandleOp":
                    dtype = operation.get_attr("dtype")
                    read[name] = tf.raw_ops.ReadVariableOp(resource=read[name], dtype=dtype)
            return session.run(read)

    def variables(self, fetches: Sequence[str]) -> dict[str, np.ndarray]:
        """The values of the variables that ``fetches`` need, by their nodes' names."""
        names = [node.name for node in needed(self.definition, fetches) if node.op in VARIABLES]
        return self._values(names) if names else {}

    def run(
        self, feeds: Sequence[str], fetches: Sequence[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """What TensorFlow makes of the inputs, in the graph's own dtypes and with its own weights."""
        import tensorflow as tf

        v1 = tf.compat.v1
        refuse_effects(self.definition, fetches)
        nodes = [node.name for node in needed(self.definition, fetches)]
        with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
            self._open(session, nodes)
            tensors = [graph.get_tensor_by_name(tensor_name(name)) for name in feeds]
            fed = {
                tensor: array.astype(tensor.dtype.as_numpy_dtype)
                for tensor, array in zip(tensors, inputs, strict=True)
            }
            return session.run([tensor_name(name) for name in fetches], fed)

    def _open(self, session: Any, nodes: Sequence[str]) -> None:
        """Import the graph, and restore its variables; nothing else of the file is run."""
        self._restore(session)
        self._fill(session, [name for name in nodes if name in self._keys])

    def _restore(self, session: Any) -> None:
        import tensorflow as tf

        tf.compat.v1.import_graph_def(self.definition, name="")
        saver = self._saver
        if saver is None or not saver.restore_op_name:
            return
        restore = saver.restore_op_name
        if (self.path / "variables" / "variables.index").is_file():
            refuse_effects(self.definition, [restore])
            prefix = str(self.path / "variables" / "variables")
            session.run(restore, {saver.filename_tensor_name: prefix})

    def _fill(self, session: Any, nodes: Sequence[str]) -> None:
        """Give the variables that the file itself does not restore their values in the checkpoint: where Keras's
        model was saved as an object, each has two handles, of which TensorFlow 1 restores one."""
        import tensorflow as tf

        handles = {name: session.graph.get_operation_by_name(name) for name in nodes}
        handles = {n: o.outputs[0] for n, o in handles.items() if o.type == "VarHandleOp"}
        if not handles:
            return
        ready = session.run(
            {n: tf.raw_ops.VarIsInitializedOp(resource=h) for n, h in handles.items()}
        )
        reader = tf.train.load_checkpoint(str(self.path / "variables" / "variables"))
        for name, handle in handles.items():
            if not ready[name]:
                value = tf.constant(reader.get_tensor(self._keys[name]))
                session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=value))


def refuse_effects(definition: Any, wanted: Sequence[str]) -> None:
    """Raise BadInput where what ``wanted`` needs holds an op that reaches beyond the graph."""
    functions = {f.signature.name: f for f in definition.library.function}
    seen: set[str] = set()
    for node in needed(definition, wanted):
        _refuse_effect(node, functions, seen)


def _refuse_effect(node: Any, functions: Mapping[str, Any], seen: set[str]) -> None:
    if node.op in _EFFECTS:
        raise BadInput(
            f"The graph would run {node.op}, which reaches beyond it: it is not run.",
            where=node.name,
            hint="export the model again, from a source that you trust",
        )
    called = [node.op] if node.op in functions else []
    for value in node.attr.values():
        called += [f.name for f in (value.func, *value.list.func) if f.name]
    for name in called:
        if name in functions and name not in seen:
            seen.add(name)
            for inner in functions[name].node_def:
                _refuse_effect(inner, functions, seen)


def tensor_name(name: str) -> str:
    """The full name of a tensor, of which ``:0`` may have been left out."""
    return name if ":" in name else f"{name}:0"
