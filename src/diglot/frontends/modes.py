"""Where a model computes something else in training than in evaluation: both captures in one program.

Dropout and batch norm follow a flag that their ops carry. An author's own ``if self.training:`` leaves only the way
that was taken while capturing. Here the program captured in training mode is compared with the one captured in
evaluation mode, and where the two part, ``diglot.by_mode(training, evaluation)`` chooses.
"""

from __future__ import annotations

import contextlib
import difflib
import linecache
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, TensorArgument

from diglot.errors import BadInput
from diglot.frontends import modes_apart
from diglot.frontends.mode_changes import Changes, read_weights
from diglot.ir.hub import is_mark, target_name
from diglot.ir.runnable import FLAGS
from diglot.passes import always_dropout, stochastic_depth

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("by_mode(Tensor training, Tensor evaluation) -> Tensor")
_LIBRARY.impl("by_mode", lambda training, evaluation: training.clone(), "CompositeExplicitAutograd")

#: A line that only hands the mode on (``F.dropout(x, p, self.training)``), or says how much to drop.
_HANDED_ON = re.compile(r"drop|training\s*=\s*self\.training|[(,]\s*self\.training\s*[,)]")
_OURS = str(Path(__file__).resolve().parents[1])
_ATTENTION = "aten.scaled_dot_product_attention.default"
_DROPOUTS = ("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "diglot.row_dropout")


@contextlib.contextmanager
def watched(model: nn.Module) -> Iterator[list[str]]:
    """Collect the lines (``file:line``) of the author's that decide something by ``self.training``."""
    found: list[str] = []

    def read(module: nn.Module) -> bool:
        frame = sys._getframe(1)
        file, line = frame.f_code.co_filename, frame.f_lineno
        own = frame.f_code.co_name not in ("train", "eval", "__setattr__")
        text = linecache.getline(file, line)
        # Of code whose file is gone (a program in memory) nobody can tell what it does with the mode.
        decides = not text or ("training" in text and not _HANDED_ON.search(text))
        if own and "/torch/" not in file and decides:
            found.append(_asked_by(frame))
        return module.__dict__["training"]

    def write(module: nn.Module, value: bool) -> None:
        module.__dict__["training"] = value

    classes = {type(m) for m in model.modules() if not type(m).__module__.startswith("torch.")}
    classes = {c for c in classes if "training" not in vars(c)}
    for cls in classes:
        cls.training = property(read, write)  # type: ignore[assignment]
    try:
        yield found
    finally:
        for cls in classes:
            del cls.training


def _asked_by(frame: FrameType) -> str:
    """Where a mode is asked: of a Keras layer that is read, the line that asks by way of Diglot's own modules."""
    asking: FrameType | None = frame
    while asking is not None and asking.f_code.co_filename.startswith(_OURS):
        asking = asking.f_back
    if asking is None or "/torch/" in asking.f_code.co_filename:
        asking = frame
    return f"{asking.f_code.co_filename}:{asking.f_lineno}"


def merge(program: ExportedProgram, evaluation: ExportedProgram, lines: list[str]) -> None:
    """Make ``program``, captured in training mode, hold both modes, in place.

    Raises :class:`BadInput` where no one program can hold both: other results, or changes in place.
    """
    for each in (program, evaluation):
        stochastic_depth.rewrite(each.graph_module.graph)
    Merger(program, evaluation, lines).run()


class Merger:
    """Aligns two graphs, op by op in order; values of the evaluation's graph get images in the training's."""

    def __init__(
        self, program: ExportedProgram, evaluation: ExportedProgram, lines: list[str]
    ) -> None:
        self.training, self.evaluation = program, evaluation
        self.lines = list(dict.fromkeys(lines))
        self.graph = program.graph_module.graph
        self.image: dict[fx.Node, fx.Node] = {}
        self.chosen: dict[tuple[fx.Node, fx.Node], fx.Node] = {}
        self.constants = {
            spec.arg.name: spec.target
            for spec in evaluation.graph_signature.input_specs
            if spec.kind is InputKind.CONSTANT_TENSOR
        }

    def refuse(self, why: str) -> BadInput:
        """Return the error for a pair of modes that cannot be one program."""
        return BadInput(
            f"the model does something else in training than in evaluation, and {why}",
            where=", ".join(self.lines),
            hint="wrap it in a module that does the same in both modes, or set what `self.training` "
            "switches (an auxiliary head, say) by an argument of the constructor",
        )

    def run(self) -> None:
        """Align what both compute, then choose wherever an op reads something else."""
        ours, theirs = self._results(self.training), self._results(self.evaluation)
        if len(ours) != len(theirs):
            counts = f"{len(ours)} tensors in training, {len(theirs)} in evaluation"
            raise self.refuse(f"returns {counts}")
        read_weights(self.training)
        read_weights(self.evaluation)
        self._match_inputs()
        self._align()
        for node in self.evaluation.graph_module.graph.nodes:
            if node in self.image and node.op == "call_function":
                self._reconcile(self.image[node], node.all_input_nodes)
        end = next(n for n in self.graph.nodes if n.op == "output")
        for a, b in zip(ours, theirs, strict=True):
            self._choose(a, b, end)
        left = Changes(self.training, set(self.image.values())).gate()
        if left is not None:
            raise self.refuse(f"training alone changes a tensor in place ({target_name(left)})")
        self.graph.lint()
        self.training.graph_module.recompile()

    def _results(self, program: ExportedProgram) -> list[fx.Node]:
        output = next(n for n in program.graph_module.graph.nodes if n.op == "output")
        specs = program.graph_signature.output_specs
        return [
            value
            for value, spec in zip(output.args[0], specs, strict=True)
            if spec.kind is OutputKind.USER_OUTPUT and isinstance(value, fx.Node)
        ]

    # --- what both modes compute ------------------------------------------------------------------------

    def _runs_apart(self) -> bool:
        """Tell whether modules run in another order: each has to be there twice, for either mode."""
        ours, theirs = (_paths(p.graph_module.graph) for p in (self.training, self.evaluation))
        both = {path for path in ours if path in theirs}
        around = {
            path.rpartition(".")[0] for path in both
        }  # own ops stand before or behind a part's
        order = [path for path in ours if path in both - around]
        return order != [path for path in theirs if path in both - around]

    def _match_inputs(self) -> None:
        def inputs(program: ExportedProgram) -> list[tuple[Any, fx.Node]]:
            nodes = [n for n in program.graph_module.graph.nodes if n.op == "placeholder"]
            return list(zip(program.graph_signature.input_specs, nodes, strict=True))

        named = {(s.kind, s.target or n.name): n for s, n in inputs(self.training)}
        for spec, node in inputs(self.evaluation):
            found = named.get((spec.kind, spec.target or node.name))
            if spec.kind is InputKind.CONSTANT_TENSOR:
                alike = [n for (kind, name), n in named.items()
                         if kind is spec.kind and self._is_same(str(name), str(spec.target))]  # fmt: skip
                found = found if found in alike else next(iter(alike), None)
            if found is not None:
                self.image[node] = found

    def _is_same(self, ours: str, theirs: str) -> bool:
        a, b = self.training.constants[ours], self.evaluation.constants[theirs]
        same = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
        return same and a.dtype == b.dtype and torch.equal(a, b)

    def _align(self) -> None:
        """Pair the ops of both graphs that do the same thing in the same module, in order."""
        ours = [n for n in self.graph.nodes if n.op in ("call_function", "get_attr")]
        nodes = self.evaluation.graph_module.graph.nodes
        theirs = [n for n in nodes if n.op in ("call_function", "get_attr")]
        known = dict(self.image)
        first = [self._key(n, self.training, {}) for n in ours]
        second = [self._key(n, self.evaluation, known) for n in theirs]
        if self._runs_apart():
            self._pair_ends(ours, theirs, first, second)
            return
        matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
        for block in matcher.get_matching_blocks():
            for offset in range(block.size):
                self.image[theirs[block.b + offset]] = ours[block.a + offset]

    def _pair_ends(
        self, ours: list[fx.Node], theirs: list[fx.Node], first: list[Any], second: list[Any]
    ) -> None:
        """Pair what both modes begin and end with, and copy all that evaluation does in between."""
        results = [self._results(p) for p in (self.training, self.evaluation)]
        both = list(zip(*results, strict=True))
        start, end = modes_apart.ends(ours, theirs, (first, second), both)
        self.image.update(zip(theirs[:start], ours[:start], strict=True))
        trained, evaluated = ours[start : len(ours) - end], theirs[start : len(theirs) - end]
        taken = {key for node in trained for key in modes_apart.stack_of(node)}
        taken -= set(modes_apart.container([*trained, *evaluated]))
        flags = modes_apart.training_flags(self.graph)
        reader = ours[-end] if end else next(n for n in self.graph.nodes if n.op == "output")
        for node in evaluated:
            copy = self._copy(node, reader, marked=True)
            modes_apart.as_another_call(copy, taken)
            modes_apart.set_flag(copy, flags)
        if end:
            self.image.update(zip(theirs[-end:], ours[-end:], strict=True))

    def _key(self, node: fx.Node, program: ExportedProgram, image: dict[fx.Node, fx.Node]) -> Any:
        """What an op is, whatever values it reads: its target, constants, weights, module and shape."""
        if node.op == "get_attr":
            value = getattr(program.graph_module, str(node.target), None)
            return ("get_attr", getattr(value, "code", str(node.target)))
        stack = node.meta.get("nn_module_stack") or {}
        args = _without_flags(node)
        if is_mark(node):  # the number of the call differs: the module and the port say enough
            args = (args[0], args[1].partition("|")[2])
        kwargs = {k: v for k, v in node.kwargs.items() if k != "dropout_p"}

        def plain(value: fx.Node) -> str:
            return image.get(value, value).name if value.op == "placeholder" else "value"

        constants = _frozen(fx.map_arg((args, kwargs), plain))
        return (str(node.target), constants, tuple(stack), _shape(node))

    # --- where they part --------------------------------------------------------------------------------

    def _reconcile(self, reader: fx.Node, theirs: list[fx.Node]) -> None:
        """Make an op that both modes have read its own values in each."""
        ours = list(reader.all_input_nodes)
        if len(ours) != len(theirs):
            raise self.refuse(f"{target_name(reader)} reads a different number of tensors")
        for a, b in zip(ours, theirs, strict=True):
            self._choose(a, b, reader)

    def _choose(self, ours: fx.Node, theirs: fx.Node, reader: fx.Node) -> None:
        """Make ``reader`` see ``ours`` in training and ``theirs`` in evaluation."""
        other = self._copy(theirs, reader)
        ours = self._as_layer(ours, other, reader)
        dropped = _is_dropout(ours) and ours.args[0] is other  # which does nothing in evaluation
        if other is ours or dropped:
            return
        made = self.chosen.get((ours, other))
        if made is None:
            if _shape(ours) != _shape(other):
                shapes = f"{_shape(ours)} in training, {_shape(other)} in evaluation"
                raise self.refuse(f"its values differ in shape: {shapes}")
            with self.graph.inserting_before(reader):
                made = self.graph.call_function(torch.ops.diglot.by_mode.default, (ours, other))
            made.meta = dict(ours.meta)
            made.meta["nn_module_stack"] = _shared(ours, other)
            self.chosen[ours, other] = made
        reader.replace_input_with(ours, made)

    def _as_layer(self, ours: fx.Node, other: fx.Node, reader: fx.Node) -> fx.Node:
        """A dropout that drops whatever the mode, but is run in training alone, is like any other."""
        call = always_dropout.dropped(ours)
        if call is None or call.args[0] is not other:
            return ours
        with self.graph.inserting_before(call):
            made = self.graph.call_function(torch.ops.aten.dropout.default, call.args)
        made.meta = dict(ours.meta)
        reader.replace_input_with(ours, made)
        return made

    def _copy(self, node: fx.Node, reader: fx.Node, *, marked: bool = False) -> fx.Node:
        """Return the image of a value, computing what evaluation alone computes before ``reader``.

        ``marked``: with the marks of its modules.
        """
        if node in self.image:
            return self.image[node]
        if node.op == "placeholder" and node.name in self.constants:
            return self._keep_constant(node)
        if node.op != "call_function":
            raise self.refuse(f"evaluation alone reads {node.name}")
        if is_mark(node) and not marked:
            return self._copy(node.args[0], reader)
        if target_name(node) == "aten.detach_.default":  # torch.tensor([…]) within forward ends so
            return self._copy(node.args[0], reader)
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            raise self.refuse(f"evaluation alone changes a tensor in place ({target_name(node)})")
        for given in node.all_input_nodes:
            self._copy(given, reader)
        with self.graph.inserting_before(reader):
            made = self.graph.node_copy(node, lambda n: self._copy(n, reader))
        made.meta = dict(node.meta)
        self.image[node] = made
        return made

    def _keep_constant(self, node: fx.Node) -> fx.Node:
        """Give the program a tensor that evaluation alone reads."""
        name = self.constants[node.name]
        kept = f"{name}_of_evaluation"
        last = [n for n in self.graph.nodes if n.op == "placeholder"][-1]
        with self.graph.inserting_after(last):
            made = self.graph.placeholder(f"{node.name}_of_evaluation")
        made.meta = dict(node.meta)
        self.training.constants[kept] = self.evaluation.constants[name]
        spec = InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(made.name), kept)
        self.training.graph_signature.input_specs.append(spec)
        self.image[node] = made
        return made


