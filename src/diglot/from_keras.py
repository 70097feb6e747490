"""A live Keras model -> a PyTorch program: the mirror, captured and written, and the weight map between the two."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diglot import origins, tables
from diglot.codegen.pipeline import to_torch
from diglot.codegen.source import Written, structure_json
from diglot.codegen.tree import is_chain
from diglot.codegen.weights import ModulePair, TensorSpec, WeightEntry, WeightMap
from diglot.errors import BadInput
from diglot.facing import add_graph, add_listing
from diglot.frontends.capture import capture
from diglot.frontends.keras_model import Mirror, mirror
from diglot.frontends.listing import Listing
from diglot.ir.hub import Hub, is_mark
from diglot.keeping import kept_layers
from diglot.passes import ties
from diglot.runtime import original
from diglot.translating import describe, dtype_of, output_path, paths_of, sizes_of
from diglot.translation import Translation

Step = tuple[Any, ...]


def translate_keras(
    model: Any, example_inputs: Any, *, dynamic: Any, io_layout: str, trusted: bool
) -> Translation:
    """Translate a live Keras model into PyTorch source with its weights; see :func:`diglot.translate`."""
    made = mirror(model, example_inputs, trusted=trusted, names=origins.names(model))
    record = original.describe(model, _in_keras(made, example_inputs), None, trusted)
    return _translation(
        made, made.dynamic if dynamic is None else dynamic, io_layout, record, model
    )


def translate_graph(
    source: Any, example_inputs: Any, *, dynamic: Any, io_layout: str
) -> Translation:
    """Translate a TensorFlow graph into PyTorch source: one that was read, or a live ``ConcreteFunction``."""
    from diglot.frontends.tensorflow_graph import GraphSource, mirror_of, read_concrete

    if not isinstance(source, GraphSource):
        source = read_concrete(source)
    given = example_inputs
    if isinstance(given, Mapping):
        given = _in_order(given, [spec.name for spec in source.inputs])
    elif given is not None and not isinstance(given, (list, tuple)):
        given = [given]
    read = mirror_of(source, given)
    if given is not None:
        _run_once(read)
    inputs = read.example_inputs[0] if len(read.example_inputs) == 1 else read.example_inputs
    entries = [entry for entry in read.entries if entry.target in read.nodes]
    made = Mirror(read.module, entries, inputs, [spec.name for spec in read.inputs])
    held = None
    origin = source.origin
    if not origin and source.save is not None:
        held = tempfile.TemporaryDirectory(prefix="diglot-graph-")
        origin = source.save(Path(held.name))
    record = {
        "kind": "graph",
        **origin,
        "call": "list",
        "inputs": [{"dtype": spec.dtype} for spec in read.inputs],
        "structure": source.structure,
        "weights": read.nodes,
    }
    done = _translation(
        made,
        read.dynamic if dynamic is None else dynamic,
        io_layout,
        record,
        None,
        (f"{source.name}.txt", read.listing),
    )
    done.held = held
    return done


def _in_order(given: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Example inputs by name, in the order of a graph's inputs."""
    if set(given) != set(names):
        raise BadInput(
            "the example inputs do not fit the graph",
            expected=", ".join(names),
            received=", ".join(given) or "none",
        )
    return [given[name] for name in names]


def _run_once(read: Any) -> None:
    """Run a graph's mirror on the examples that the user gave: an id may be beyond its table."""
    try:
        with torch.no_grad():
            read.module.eval()(*read.example_inputs)
    except (IndexError, RuntimeError, ValueError) as error:
        raise BadInput(
            "the graph does not run on the example inputs",
            received=str(error).splitlines()[0],
            hint="check their sizes, and that ids are within their tables; the inputs are, in order: "
            + ", ".join(spec.name for spec in read.inputs),
        ) from error


def _translation(
    made: Mirror,
    dynamic: Any,
    io_layout: str,
    record: dict[str, Any],
    model: Any,
    listed: tuple[str, Listing] | None = None,
) -> Translation:
    """The program of a mirror; ``record`` says how its original is run again, ``listed`` is a text of it."""
    done = program(made, dynamic, io_layout)
    hub = done.hub
    if model is not None:
        done.weight_map.keras = origins.described(model, done.weight_map, _layers(done.written))
        done.weight_map.keras.kept = kept_layers(made, done.written, done.weight_map)
    values = [_turned(v, n) for v, n in zip(done.values, hub.inputs, strict=False)]
    info = describe(hub, done.written, model, values, "layers")
    info["original"] = record
    for item in info["example_inputs"] if made.masked else ():
        if "int" in item["dtype"] and len(item["shape"]) > 1 and (item.get("min") or 0) > 0:
            item["min"] = 0  # a proof without masked steps would prove little
    if model is not None:
        add_listing(info, made, done.written, model)
    elif listed is not None:
        add_graph(info, done.written, *listed)
    if made.losses:
        info["losses"] = made.losses
    if made.left_out:
        info["left_out"] = made.left_out
        for item in made.left_out:
            text = (
                f"{item['layer']} ({item['class']}) is left out; in training alone it {item['why']}"
            )
            warnings.warn(text, stacklevel=4)
    for text in _fixed(hub, dynamic):
        info["warnings"].append(text)
        warnings.warn(text, stacklevel=4)
    for size in info["dynamic"].values():
        layout = hub.inputs[hub.input_names.index(size["input"])].meta.get("layout")
        size["axis"] = layout.index(size["axis"]) if layout else size["axis"]
    return Translation(
        done.written.source, done.weight_map, info, model, hub=hub, weights=done.state
    )


