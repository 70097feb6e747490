"""Which layers of Keras's a PyTorch program writes out: what is noted of them for the way back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from diglot.codegen.names import common_start
from diglot.codegen.source import Written
from diglot.codegen.weights import WeightMap
from diglot.frontends.keras_model import Given, LeafCall, Mirror
from diglot.ir.hub import Call, is_mark
from diglot.ir.kept_layer import KeptLayer


def kept_layers(mirror: Mirror, written: Written, weight_map: WeightMap) -> list[KeptLayer]:
    """Return the layers of Keras's own that are classes of a program; those alone whose every call is alike."""
    found: dict[str, KeptLayer | None] = {}
    program = written.program
    for region in program.written():
        layer = mirror.layers.get(region.path)
        module = program.modules.get(region.path)
        target = getattr(module, "keras_path", None)
        if not target or not _is_keras_own(layer):
            continue
        made = _described(program, region, layer, target, mirror.arguments, weight_map)
        known = found.setdefault(region.path, made)
        found[region.path] = made if known == made else None
    kept = [made for made in found.values() if made is not None]
    return [*kept, *_leaves(mirror, weight_map)]


#: Layers that are several of PyTorch's, need more than one call of it, or are written out.
_COMPOUND = re.compile(
    "SeparableConv|EinsumDense|ConvLSTM|LSTM$|GRU$|SimpleRNN$|Bidirectional|TimeDistributed|Attention|^Normalization$"
)


def _is_compound(layer: Any, module: nn.Module | None) -> bool:
    """Whether PyTorch has a layer in several parts, or one of its own with weights that Keras's has not, or none."""
    # RMSNormalization has a weight of that name.
    half = getattr(layer, "scale", True) is False or getattr(layer, "center", True) is False
    written = module is None or not type(module).__module__.startswith("torch.nn.")
    return half or written or bool(_COMPOUND.search(type(layer).__name__))


def _leaves(mirror: Mirror, weight_map: WeightMap) -> list[KeptLayer]:
    """The layers that PyTorch has, too, but not as one call of one layer."""
    found = []
    for call in mirror.leaves.values():
        module = _module(mirror, call)
        if call.given is None:
            continue
        masked = any("mask" in argument for argument, _ in call.given.tensors)
        if not masked and not _is_compound(call.layer, module):
            continue
        said = _serialised(call.layer)
        below = f"{call.target}."
        weights = [e for e in weight_map.entries if e.target.startswith(below)]
        buffers = module.named_buffers() if module is not None and not weights else ()
        constants = [f"{call.module}.{name}" for name, _ in buffers]  # numbers of its configuration
        sources = constants or [name for entry in weights for name in entry.sources]
        if said is None or not sources or not _is_keras_own(call.layer):
            continue
        inputs = [("", argument, None) for argument, _ in call.given.tensors]
        outputs = [(path, None) for path, _ in call.given.results]
        ranks = [rank for _, rank in (*call.given.tensors, *call.given.results)]
        path = _common_module(sources, call.layer)
        plain = call.given.plain
        found.append(
            KeptLayer(
                path, call.target, said, inputs, outputs, plain, weights, tuple(ranks), constants
            )
        )
    return found


def _module(mirror: Mirror, call: LeafCall) -> nn.Module | None:
    """The module that stands for a layer; None where it is written as functions."""
    try:
        return mirror.module.get_submodule(call.module)
    except AttributeError:
        return None


def _common_module(names: Sequence[str], layer: Any) -> str:
    """The module that holds some weights; where it holds others, too, a name of the layer's below it."""
    parts = [name.split(".")[:-1] for name in names]
    common = common_start(parts)
    if len(parts) > 1 and any(len(p) > len(common) for p in parts):
        last = [p[len(common)] for p in parts if len(p) > len(common)]
        if len(last) == len(parts):
            shared = re.sub(r"\W", "_", layer.name)
            return ".".join(common if common[-1:] == [shared] else [*common, shared])
    return ".".join(common)


def _serialised(layer: Any) -> Any:
    import keras

    try:
        return keras.saving.serialize_keras_object(layer)
    except (NotImplementedError, TypeError, ValueError):
        return None


def _is_keras_own(layer: Any) -> bool:
    """Whether a layer is of a class of Keras's, and no model."""
    import keras

    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        return False
    return type(layer).__module__.startswith("keras.")


def _described(
    program: Any,
    region: Call,
    layer: Any,
    target: str,
    arguments: dict[str, Given | None],
    weight_map: WeightMap,
) -> KeptLayer | None:
    given = arguments.get(region.path, None if region.path else Given({}))
    inputs = _inputs(program, region, given.masks) if given is not None else None
    ports = [p for p in program.live_outputs(region) if is_mark(p.node)]
    if given is None or inputs is None or len(ports) != len(program.live_outputs(region)):
        return None
    said = _serialised(layer)
    if said is None:
        return None
    weights = [entry for entry in weight_map.entries if entry.target.startswith(f"{target}.")]
    outputs = [(port.name, _in_keras(port.node)) for port in ports]
    path = program.target_path(region, None)
    return KeptLayer(path, target, said, inputs, outputs, given.plain, weights)


def _inputs(program: Any, region: Call, masks: Sequence[str]) -> list[tuple[str, str, Any]] | None:
    """What a region takes: parameter, argument of Keras's and permutation; None where one is no argument."""
    writer = program.writer(region)
    ports = program.live_inputs(region)
    taken = [(port.name, port.node) for port in ports]
    # Masks that Keras carries with its tensors come around the arguments.
    unnamed = [name for name in masks if name not in {port.name for port in ports}]
    if len(writer.extra) > len(unnamed):
        return None
    taken += [(name, node) for name, (node, _) in zip(unnamed, writer.extra, strict=False)]
    if len(taken) != len(writer.params):
        return None
    return [
        (parameter, name, _in_keras(node))
        for parameter, (name, node) in zip(writer.params, taken, strict=True)
    ]


def _in_keras(node: Any) -> tuple[int, ...] | None:
    """The permutation of a value to Keras's order of axes."""
    layout = node.meta.get("layout")
    return tuple(sorted(range(len(layout)), key=layout.__getitem__)) if layout else None
