"""``diglot.translate``: a live model -> a :class:`Translation`."""

from __future__ import annotations

import importlib.metadata
import inspect
import linecache
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from diglot import coming_back, origins, sources
from diglot.codegen import author
from diglot.codegen.pipeline import to_keras
from diglot.codegen.source import Written, structure_json
from diglot.codegen.weights import KerasModel, ModulePair, TensorSpec, WeightMap
from diglot.errors import Unsupported, UsageError
from diglot.frontends.capture import capture
from diglot.ir.hub import Call, Hub, Port
from diglot.ir.leaves import is_leaf
from diglot.ir.limits import bounds, lengths_of_sequences
from diglot.ir.sizes import is_static, shape_of, size_of
from diglot.translation import Translation


def translate(
    model: Any,
    example_inputs: Any = None,
    to: str = "keras",
    *,
    dynamic: Any = None,
    io_layout: str = "native",
    style: str | None = None,
    trusted: bool = False,
) -> Translation:
    """Translate a model into source code of the other framework, with its weights.

    Args:
        model: an ``nn.Module``; or with ``to="torch"`` a Keras model, a ``tf.function``'s ``ConcreteFunction`` or
            what ``read_saved_model`` and ``read_frozen`` give. It is not changed. Or a source, as on the command
            line: the path of a file or folder, ``file.py:function``, ``keras:applications/NAME``, ….
        example_inputs: a tensor or array, a tuple of them or a dict of keyword arguments, in the source's layout.
            A Keras model that declares its inputs needs none.
        to: ``"keras"`` or ``"torch"``.
        dynamic: ``{input name: {axis: size name}}``; ``None`` guesses (the batch; lengths of sequences).
        io_layout: ``"native"``: images go in and come out as the target has them (channels-last in Keras,
            channels-first in PyTorch); ``"same"``: as in the source.
        style: ``"layers"``: one class for each class of the source; ``"functional"``: one Functional model
            (in Keras only). ``None``: ``"layers"``, but ``"functional"`` for what was translated from a Functional
            or Sequential model of Keras's own layers.
        trusted: whether Lambda layers of a Keras model may run.

    Raises:
        UsageError: for an unknown ``to``, ``io_layout`` or ``style``.
        BadInput: when the model does not run on the inputs, or branches on data.
        Unsupported: listing every op that has no translation, with its source line.
    """
    if isinstance(model, (str, os.PathLike)):
        made = sources.load(os.fspath(model), to, trusted, needs_examples=example_inputs is None)
        model, dynamic = made.model, dynamic or made.dynamic
        example_inputs = made.example_inputs if example_inputs is None else example_inputs
    _check(model, to, io_layout, style)
    if (graph := _graph(model) if to == "torch" else None) is not None:
        from diglot.from_keras import translate_graph

        return translate_graph(graph, example_inputs, dynamic=dynamic, io_layout=io_layout)
    if to == "torch":
        from diglot.from_keras import translate_keras

        return translate_keras(
            model, example_inputs, dynamic=dynamic, io_layout=io_layout, trusted=trusted
        )
    if style is None and origins.style_of(model) == "functional":
        try:
            return _to_keras(model, example_inputs, dynamic, io_layout, "functional")
        except Unsupported:  # what PyTorch has made of it since is no such graph
            pass
    return _to_keras(model, example_inputs, dynamic, io_layout, style or "layers")


def _to_keras(
    model: Any, example_inputs: Any, dynamic: Any, io_layout: str, style: str
) -> Translation:
    origin = origins.layers_of(model)
    if style == "functional" and dynamic is None:
        dynamic = coming_back.dynamic_sizes(origin, example_inputs) or only_batch(example_inputs)
    hub, values = capture(model, example_inputs, dynamic, kept=origin.kept)
    coming_back.prepare(hub, origin, style)
    written = to_keras(hub, model, io_layout, style, coming_back.boundary(hub, origin))
    weight_map = make_weight_map(hub, written, model)
    weight_map.keras = KerasModel(style, written.program.root_name)
    info = describe(hub, written, model, values, style)
    return Translation(written.source, weight_map, info, model, hub.exported, hub)


