"""TensorFlow graphs -> a runnable ``torch.nn.Module`` (a *mirror*) that ``torch.export`` can capture.

SavedModels, frozen graphs and concrete functions are read as data: nothing in a file runs. The graph's name scopes
become modules, its matrix products, convolutions, normalisations and tables the layers of ``torch.nn`` that they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.errors import BadInput, Unsupported
from diglot.frontends.listing import Listing
from diglot.frontends.tensorflow import (
    build,
    files,
    ids,
    listing,
    recognise,
    recurrent,
    tree,
    values,
)
from diglot.frontends.tensorflow.graph import Graph
from diglot.frontends.tensorflow.lowering import lower
from diglot.ir.weight_entry import WeightEntry


@dataclass(frozen=True)
class InputSpec:
    """An input of the mirror: its name in the source, TensorFlow dtype and sizes.

    A size of ``None`` is dynamic; a shape of ``None`` leaves open how many there are.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass
class Mirror:
    """A TensorFlow graph in torch.

    ``entries`` map every variable (or frozen constant) to parameters and buffers of ``module``; ``dynamic`` says
    which axes of the inputs may have any size, as ``capture`` takes it. ``nodes`` gives, by target, the node of the
    source that holds the weight; ``listing`` is the graph as text, with the places of ``module``'s parts.
    """

    module: nn.Module
    entries: list[WeightEntry]
    inputs: list[InputSpec]
    output_names: list[str]
    example_inputs: tuple[torch.Tensor, ...]
    dynamic: list[dict[int, bool]] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)


@dataclass
class GraphSource:
    """A graph that was read: what goes in and out, and how its outputs are returned.

    ``origin`` says where it can be run: {path, tags, feeds, fetches}, the last two names of tensors. What lives in this
    process only has none: ``save`` writes it into a folder first, and returns it.
    """

    graph: Graph
    inputs: list[InputSpec]
    structure: Any = "tensor"
    name: str = "Model"
    origin: dict[str, Any] = field(default_factory=dict)
    save: Callable[[Path], dict[str, Any]] | None = None


#: What torch says of an example that is too small for the graph's kernels, or of sizes that do not come out even.
_MISFIT = re.compile(
    r"greater than actual input size|too small|smaller than kernel|negative|must match"
)
#: Of the axes of examples whose sizes are open, one after the other until no axis within the graph is 1 for it, and how
#: far apart they are.
_SIZES = ((3, 1), (12, 1), (48, 1), (192, 1), (32, 32), (128, 128))


_BATCH = 3


def example_tensor(
    spec: InputSpec, size: int, batch: int, seed: int = 0, apart: int = 1
) -> torch.Tensor:
    """A tensor for an input: floats are random, ids small, images of bytes any byte. Open sizes are larger than
    ``size`` and as far ``apart``, the first is ``batch``."""
    if spec.shape is None:
        raise BadInput(
            f"the graph does not say how many axes the input {spec.name} has",
            hint=f"give an example of it, or its value: --feed {spec.name}=1.0",
        )
    open_sizes = [batch, *(size + apart * i for i in range(1, len(spec.shape)))]
    shape = [n if s is None else s for n, s in zip(open_sizes, spec.shape, strict=False)]
    generator = torch.Generator().manual_seed(seed)
    if spec.dtype == "bool":
        return torch.ones(shape, dtype=torch.bool)
    if spec.dtype == "string" or spec.dtype not in {*values.DTYPES, "float32"}:
        raise BadInput(
            f"the input {spec.name} is of dtype {spec.dtype}, which torch does not have",
            hint="do this step in Python, and choose a signature that takes numbers",
        )
    if spec.dtype.startswith(("int", "uint")):
        high = 256 if spec.dtype == "uint8" else 2
        kind = values.DTYPES[spec.dtype]
        return torch.randint(0, high, shape, generator=generator, dtype=kind)
    kind = values.DTYPES.get(spec.dtype, torch.float32)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(kind)


def mirror_of(source: GraphSource, example_inputs: Sequence[Any] | None = None) -> Mirror:
    """The mirror of a graph.

    ``example_inputs`` (tensors or arrays, one per input) also fix the ranks of inputs whose rank the graph leaves
    open. Raises :class:`diglot.errors.Unsupported` with every op that cannot be translated, and
    :class:`diglot.errors.BadInput` where the inputs do not fit.
    """
    for size, apart in _SIZES:
        examples = _examples(source, example_inputs, size, apart)
        shapes = [
            (None, *example.shape[1:]) if spec.shape is None else spec.shape
            for spec, example in zip(source.inputs, examples, strict=True)
        ]
        try:
            lowered = lower(source.graph, examples, shapes, recurrent.from_loop)
        except Unsupported as error:
            further = example_inputs is None and (size, apart) != _SIZES[-1]
            if further and any(_MISFIT.search(p.hint) for p in error.problems):
                continue
            raise
        if example_inputs is not None or not lowered.is_short:
            break
    if example_inputs is None:
        rows = ids.rows_of_tables(lowered)
        for number, node in enumerate(lowered.graph.inputs):
            if node in rows:
                examples[number] = ids.drawn(rows[node], examples[number], number)
    text = listing.listing(lowered)
    recognise.run(lowered)
    root, entries, nodes = build.build(lowered, source.structure, tree.class_name(source.name))
    listing.place(text, root, lowered.graph.order())
    dynamic = [{i: True for i, s in enumerate(shape) if s is None} for shape in shapes]
    names = source.graph.output_names
    return Mirror(root, entries, source.inputs, names, tuple(examples), dynamic, nodes, text)


