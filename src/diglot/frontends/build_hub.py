"""An exported program -> hub: drop bookkeeping, read the marks, lay the call tree over the graph."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from diglot.frontends.marks import CallRecord
from diglot.ir.hub import Call, Hub, Parameter, Port, is_mark, target_name
from diglot.ir.leaves import is_leaf_class
from diglot.ir.sizes import declare_same

_ROOT = ("",)


def build(
    program: ExportedProgram,
    model: nn.Module | None,
    records: dict[int, CallRecord],
    structure: str,
    names: list[str],
) -> Hub:
    """Return the hub of an exported program.

    ``model`` gives classes, source lines and aliases where it is at hand; without it (a ``.pt2`` file) the
    names in ``nn_module_stack`` must do.
    """
    signature = program.graph_signature
    graph = inline_regions(program.graph_module, frozenset(signature.inputs_to_parameters))
    # In order: a copied graph renames a node that is called like a builtin (`input`).
    placeholders = [n for n in graph.nodes if n.op == "placeholder"]
    parameters: dict[fx.Node, Parameter] = {}
    constants: dict[fx.Node, torch.Tensor] = {}
    inputs: list[fx.Node] = []
    for node, spec in zip(placeholders, signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            if isinstance(node.meta.get("val"), torch.Tensor):
                inputs.append(node)
        elif spec.kind is InputKind.PARAMETER:
            value = program.state_dict[spec.target]
            parameters[node] = Parameter(spec.target, value, value.requires_grad, False)
        elif spec.kind is InputKind.BUFFER:
            persistent = spec.persistent is not False
            value = (
                program.state_dict[spec.target] if persistent else program.constants[spec.target]
            )
            if persistent or not _is_derived(value):
                parameters[node] = Parameter(spec.target, value, False, True, persistent)
            else:
                constants[node] = value
        elif spec.kind is InputKind.CONSTANT_TENSOR:
            constants[node] = program.constants[spec.target]
    output = next(n for n in graph.nodes if n.op == "output")
    flat = list(output.args[0])
    kept = [
        value
        for value, spec in zip(flat, signature.output_specs, strict=True)
        if spec.kind is OutputKind.USER_OUTPUT
    ]
    outputs = [
        v for v in kept if isinstance(v, fx.Node) and isinstance(v.meta.get("val"), torch.Tensor)
    ]
    graph.output(tuple(outputs))
    graph.erase_node(output)
    root_record = records.get(0)
    out_structure = root_record.output_structure if root_record else None
    hub = Hub(
        graph=graph,
        root=Call("", type(model) if model is not None else None, _root_name(model), _ROOT),
        parameters=parameters,
        inputs=inputs,
        input_names=_input_names(names, inputs, structure),
        input_structure=structure,
        outputs=outputs,
        output_structure=out_structure
        or ("tensor" if len(outputs) == 1 else ["list", ["tensor"] * len(outputs)]),
        exported=program,
        constants=constants,
    )
    if model is not None:
        hub.aliases = _aliases(model, hub)
    _one_batch(hub)
    return hub


def _is_derived(value: torch.Tensor) -> bool:
    """Tell whether a buffer is position ids or token types: a range, or one value throughout."""
    flat = value.flatten()
    if (
        value.dtype.is_floating_point
        or value.is_complex()
        or value.dtype == torch.bool
        or flat.numel() == 0
    ):
        return False
    return bool((flat == flat[0]).all()) or torch.equal(
        flat, torch.arange(flat.numel(), dtype=flat.dtype)
    )


def _one_batch(hub: Hub) -> None:
    """Give inputs with the same leading size one symbol.

    Broadcasting does not force two batches to be equal, so export keeps a symbol for each; a model with
    several inputs has one batch all the same.
    """
    leading: dict[int, torch.SymInt] = {}
    for node in hub.inputs:
        value = node.meta["val"]
        size = value.shape[0] if value.dim() else 1
        if not isinstance(size, torch.SymInt) or size.node.hint is None:
            continue
        first = leading.setdefault(int(size.node.hint), size)
        if size is not first:
            declare_same(size, first)


def inline_regions(module: fx.GraphModule, weights: frozenset[str] = frozenset()) -> fx.Graph:
    """Return a copy of the graph with ``no_grad`` and ``autocast`` regions written in place.

    What a ``no_grad`` region returns is detached, so that no gradient flows where none did; but one of the
    ``weights`` (placeholders, by name) that it changes in place is the weight itself. The exported program keeps
    its own graph.
    """
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    for node in list(graph.nodes):
        name = target_name(node) if node.op == "call_function" else ""
        if "wrap_with_set_grad_enabled" in name:
            args, detach = node.args[2:], not node.args[0]
            _inline(graph, module, node, node.args[1], args, weights, detach=detach)
        elif "wrap_with_autocast" in name:
            _inline(graph, module, node, node.args[4], node.args[5:], weights, detach=False)
    return graph


def _inline(
    graph: fx.Graph,
    module: fx.GraphModule,
    node: fx.Node,
    getter: fx.Node,
    args: tuple,
    weights: frozenset[str],
    *,
    detach: bool,
) -> None:
    inner = inline_regions(getattr(module, str(getter.target)), weights)
    values: dict[fx.Node, fx.Node] = {}
    given = iter(args)
    results: tuple = ()
    with graph.inserting_before(node):
        for item in inner.nodes:
            if item.op == "placeholder":
                values[item] = next(given)
            elif item.op == "output":
                results = (
                    item.args[0] if isinstance(item.args[0], (tuple, list)) else (item.args[0],)
                )
            else:
                values[item] = graph.node_copy(item, values.__getitem__)
                values[item].meta = dict(item.meta)
        outputs = [values[r] for r in results]
        if detach:
            outputs = [_changed_weight(o, weights) or _detached(graph, o) for o in outputs]
    for user in list(node.users):
        user.replace_all_uses_with(outputs[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)
    if not getter.users:
        graph.erase_node(getter)


def _changed_weight(value: fx.Node, weights: frozenset[str]) -> fx.Node | None:
    """Return the weight that a value is, changed in place; ``None`` of any other value."""
    while value.op == "call_function" and _is_in_place(value):
        value = value.args[0]  # type: ignore[assignment]
    return value if value.op == "placeholder" and value.name in weights else None


def _is_in_place(node: fx.Node) -> bool:
    op = target_name(node).split(".")[1]
    return op.endswith("_") and not op.endswith("__") and isinstance(node.args[0], fx.Node)


def _detached(graph: fx.Graph, value: fx.Node) -> fx.Node:
    if not isinstance(value.meta.get("val"), torch.Tensor):
        return value
    made = graph.call_function(torch.ops.aten.detach.default, (value,))
    made.meta = dict(value.meta)
    return made


def _root_name(model: nn.Module | None) -> str:
    return type(model).__name__ if model is not None else "Model"


def _input_names(names: list[str], inputs: list[fx.Node], structure: str) -> list[str]:
    if len(names) >= len(inputs):
        return names[: len(inputs)]
    return [n.name for n in inputs]


def _aliases(model: nn.Module, hub: Hub) -> dict[str, str]:
    """Map every name of a shared weight to the name that the graph reads it by (the others may be inputs, too)."""
    chosen = [p.name for _, p in sorted(hub.parameters.items(), key=lambda item: not item[0].users)]
    named = dict(
        [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
    )
    canonical: dict[int, str] = {}
    for name in chosen:
        if name in named:
            canonical.setdefault(id(named[name]), name)
    return {name: canonical.get(id(value), name) for name, value in named.items()}


def lay_calls(hub: Hub, model: nn.Module | None, records: dict[int, CallRecord]) -> None:
    """Build the tree of calls from ``nn_module_stack`` and the marks, in place."""
    modules = dict(model.named_modules(remove_duplicate=False)) if model is not None else {}
    calls: dict[tuple, Call] = {_ROOT: hub.root}
    functions = _function_spans(hub.graph)
    open_spans: list[tuple[int, str, int]] = []  # record index, tag, last position
    for position, node in enumerate(list(hub.graph.nodes)):
        if node.op in ("placeholder", "output") or _is_size(node):
            continue
        while open_spans and position > open_spans[-1][2]:
            open_spans.pop()
        tag = node.args[1].split("|") if is_mark(node) else None
        if (
            tag
            and tag[1] == "fin"
            and (not open_spans or open_spans[-1][1] != f"{tag[0]}|{tag[2]}")
        ):
            name = f"{tag[0]}|{tag[2]}"
            open_spans.append((int(tag[0]), name, functions[name]))
        call = _locate(hub, node, modules, calls, records, open_spans)
        if tag and tag[1] in ("in", "fin"):
            call.inputs.append(Port(tag[-1], node))
            call.config.setdefault("record", int(tag[0]))
            if int(tag[0]) in records:
                call.config["function_arguments"] = records[int(tag[0])].functions
            call.items.append(node)
        elif tag and tag[1] in ("out", "fout"):
            call.outputs.append(Port(tag[-1], node))
            call.items.append(node)
        else:
            call.items.append(node)
        hub.call_of[node] = call


def _is_size(node: fx.Node) -> bool:
    return (
        not isinstance(node.meta.get("val"), (torch.Tensor, list, tuple))
        and node.op == "call_function"
    )


def _function_spans(graph: fx.Graph) -> dict[str, int]:
    """Map each handed-in function's call to the position of its last mark."""
    spans: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        if is_mark(node):
            tag = node.args[1].split("|")
            if tag[1] in ("fin", "fout"):
                spans[f"{tag[0]}|{tag[2]}"] = position
    return spans