def _fixed(hub: Hub, dynamic: Any) -> list[str]:
    """The sizes that were to stay open, but that the program holds one of."""
    found = []
    for place, (node, name) in enumerate(zip(hub.inputs, hub.input_names, strict=True)):
        if isinstance(dynamic, Mapping):
            axes = dynamic.get(name, dynamic.get(str(place), ()))
        else:
            axes = dynamic[place] if dynamic and place < len(dynamic) else ()
        value = node.meta["val"]
        for axis in axes or ():
            size = value.shape[axis] if -value.dim() <= axis < value.dim() else None
            if isinstance(size, int):
                found.append(
                    f"axis {axis} of {name} is open in the model; the program holds for the size {size} alone, "
                    "on which the model's code decides something"
                )
    return found


def _turned(value: torch.Tensor, node: Any) -> torch.Tensor:
    layout = node.meta.get("layout")
    return value.permute(layout) if layout else value


def _in_keras(made: Mirror, given: Any) -> Any:
    """The example inputs as Keras is called with them."""
    if isinstance(given, Mapping) and set(given) >= set(made.names):
        return {name: given[name] for name in made.names}  # in the order of the program's inputs
    if given is not None:
        return given
    inputs = made.example_inputs
    if isinstance(inputs, dict):
        return {name: value.numpy() for name, value in inputs.items()}
    return [v.numpy() for v in inputs] if isinstance(inputs, tuple) else inputs.numpy()


@dataclasses.dataclass
class Programmed:
    """A written PyTorch program with all that belongs to it."""

    hub: Hub
    written: Written
    weight_map: WeightMap
    state: dict[str, torch.Tensor]
    values: list[Any]


def program(mirror: Mirror, dynamic: Any, io_layout: str) -> Programmed:
    """Capture and write a mirror."""
    hub, values = capture(mirror.module, mirror.example_inputs, dynamic, "torch")
    hub.losses = mirror.losses
    if mirror.outputs is not None:
        _name_outputs(hub, mirror.outputs)
    _tie(hub, mirror)
    settled = tables.settle(hub, mirror.module)
    paths = [output_path(port.name) for port in hub.root.outputs]
    known = mirror.boundary
    boundary = None if known is None else known.of(hub.input_names, paths)
    written = to_torch(hub, mirror.module, io_layout, boundary)
    homes = written.program.weights.entries()
    own = dict(mirror.module.named_buffers(remove_duplicate=False))
    own.update(mirror.module.named_parameters(remove_duplicate=False))
    arrays = {name: value.detach().numpy() for name, value in own.items()}
    arrays.update(settled.arrays)
    arrays.update({name: arrays[first] for name, first in hub.ties})
    state = {
        e.target: torch.from_numpy(
            # Not copied, where it is the same array: the mirror is nobody else's.
            np.asarray(e.to_target([arrays[s] for s in e.sources]), order="C")  # also one of rank 0
        )
        for e in homes
    }
    state.update({name: state[first].clone() for name, first in hub.ties if first in state})
    return Programmed(
        hub, written, _weight_map(mirror, hub, written, homes, settled.written), state, values
    )


def _tie(hub: Hub, mirror: Mirror) -> None:
    """Give weights the second names again that they had in PyTorch, where there is a module to bear them."""
    nodes = {parameter.name: node for node, parameter in hub.parameters.items()}
    modules = dict(mirror.module.named_modules())
    if is_chain(hub.root):  # has no constructor of its own
        return
    for name, first, kind in mirror.ties:
        if first not in nodes or ties.shared_module(name, first, modules) is None:
            continue
        if kind != "Linear" or ties.give_to_linear(hub, nodes[first], name):
            hub.ties.append((name, first))


def _name_outputs(hub: Hub, keys: dict[str, int]) -> None:
    """Let a program return the dict that the model returns, in place."""
    ports = {port.name or "0": port for port in hub.root.outputs}
    for key, place in keys.items():
        ports[str(place)].name = key
    hub.root.outputs = [ports[str(place)] for place in keys.values()]
    hub.outputs = [port.node for port in hub.root.outputs]
    hub.output_structure = ["dict", dict.fromkeys(keys, "tensor")]