def _examples(
    source: GraphSource, given: Sequence[Any] | None, size: int, apart: int
) -> list[torch.Tensor]:
    if given is None:
        batches = any(len(spec.shape or ()) > 1 for spec in source.inputs)
        batch = _BATCH if batches else size
        return [example_tensor(spec, size, batch, i, apart) for i, spec in enumerate(source.inputs)]
    if len(given) != len(source.inputs):
        raise BadInput(
            "the example inputs do not fit the graph",
            expected=f"{len(source.inputs)}: {', '.join(s.name for s in source.inputs)}",
            received=str(len(given)),
        )
    tensors = []
    for spec, value in zip(source.inputs, given, strict=True):
        tensor = value if torch.is_tensor(value) else torch.from_numpy(np.array(value))
        fits = spec.shape is None or (
            tensor.dim() == len(spec.shape)
            and all(s is None or s == n for s, n in zip(spec.shape, tensor.shape, strict=True))
        )
        if not fits:
            raise BadInput(
                f"the example for the input {spec.name} does not fit",
                expected=f"shape {[s if s is not None else '?' for s in spec.shape or ()]}",
                received=f"shape {list(tensor.shape)}",
            )
        tensors.append(tensor.long() if tensor.dtype == torch.int32 else tensor)
    return tensors


def read_concrete(
    function: Any, names: dict[int, str] | None = None, fed: Sequence[Any] = ()
) -> GraphSource:
    """The graph of a ``tf.function``'s ``ConcreteFunction``; its variables hold their values.

    ``fed`` are placeholders within it that are inputs, too, after its own.
    """
    from diglot.frontends.tensorflow.functions import read_function, save, structure_of

    graph = read_function(function, names, fed)
    inputs = [_spec(node) for node in graph.inputs]
    source = GraphSource(graph, inputs, structure_of(function.graph), graph.name)
    source.save = lambda folder: save(function, graph, folder)
    return source


def concrete(model: Any) -> Any:
    """The ``ConcreteFunction`` that a source is; of a ``tf.function`` with an input signature, its only one.

    ``None`` for any other object. Raises :class:`BadInput` for a ``tf.function`` that takes what it is given.
    """
    tf: Any = sys.modules.get("tensorflow")
    kinds = getattr(getattr(tf, "types", None), "experimental", None)
    if kinds is None:
        return None
    if isinstance(model, kinds.ConcreteFunction):
        return model
    if not isinstance(model, kinds.PolymorphicFunction):
        return None
    if model.input_signature is None:
        raise BadInput(
            "the tf.function has no input signature: it has a graph for each kind of input",
            hint="choose one: function.get_concrete_function(tf.TensorSpec([None, 3], tf.float32))",
        )
    return model.get_concrete_function()


def read_saved_model(
    folder: str | Path,
    signature: str | None = None,
    tags: Sequence[str] | None = None,
    feeds: Sequence[str] | None = None,
    fetches: Sequence[str] | None = None,
) -> GraphSource:
    """One signature of a SavedModel folder (``serving_default``, unless named), without running anything in it.

    ``feeds`` and ``fetches`` say in its place between which tensors, as in :func:`read_frozen`.
    """
    graph, found = files.read_saved_model(Path(folder), signature, tags, feeds, fetches)
    source = _source(graph, found, Path(folder).name)
    source.origin = _origin(source, found, folder, found.tags)
    return source


def read_frozen(
    path: str | Path, feeds: Sequence[str] | None = None, fetches: Sequence[str] | None = None
) -> GraphSource:
    """A frozen TensorFlow 1 graph (``.pb``) between the tensors ``feeds`` and ``fetches``.

    A feed ``NAME=VALUE`` gives a placeholder that value (``keep_prob=1.0``).
    """
    graph, found = files.read_frozen(Path(path), feeds, fetches)
    source = _source(graph, found, Path(path).stem)
    source.origin = _origin(source, found, path, None)
    return source


