"""The source as an exported program: what a loaded translation has in place of the live model.

It has no modules to hook; but its graph says, node by node, which module it came from, and marks
where the author's own modules begin and end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from diglot.parity.torch_modes import WIDE

if TYPE_CHECKING:
    from diglot.parity.torch_side import Run

_PROBABILITIES = ("p", "dropout", "dropout_p")


def is_exported(module: nn.Module) -> bool:
    """Whether a source is an exported program that runs (diglot.ir.runnable)."""
    return "_program" in vars(module)


def private_program(program: Any, dtype: torch.dtype) -> Any:
    """A copy of `program` to run: in `dtype` where that is float64, and without dropout."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph_module.graph, {}))
    for node in list(graph.nodes):
        if node.op == "call_function":
            _edit(node, dtype)
    module = fx.GraphModule(program.graph_module, graph)
    return SimpleNamespace(graph_module=module, graph_signature=program.graph_signature)


def _edit(node: fx.Node, dtype: torch.dtype) -> None:
    """Widen the dtypes among a node's arguments, zero its dropout, drop its check of dtypes."""
    if "_assert_tensor_metadata" in str(node.target):
        node.graph.erase_node(node)
        return
    if dtype == torch.float64:

        def widen(value: Any) -> Any:
            return WIDE.get(value, value) if isinstance(value, torch.dtype) else value

        node.args = tuple(widen(arg) for arg in node.args)
        node.kwargs = {name: widen(value) for name, value in node.kwargs.items()}
    schema = getattr(node.target, "_schema", None)
    if schema is None or not any(
        w in schema.name for w in ("dropout", "attention", "lstm", "gru", "rnn")
    ):
        return
    for place, argument in enumerate(schema.arguments):
        if argument.name in _PROBABILITIES:
            if argument.name in node.kwargs:
                node.update_kwarg(argument.name, 0.0)
            elif len(node.args) > place:
                node.update_arg(place, 0.0)


@dataclass
class Region:
    """The nodes of one call of one module: what goes in, what comes out."""

    path: str
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def _path(node: fx.Node) -> str | None:
    """The innermost module that a node came from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack or "_empty_nn_module_stack" in str(stack[-1][0]):
        return None
    return str(stack[-1][0]).partition("@")[0]


def regions(graph: fx.Graph) -> list[Region]:
    """Every call of a module in a graph, in the order in which they end.

    The author's modules are marked at both ends; the others are runs of nodes from one module.
    """
    found: list[Region] = []
    open_marks: dict[str, Region] = {}
    run: list[fx.Node] = []
    marked = {_path(node) for node in graph.nodes if "diglot.mark" in str(node.target)}

    def close() -> None:
        if run and _path(run[0]) in marked:
            run.clear()  # some of the code of a module whose ends are marked
        if run:
            inside = set(run)
            outer = [n for n in run if any(user not in inside for user in n.users)]
            before = dict.fromkeys(
                n for node in run for n in node.all_input_nodes if n not in inside
            )
            given = [n.name for n in before if not _is_weight(n)]
            found.append(Region(_path(run[0]) or "", given, [n.name for n in outer or run[-1:]]))
            run.clear()

    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if "diglot.mark" in str(node.target):
            close()
            number, side, _ = str(node.args[1]).split("|", 2)
            if side == "in":
                region = open_marks.setdefault(number, Region(_path(node) or ""))
                region.inputs.append(node.name)
            elif side == "out":
                region = open_marks.setdefault(number, Region(_path(node) or ""))
                region.outputs.append(node.name)
                if region not in found:
                    found.append(region)
            continue
        if run and _path(node) != _path(run[0]):
            close()
        run.append(node)
    close()
    return [region for region in found if region.outputs]


def _is_weight(node: fx.Node) -> bool:
    return node.op == "placeholder" and node.name.startswith(("p_", "b_", "c_"))


def watch(
    module: nn.Module,
    run: Run,
    names: set[str],
    module_inputs: bool,
    training: bool,
    to_array: Callable[[torch.Tensor], Any],
) -> Callable[[], None]:
    """Record calls and batch norms of an exported source into `run`; gives what stops it."""
    from diglot.parity.torch_side import Call, NormFact

    graph = vars(module)["_program"].graph_module.graph
    wanted = [region for region in regions(graph) if region.path in names]
    ends: dict[str, list[Region]] = {}
    kept: set[str] = set()
    for region in wanted:
        ends.setdefault(region.outputs[-1], []).append(region)
        kept |= {*region.outputs, *(region.inputs if module_inputs else [])}
    states = dict(vars(module)["_order"])
    values: dict[str, Any] = {}
    counts: Counter[str] = Counter()

    def arrays(held: list[str]) -> list[Any]:
        return [values[name] for name in held if name in values]

    def observe(node: fx.Node, value: Any) -> None:
        if node.name in kept and isinstance(value, torch.Tensor):
            values[node.name] = to_array(value)
        for region in ends.get(node.name, []):
            call = Call(
                region.path, counts[region.path], arrays(region.inputs), arrays(region.outputs)
            )
            counts[region.path] += 1
            run.calls.append(call)
        if training and "aten.batch_norm" in str(node.target) and node.args[5]:
            name = states.get(getattr(node.args[3], "name", ""), "").rpartition(".")[0]
            before = run.norms.get(name)
            numel = value.numel() // value.shape[1]
            run.norms[name] = NormFact(
                float(str(node.args[6])), numel, before.calls + 1 if before else 1
            )

    vars(module)["observer"] = observe

    def stop() -> None:
        vars(module)["observer"] = None

    return stop