def _check(model: Any, to: str, io_layout: str, style: str | None) -> None:
    if to not in ("keras", "torch"):
        raise UsageError("unknown target", expected="to='keras' or to='torch'", received=repr(to))
    from_keras = _is_keras(model)
    if to == "keras" and (from_keras or not isinstance(model, nn.Module)):
        hint = "a Keras model is translated with to='torch'" if from_keras else None
        raise UsageError("expected a torch.nn.Module", received=type(model).__name__, hint=hint)
    if to == "torch" and not from_keras and _graph(model) is None:
        raise UsageError(
            "expected a Keras model or a TensorFlow graph",
            received=type(model).__name__,
            hint="a tf.function is named by its graph: function.get_concrete_function(…); a SavedModel or .pb is "
            "read with diglot.frontends.tensorflow_graph",
        )
    if to == "torch" and style not in (None, "layers"):
        raise UsageError("unknown style", expected="'layers': PyTorch has no other", received=style)
    if io_layout not in ("native", "same"):
        raise UsageError(
            "unknown io_layout", expected="'native' or 'same'", received=repr(io_layout)
        )
    if style not in (None, "layers", "functional"):
        raise UsageError("unknown style", expected="'layers' or 'functional'", received=repr(style))


def _is_keras(model: Any) -> bool:
    """Tell whether a model is Keras's, without importing Keras for one that is not."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Layer)


def _graph(model: Any) -> Any:
    """A TensorFlow graph that was read, or the function whose graph a source is; else ``None``.

    Nothing is imported for a source that is none.
    """
    read = sys.modules.get("diglot.frontends.tensorflow_graph")
    if read is not None and isinstance(model, read.GraphSource):
        return model
    if "tensorflow" not in sys.modules:
        return None
    from diglot.frontends.tensorflow_graph import concrete

    return concrete(model)


def only_batch(example_inputs: Any) -> Any:
    """Return ``dynamic`` for a model where every size but the batch is fixed."""
    from diglot.frontends.torch_export import normalise_inputs

    _, names, values = normalise_inputs(example_inputs)
    batch = {0: "batch"}
    return dict.fromkeys(names, batch) if names else {str(i): batch for i in range(len(values))}


# --- the weight map ------------------------------------------------------------------------------------


def make_weight_map(hub: Hub, written: Written, model: nn.Module | None) -> WeightMap:
    """Collect where every weight went, what was left behind, and what the boundary looks like."""
    program = written.program
    entries = program.weights.entries()
    mapped = {name for e in entries for name in e.sources}
    unmapped = []
    named = _state_names(hub, model)
    for name in named:
        canonical = hub.aliases.get(name, name)
        if name in mapped or canonical in mapped:
            continue
        why = (
            "Keras batch norm counts no batches"
            if name.endswith("num_batches_tracked")
            else "nothing reads it"
        )
        unmapped.append({"source": name, "why": why})
    ports = program.live_outputs(hub.root)
    outputs = [
        TensorSpec(
            sizes_of(p.node), dtype_of(p.node), p.node.meta.get("layout"), None, output_path(p.name)
        )
        for p in ports
    ]
    inputs = [
        TensorSpec(sizes_of(n), dtype_of(n), n.meta.get("layout"), name)
        for n, name in zip(hub.inputs, hub.input_names, strict=True)
    ]
    structure = structure_json(hub.output_structure, {p.name for p in ports}) or "tensor"
    return WeightMap(
        entries=entries,
        root=written.root_name,
        unmapped=unmapped,
        inputs=inputs,
        outputs=outputs,
        structure={"inputs": hub.input_structure, "outputs": structure},
        modules=module_pairs(hub, written),
        ties=_ties(hub, model, mapped),
        classes=_classes(model) if written.root_name is None else {},
    )


def _classes(model: nn.Module | None) -> dict[str, str]:
    """The classes of a model's modules that are no layers of PyTorch's own, by path."""
    if model is None:
        return {}
    named = model.named_modules(remove_duplicate=False)
    return {path: type(module).__name__ for path, module in named if not is_leaf(module)}


def _ties(hub: Hub, model: nn.Module | None, mapped: set[str]) -> list[dict[str, str]]:
    """The names under which PyTorch knows a weight besides that in the entries."""
    if model is None:
        return []
    found = []
    for name in model.state_dict():
        first = hub.aliases.get(name, name)
        if first != name and first in mapped:
            record = {"name": name, "class": _owner(model, name)}
            found.append({**record, "to": first, "to_class": _owner(model, first)})
    return found


def _owner(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name.rpartition(".")[0])).__name__


def _state_names(hub: Hub, model: nn.Module | None) -> list[str]:
    if model is None:
        return [p.name for p in hub.parameters.values()]
    return list(model.state_dict())


def output_path(name: str) -> list[str | int]:
    """The keys and indices that lead to a result, from a port's name (``scores.0``)."""
    return [int(p) if p.isdigit() else p for p in name.split(".")] if name else []