def _weight_map(
    mirror: Mirror, hub: Hub, written: Written, homes: Sequence[WeightEntry], numbers: set[str]
) -> WeightMap:
    """Entries from the Keras model's weights to the written program's, which holds some ``numbers`` itself."""
    by_source = {home.sources[0]: home for home in homes}
    for alias, name in hub.aliases.items():
        if name in by_source:
            by_source.setdefault(alias, by_source[name])
    entries, unmapped = [], []
    for entry in mirror.entries:
        found = [by_source.get(name) for name in entry.sources]
        if any(home is None for home in found):
            known = numbers.issuperset(entry.sources)
            why = "the program holds its numbers" if known else "nothing reads it"
            unmapped.append({"source": entry.target, "why": why})
            continue
        entries.append(_through(entry, [home for home in found if home is not None]))
    held = {name for entry in entries for name in entry.sources} | {name for name, _ in hub.ties}
    why = "Keras has no such weight: it stays as it is"
    unmapped += [{"source": home.target, "why": why} for home in homes if home.target not in held]
    ports = written.program.live_outputs(hub.root)
    structure = structure_json(hub.output_structure, {p.name for p in ports}) or "tensor"
    return WeightMap(
        entries=entries,
        unmapped=unmapped,
        inputs=[_spec(n, name=name) for n, name in zip(hub.inputs, hub.input_names, strict=True)],
        outputs=[_spec(p.node, path=output_path(p.name)) for p in ports],
        structure={"inputs": hub.input_structure, "outputs": structure},
        modules=_module_pairs(written),
        direction="keras->torch",
    )


def _through(entry: WeightEntry, homes: list[WeightEntry]) -> WeightEntry:
    """An entry on the mirror's weights, as one on the written program's."""
    steps = list(entry.steps)
    if homes[0].steps:
        steps = _undone(homes[0].steps, homes[0].source_shapes[0]) + steps
    return dataclasses.replace(
        entry,
        sources=[home.target for home in homes],
        source_shapes=[home.shape for home in homes],
        steps=steps,
        written=any(home.written for home in homes),
    )


def _undone(steps: Sequence[Step], shape: Sequence[int]) -> list[Step]:
    """The steps that lead back from what ``steps`` make of an array of a shape."""
    back: list[Step] = []
    array = np.broadcast_to(np.zeros((), np.int8), tuple(shape))
    for kind, argument in steps:
        if kind == "permute":
            back.append(("permute", [int(i) for i in np.argsort(argument)]))
            array = array.transpose(argument)
        else:
            assert kind == "reshape", kind
            back.append(("reshape", list(array.shape)))
            array = np.broadcast_to(np.zeros((), np.int8), tuple(argument))
    return back[::-1]


def _spec(node: Any, name: str | None = None, path: Sequence[str | int] = ()) -> TensorSpec:
    """A tensor of the boundary as PyTorch sees it; Keras has it permuted by ``perm``."""
    layout = node.meta.get("layout")
    sizes = sizes_of(node)
    shape = [sizes[p] for p in layout] if layout else sizes
    return TensorSpec(shape, dtype_of(node), _undone_layout(layout), name, path)


def _undone_layout(layout: Sequence[int] | None) -> tuple[int, ...] | None:
    """The permutation from PyTorch's order back to Keras's."""
    return tuple(int(i) for i in np.argsort(layout)) if layout else None


def _layers(written: Written) -> dict[str, Any]:
    """The Keras layers that have modules of their own, by the paths of these."""
    program, found = written.program, {}
    for region in program.written()[1:]:
        layer = getattr(program.modules.get(region.path), "source_layer", None)
        if layer is not None:
            found[program.target_path(region, None)] = layer
    return found


def _module_pairs(written: Written) -> list[ModulePair]:
    """The written regions whose outputs are a Keras layer's: their paths correspond."""
    program, pairs = written.program, {}
    classes = {i.region.path: made.name for made in written.classes for i in made.instances}
    for region in program.written():
        # What leaves without a mark, as the mask of a result does, is nothing that the layer returns.
        ports = [p for p in program.live_outputs(region) if is_mark(p.node)]
        module = program.modules.get(region.path)
        source = getattr(module, "keras_path", None)
        whole = 0 < len(ports) == sum(is_mark(p.node) for p in region.outputs)
        reordered = any(p.node.meta.get("feature_order") for p in ports)
        if region is program.hub.root or not whole or reordered or not source:
            continue
        made = program.target_path(region, None)
        perms = tuple(_undone_layout(p.node.meta.get("layout")) for p in ports)
        pairs.setdefault(
            region.path,
            ModulePair(
                made,
                source,
                classes.get(region.path, "Sequential"),
                region.class_name,
                outputs=perms,
                paths=paths_of(ports),
            ),
        )
    return list(pairs.values())