def _locate(hub, node, modules, calls, records, open_spans) -> Call:
    """Return the region a node belongs to, creating the regions on the way."""
    stack = node.meta.get("nn_module_stack") or {}
    current = hub.root
    key: tuple = _ROOT
    spans = list(open_spans)
    spans_at_root = [s for s in spans if s[0] == 0]
    for span in spans_at_root:
        current, key = _function(current, key, span, calls)
        spans.remove(span)
    for part, (path, class_name) in stack.items():
        if not path or class_name.startswith("_empty_nn_module_stack"):
            continue
        cls = type(modules[path]) if path in modules else None
        if path in hub.kept:
            break
        if is_leaf_class(cls) if cls is not None else _leaf_name(class_name):
            break
        key = (*key, part)
        if key not in calls:
            call = Call(path, cls, class_name.rpartition(".")[2], key, parent=current)
            calls[key] = call
            current.items.append(call)
        current = calls[key]
        for span in list(spans):
            if records and span[0] == current.config.get("record"):
                current, key = _function(current, key, span, calls)
                spans.remove(span)
    return current


def _function(
    current: Call, key: tuple, span: tuple[int, str, int], calls: dict
) -> tuple[Call, tuple]:
    key = (*key, "function:" + span[1])
    if key not in calls:
        name = span[1].split("|")[1].split("@")[0]
        call = Call(current.path, None, "", key, parent=current, function=name)
        calls[key] = call
        current.items.append(call)
    return calls[key], key


def _leaf_name(class_name: str) -> bool:
    containers = ("Sequential", "Transformer", "TransformerEncoder", "TransformerDecoder")
    containers += ("TransformerEncoderLayer", "TransformerDecoderLayer")
    last = class_name.rpartition(".")[2]
    return class_name.startswith("torch.nn.modules.") and last not in containers


def complete_ports(hub: Hub) -> None:
    """Give every region ports for values that cross its border without a mark.

    A region without marks (a ``.pt2`` file), or a value that reached a module around its arguments.
    """
    order = {n: i for i, n in enumerate(hub.graph.nodes)}
    for call in list(hub.root.walk()):
        if call is hub.root or call.function:
            continue
        inside = set(call.nodes())
        known = {p.node for p in call.outputs}
        for node in sorted(inside, key=order.__getitem__):
            if any(user not in inside for user in node.users) and node not in known:
                if isinstance(node.meta.get("val"), torch.Tensor):
                    call.outputs.append(Port(str(len(call.outputs)), node))