def sizes_of(node: Any) -> list[int | str]:
    """A value's shape in the source's order; a dynamic size is its symbol."""
    return [s if is_static(s) else str(s) for s in shape_of(node.meta["val"])]


def dtype_of(node: Any) -> str:
    """A value's dtype: ``float32``."""
    return str(node.meta["val"].dtype).removeprefix("torch.")


def module_pairs(hub: Hub, written: Written) -> list[ModulePair]:
    """Pair the modules whose outputs correspond one to one: written regions, and leaf layers."""
    program = written.program
    pairs: dict[str, ModulePair] = {}
    regions = program.written()
    if written.root_name is None:  # the functions of a graph are no layers
        regions = [r for r in regions if r is hub.root or not program.writer(r).in_graph]
    for region in regions:
        ports = program.live_outputs(region)
        target = program.target_path(region, None)
        reordered = any(p.node.meta.get("feature_order") for p in ports)
        whole = len(ports) == len(region.outputs) and not reordered
        if region is not hub.root and whole and region.path:
            file, line = _place(region)
            pairs.setdefault(
                region.path,
                ModulePair(
                    region.path, target, region.class_name, _target_class(written, region), file, line,
                    tuple(p.node.meta.get("layout") for p in ports), paths_of(ports),
                ),
            )  # fmt: skip
        for key, member in program.writer(region).members.items():
            pair = _leaf_pair(program, region, key, member)
            if pair is not None:
                pairs.setdefault(pair.source, pair)
    return list(pairs.values())


def paths_of(ports: Sequence[Port]) -> tuple[tuple[str | int, ...], ...]:
    """Where in what a module returns these are; () where it is all that it returns."""
    return tuple(tuple(output_path(p.name)) for p in ports) if any(p.name for p in ports) else ()


def _leaf_pair(program: Any, region: Call, key: Any, member: Any) -> ModulePair | None:
    """Return the pair of a torch.nn layer and the Keras layer that stands for it, called once."""
    if member.kind != "layer" or not member.source or member.layout is ... or not member.whole:
        return None
    path = f"{region.path}.{member.source}" if region.path else member.source
    target = program.target_path(region, key)
    name = member.construct.func.attr if hasattr(member.construct.func, "attr") else ""
    return ModulePair(
        path, target, member.source_class, name, *(_frame(program, member)), (member.layout,)
    )


def _frame(program: Any, member: Any) -> tuple[str | None, int | None]:
    frames = program.frames(member.node) if member.node is not None else ()
    return (frames[-1].file, frames[-1].line) if frames else (None, None)


def _target_class(written: Written, region: Call) -> str:
    for made in written.classes:
        if any(i.region.path == region.path for i in made.instances):
            return made.name
    return "Sequential"


def _place(region: Call) -> tuple[str | None, int | None]:
    if region.cls is None:
        return None, None
    location = author.class_location(region.cls)
    if location is None:
        return None, None
    try:
        _, first = inspect.getsourcelines(region.cls.forward)
    except (OSError, TypeError):
        first = location[1]
    return location[0], first


# --- translation.json ----------------------------------------------------------------------------------


def describe(
    hub: Hub, written: Written, model: nn.Module | None, values: list[Any], style: str
) -> dict[str, Any]:
    """Return what ``translation.json`` holds."""
    classes = []
    files: dict[str, tuple[int, int]] = {}
    for made in written.classes:
        first = made.instances[0].region
        location = author.class_location(first.cls) if first.cls else None
        record: dict[str, Any] = {
            "source_class": f"{first.cls.__module__}.{first.cls.__qualname__}"
            if first.cls
            else first.class_name,
            "source_file": location[0] if location else None,
            "source_lines": list(location[1:]) if location else None,
            "target_class": made.name,
            "target_lines": list(written.class_lines[made.name]),
            "instances": [i.region.path for i in made.instances],
        }
        classes.append(record)
        if location:
            low, high = files.get(location[0], (location[1], location[2]))
            files[location[0]] = (min(low, location[1]), max(high, location[2]))
    return {
        "format": 1,
        "name": hub.root.class_name,
        "style": style,
        "source": {"spec": None, "class": _qualified(model)},
        "versions": versions(),
        "created_by": f"diglot {_version('diglot') or '0.1.0'}",
        "classes": classes,
        "lines": [
            {"source_file": f, "source_line": a, "target_line": b}
            for f, a, b in dict.fromkeys(written.lines)
        ],
        "sources": {f: _text(f, *span) for f, span in files.items()},
        "notes": notes(written),
        "summary": summary(hub, written, model),
        "dynamic": dynamic_sizes(hub),
        "example_inputs": examples(hub, values),
        "output_structure": hub.output_structure,
        "warnings": hub.warnings,
    }