def _origin(
    source: GraphSource, found: files.Signature, path: str | Path, tags: list[str] | None
) -> dict[str, Any]:
    return {
        "path": str(Path(path).absolute()),
        "tags": tags,
        "feeds": list(found.inputs.values()),
        "fetches": list(found.outputs.values()),
        "keys": found.keys,
        "values": found.values,
    }


def _source(graph: Graph, found: files.Signature, name: str) -> GraphSource:
    inputs = [
        InputSpec(
            n.name, n.attrs["dtype"], None if n.attrs["shape"] is None else tuple(n.attrs["shape"])
        )
        for n in graph.inputs
    ]
    structure = "tensor" if len(found.outputs) == 1 else list(found.outputs)
    return GraphSource(graph, inputs, structure, name)


def _spec(node: Any) -> InputSpec:
    shape = node.attrs.get("shape")
    return InputSpec(node.name, node.attrs["dtype"], None if shape is None else tuple(shape))


def module_of(function: Any, args: Sequence[Any], names: dict[int, str] | None = None) -> Mirror:
    """A torch module for a Python function of TensorFlow tensors, traced with ``tf.function``.

    ``args`` are torch tensors (or arrays); symbolic sizes stay dynamic, and so does the first axis of plain ones.
    Variables that the function reads become weights; ``names`` names them by ``id`` of their handle.
    """
    import tensorflow as tf

    tensors = [a if torch.is_tensor(a) else torch.from_numpy(np.array(a)) for a in args]
    shapes = [_open_shape(t) for t in tensors]
    specs = [
        tf.TensorSpec(s, _tf_dtype(t), name=f"input_{i}")
        for i, (s, t) in enumerate(zip(shapes, tensors, strict=True))
    ]
    try:
        concrete = tf.function(function).get_concrete_function(*specs)
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        raise BadInput(
            "TensorFlow cannot trace the function",
            received=str(error).strip().splitlines()[-1] if str(error).strip() else repr(error),
            hint="it must take and return tensors; check the shapes and dtypes of the example inputs",
        ) from error
    source = read_concrete(concrete, names)
    # Keep what TensorFlow leaves open only where the caller does, too.
    source.inputs = [
        InputSpec(spec.name, spec.dtype, tuple(shape))
        for spec, shape in zip(source.inputs, shapes, strict=True)
    ]
    examples = [_plain_example(t, s) for t, s in zip(tensors, shapes, strict=True)]
    return mirror_of(source, examples)


def layer_module(layer: Any, args: Sequence[Any]) -> tuple[nn.Module, list[WeightEntry]]:
    """A torch module for a Keras layer whose ``call`` uses raw TensorFlow ops, and its weights' entries.

    ``args`` are the positional tensors of ``call``. The entries' targets are attribute paths within the layer.
    """
    mirror = module_of(lambda *tensors: layer.call(*tensors), args, variable_paths(layer))
    return mirror.module, mirror.entries


def variable_paths(layer: Any) -> dict[int, str]:
    """Attribute paths of a Keras layer's variables (``kernel``, ``blocks.0.scale``), by ``id`` of their handle."""
    found: dict[int, str] = {}
    seen: set[int] = set()

    def visit(value: Any, path: str) -> None:
        if id(value) in seen:
            return
        held = getattr(value, "value", None)
        if hasattr(held, "handle"):
            found.setdefault(id(held.handle), path)
        elif hasattr(value, "handle"):
            found.setdefault(id(value.handle), path)
        elif isinstance(value, (list, tuple, dict)):
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                visit(item, f"{path}.{key}")
        elif value is layer or hasattr(value, "_layers"):
            seen.add(id(value))
            for key, item in vars(value).items():
                if key[0] != "_" or hasattr(item, "handle"):
                    visit(item, f"{path}.{key}" if path else key)
            for name in ("kernel", "embeddings"):  # properties over private variables
                for held in (vars(value).get(f"_{name}"),):
                    if held is not None:
                        visit(held, f"{path}.{name}" if path else name)

    visit(layer, "")
    return found


def _open_shape(tensor: torch.Tensor) -> list[int | None]:
    symbolic = any(isinstance(s, torch.SymInt) for s in tensor.shape)
    if symbolic:
        return [int(s) if isinstance(s, int) else None for s in tensor.shape]
    return [None, *tensor.shape[1:]] if tensor.dim() else []


def _tf_dtype(tensor: torch.Tensor) -> Any:
    import tensorflow as tf

    return tf.dtypes.as_dtype(str(tensor.dtype).removeprefix("torch."))


def _plain_example(tensor: torch.Tensor, shape: Sequence[int | None]) -> torch.Tensor:
    """A plain tensor of the sizes, since fake tensors belong to the tracing that made them."""
    name = str(tensor.dtype).removeprefix("torch.")
    return example_tensor(InputSpec("input", name, tuple(shape)), _SIZES[0][0], _BATCH)