def _paths(graph: fx.Graph) -> dict[str, None]:
    """The innermost modules of a graph's ops, in the order of their first calls."""
    stacks = (node.meta.get("nn_module_stack") for node in graph.nodes if not is_mark(node))
    return dict.fromkeys(list(stack.values())[-1][0] for stack in stacks if stack)


def _is_dropout(node: fx.Node) -> bool:
    return node.op == "call_function" and target_name(node).startswith(_DROPOUTS)


def _without_flags(node: fx.Node) -> tuple:
    """The arguments without those that say whether an op trains."""
    args, flag = list(node.args), FLAGS.get(target_name(node))
    if flag is not None and len(args) > flag:
        args[flag] = None
    if target_name(node) == _ATTENTION:  # mask and rate are left out where there are none
        args += [None, 0.0][len(args) - 3 :]
        args[4] = 0.0
    return tuple(args)


def _frozen(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _frozen(v)) for k, v in value.items()))
    return value if isinstance(value, fx.Node) else (type(value).__name__, str(value))


def _shape(node: fx.Node) -> str:
    value = node.meta.get("val")
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else str(value)


def _shared(ours: fx.Node, theirs: fx.Node) -> dict[str, Any]:
    """The modules around both values."""
    first, second = (n.meta.get("nn_module_stack") or {} for n in (ours, theirs))
    shared: dict[str, Any] = {}
    for (key, value), other in zip(first.items(), second, strict=False):
        if key != other:
            break
        shared[key] = value
    return shared