def _qualified(model: nn.Module | None) -> str | None:
    return f"{type(model).__module__}.{type(model).__qualname__}" if model is not None else None


def versions() -> dict[str, str]:
    """Return the versions of what a translation depends on."""
    found = {"torch": str(torch.__version__)}
    for name in ("keras", "tensorflow-cpu", "tensorflow", "transformers", "timm", "numpy"):
        version = _version(name)
        if version:
            found[name] = version
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _text(file: str, first: int, last: int) -> dict[str, Any]:
    return {"first_line": first, "text": "".join(linecache.getlines(file)[first - 1 : last])}


def notes(written: Written) -> list[dict[str, Any]]:
    """Return the false friends that this program met, with the lines they concern."""
    where: dict[tuple[str, int], list[int]] = {}
    for file, line, target in written.lines:
        where.setdefault((file, line), []).append(target)
    found: dict[str, dict[str, Any]] = {}
    for rule, _, node in written.program.met:
        if not rule.note:
            continue
        note = found.setdefault(
            rule.topic or rule.op,
            {"topic": rule.topic, "text": rule.note, "target_lines": [], "rule": rule.op},
        )
        frames = written.program.frames(node)
        if frames:
            note["target_lines"] += where.get((frames[-1].file, frames[-1].line), [])
    for note in found.values():
        note["target_lines"] = sorted(set(note["target_lines"]))
    return list(found.values())


def summary(hub: Hub, written: Written, model: nn.Module | None) -> list[dict[str, Any]]:
    """Return one row for each layer with weights: names, classes, parameters on both sides, output shape."""
    program = written.program
    rows: list[dict[str, Any]] = []
    target_sizes: dict[str, int] = {}
    for entry in program.weights.entries():
        size = 1
        for s in entry.shape:
            size *= int(s)
        for name in entry.sources[:1]:
            owner = name.rpartition(".")[0]
            target_sizes[owner] = target_sizes.get(owner, 0) + size
    for region in program.written():
        for _key, member in program.writer(region).members.items():
            if member.kind == "child" or (not member.weights and member.kind == "layer"):
                continue
            path = ".".join(filter(None, [region.path, member.source]))
            nodes = [
                n
                for n, p in hub.parameters.items()
                if p.name.rpartition(".")[0] == path or p.name == path
            ]
            rows.append(
                {
                    "module": path,
                    "source_class": member.source_class or "Parameter",
                    "target_class": getattr(getattr(member.construct, "func", None), "attr", ""),
                    "source_params": sum(hub.parameters[n].value.numel() for n in nodes),
                    "target_params": target_sizes.get(
                        path, target_sizes.get(path.rpartition(".")[0], 0)
                    ),
                    "output_shape": [s if is_static(s) else str(s) for s in member.output_shape],
                }
            )
    return rows


def dynamic_sizes(hub: Hub) -> dict[str, Any]:
    """Return every dynamic size: its name, range, where it is read and the value it was captured with."""
    found: dict[str, Any] = {}
    for node, name in zip(hub.inputs, hub.input_names, strict=True):
        for axis, size in enumerate(node.meta["val"].shape):
            symbol = size_of(size)
            if is_static(symbol) or not symbol.is_Symbol:
                continue
            if str(symbol) in found:
                continue
            low, high = bounds(hub, size)
            found[str(symbol)] = {
                "name": "batch" if axis == 0 else "length" if axis == 1 else f"size_{axis}",
                "min": 1 if low is None else low,
                "max": high,
                **({"multiple": m} if (m := hub.multiples.get(str(symbol), 1)) > 1 else {}),
                "input": name,
                "axis": axis,
                "example": size.node.hint,
            }
    return found


def examples(hub: Hub, values: list[Any]) -> list[dict[str, Any]]:
    """Return name, shape, dtype and range of each example input; and its first element, which in a mask is kept.

    Where an input holds lengths of sequences, what they are lengths of (a size), and whether they descend.
    """
    tensors = [v for v in values if torch.is_tensor(v)]
    lengths = lengths_of_sequences(hub)
    rows = []
    for node, value, name in zip(hub.inputs, tensors, hub.input_names, strict=False):
        low = high = None
        if value.numel():
            low, high = value.min().item(), value.max().item()
        rows.append(
            {
                "name": name,
                "shape": list(value.shape),
                "dtype": str(value.dtype).removeprefix("torch."),
                "min": low,
                "max": high,
                "first": value.flatten()[0].item() if value.numel() else None,
                **lengths.get(node, {}),
            }
        )
    return rows
