"""Where any two models, one in PyTorch and one in Keras, part first, and why."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.errors import BadInput
from diglot.parity import causes, matching
from diglot.parity.matching import Node
from diglot.parity.proof import _plain
from diglot.parity.tolerances import PROVEN, relative
from diglot.runtime.nests import tensors

if TYPE_CHECKING:
    from diglot.parity.torch_side import Run, TorchModel

TOLERANCE = {"float64": PROVEN, "float32": 2e-5}
_COARSE = 1e-2


@dataclass
class Divergence:
    """What `diverge` found; true where the models part.

    `module` and `target_module` name the first pair of layers that give different outputs, `error`
    how far they are apart, relatively, `where` what was seen. `compared` lists every pair
    {source, target, error} in order of execution, `not_compared` the rest.
    """

    found: bool = False
    module: str = ""
    target_module: str = ""
    error: float = 0.0
    likely_cause: str = ""
    where: str = ""
    file: str | None = None
    line: int | None = None
    outputs: list[float] = field(default_factory=list)
    compared: list[dict[str, Any]] = field(default_factory=list)
    not_compared: list[dict[str, str]] = field(default_factory=list)
    tolerance: float = PROVEN

    def __bool__(self) -> bool:
        """Whether there is a divergence."""
        return self.found

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values."""
        return _plain(asdict(self))

    def to_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def __str__(self) -> str:
        if not self.found:
            worst = max(self.outputs, default=0.0)
            return f"no divergence in {len(self.compared)} layers; outputs within {worst:.1e}"
        place = f" ({self.file}:{self.line})" if self.file else ""
        return (
            f"first divergence at {self.module or 'the outputs'}{place}, {self.error:.1e}: "
            f"{self.likely_cause or 'unknown cause'}"
        )


def diverge(torch_model: Any, keras_model: Any, inputs: Any) -> Divergence:
    """Run two live models on the same inputs, in evaluation mode, and find where they part.

    `inputs` is a tensor or array, a tuple, or a dict of keyword arguments, in PyTorch's layout.
    Neither model is changed; the PyTorch one is copied to float64. Layers are matched by their
    weights, kinds and order, so the two need not have been made by Diglot. Raises BadInput where
    the inputs do not fit the models.
    """
    from diglot.parity.torch_side import TorchModel

    weight_map, arrays = _boundary(torch_model, inputs)
    source = TorchModel(torch_model, weight_map)
    names = [name for name, _ in source.module.named_modules() if name]
    run = source.run(
        arrays, training=False, seed=0, gradients=False, modules=names, module_inputs=True
    )
    returned, targets, received = _run_keras(keras_model, weight_map, arrays)
    result = Divergence(tolerance=TOLERANCE.get(_width(keras_model), _COARSE))
    nodes = _torch_nodes(source, run)
    pairs = matching.match(nodes, targets)
    _list_unmatched(result, nodes, targets, pairs)
    first: tuple[Node, Node] | None = None
    worst = 0.0
    for a, b in pairs:
        error = _error(a, b)
        result.compared.append({"source": a.path, "target": b.path, "error": error})
        # Rounding grows from layer to layer; a mistake shows as a jump.
        if first is None and error > max(result.tolerance, 20 * worst):
            first = (a, b)
        worst = max(worst, min(error, result.tolerance))
    result.outputs = _output_errors(run.outputs, returned)
    if max(result.outputs, default=0.0) > result.tolerance:
        _explain(result, source, arrays, keras_model, run, first, received, returned)
    return result


def _explain(
    result: Divergence,
    source: TorchModel,
    arrays: list[np.ndarray],
    keras_model: Any,
    run: Run,
    first: tuple[Node, Node] | None,
    received: Mapping[str, list[list[np.ndarray]]],
    returned: list[np.ndarray],
) -> None:
    """Fill in which layer is to blame, and why."""
    result.found = True
    if first is None:
        result.error = max(result.outputs)
        result.where = "all layers that were matched agree, the outputs do not"
        moved = [
            matching.in_source_layout(a, b) for a, b in zip(run.outputs, returned, strict=False)
        ]
        result.likely_cause = causes.output_cause(
            run.outputs, [b if m is None else m for b, m in zip(returned, moved, strict=False)]
        )
        return
    a, b = first
    result.module, result.target_module, result.error = a.path, b.path, _error(a, b)
    result.file, result.line = _place(source, a.path)
    call = next(c for c in run.calls if (c.module, c.index) == (a.path, a.index))
    inputs = received[b.path][b.index]
    result.where = "its inputs agree and its output does not"
    if not _inputs_agree(call.inputs, inputs, result.tolerance):
        order = [row["source"] for row in result.compared]
        before = order[order.index(a.path) - 1] if order.index(a.path) else "the inputs"
        result.where = f"its inputs differ already: look between {before} and it"
    live = dict(source.module.named_modules())[a.path]
    layer = _layers(keras_model)[b.path]
    result.likely_cause = (
        _weights_cause(a, b)
        or _variant_cause(source, arrays, a, b)
        or _other_cause(a, b, live, layer)
    )


def _weights_cause(a: Node, b: Node) -> str:
    """A weight that is not the same one in the two layers."""
    left = list(b.weights)
    for weight in a.weights:
        alike = [w for w in left if w.size == weight.size]
        if not alike:
            continue
        expected = matching.in_source_layout(alike[0], weight)
        moved = weight if expected is None else expected
        nearest = min(alike, key=lambda w: _distance(weight, w))
        left = [w for w in left if w is not nearest]
        if weight.ndim == 2 and weight.shape == nearest.shape and a.kind == "Linear":
            if relative(weight.T, nearest) <= matching.SAME_WEIGHTS:
                continue
            if relative(weight, nearest) <= matching.SAME_WEIGHTS:
                return (
                    "the weight is transposed: Keras keeps (inputs, outputs), PyTorch the reverse"
                )
        if _distance(weight, nearest) > matching.SAME_WEIGHTS:
            return causes.weight_cause(moved, nearest)
    if len(a.weights) != len(b.weights):
        return f"the layers have {len(a.weights)} and {len(b.weights)} weights: a bias is missing?"
    return ""


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """How far two weights are apart whatever their layouts."""
    return relative(np.sort(a, axis=None), np.sort(b, axis=None))


def _variant_cause(source: TorchModel, arrays: list[np.ndarray], a: Node, b: Node) -> str:
    """A known mistake under which PyTorch's layer gives what Keras's gives."""
    from diglot.parity.variants import Variant, variants

    base = _error(a, b)
    named = {text: Variant(change) for text, change in variants()}
    tried = source.under_variants(arrays, False, a.path, a.index, named)
    errors = {}
    for text, (outputs, _) in tried.items():
        node = Node(a.path, a.kind, a.index, a.weights, tuple(outputs))
        errors[text] = _error(node, b)
    best = min(errors, key=lambda text: errors[text], default="")
    return best if best and errors[best] < min(2e-5, 0.05 * base) else ""


def _other_cause(a: Node, b: Node, live: Any, layer: Any) -> str:
    from diglot.runtime.capture import describe_layer

    cause = causes.settings_cause(live, describe_layer(layer))
    if cause or not (a.outputs and b.outputs):
        return cause
    moved = matching.in_source_layout(a.outputs[0], b.outputs[0])
    return causes.output_cause([a.outputs[0]], [b.outputs[0] if moved is None else moved])


def _error(a: Node, b: Node) -> float:
    """How far the first outputs of two calls are apart."""
    if not (a.outputs and b.outputs):
        return 0.0
    moved = matching.in_source_layout(a.outputs[0], b.outputs[0])
    return float("inf") if moved is None else relative(a.outputs[0], moved)


def _output_errors(sources: list[np.ndarray], targets: list[np.ndarray]) -> list[float]:
    errors = []
    for a, b in zip(sources, targets, strict=False):
        moved = matching.in_source_layout(a, b)
        errors.append(float("inf") if moved is None else relative(a, moved))
    if len(sources) != len(targets):
        errors.append(float("inf"))
    return errors


def _inputs_agree(sources: list[np.ndarray], targets: list[np.ndarray], tolerance: float) -> bool:
    """Whether every float input on one side is among those of the other, in any layout."""

    def sums(array: np.ndarray) -> np.ndarray:
        values = array[np.isfinite(array)].astype(np.float64)
        return np.array([np.abs(values).sum(), (values**2).sum()])

    found = [sums(array) for array in targets if array.dtype.kind == "f"]
    return all(
        any(relative(sums(array), other) < tolerance for other in found)
        for array in sources
        if array.dtype.kind == "f"
    )


def _list_unmatched(
    result: Divergence, nodes: list[Node], targets: list[Node], pairs: list[tuple[Node, Node]]
) -> None:
    for side, all_nodes, used in (
        ("PyTorch", nodes, {id(a) for a, _ in pairs}),
        ("Keras", targets, {id(b) for _, b in pairs}),
    ):
        for node in all_nodes:
            if id(node) not in used and node.weights:
                why = f"no layer on the other side was found to match this {node.kind} of {side}"
                result.not_compared.append({"what": node.path, "why": why})


# -- running both -----------------------------------------------------------------------------------


def _boundary(model: Any, inputs: Any) -> tuple[WeightMap, list[np.ndarray]]:
    """A map that says what goes in, and the inputs as arrays."""
    structure = "single"
    names: list[str] = []
    values = [inputs]
    if isinstance(inputs, Mapping):
        structure, names, values = "dict", list(inputs), list(inputs.values())
    elif isinstance(inputs, (tuple, list)):
        structure, values = "list", list(inputs)
    if not names:
        names = list(inspect.signature(model.forward).parameters)[: len(values)]
    arrays = []
    for name, value in zip(names, values, strict=False):
        if not hasattr(value, "shape"):
            raise BadInput(
                f"The input {name} is no tensor.",
                expected="tensors or arrays",
                received=repr(value),
            )
        tensor = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
        arrays.append(tensor)
    specs = [
        TensorSpec(name=name, shape=array.shape, dtype=str(array.dtype))
        for name, array in zip(names, arrays, strict=False)
    ]
    return WeightMap(inputs=specs, structure={"inputs": structure, "outputs": "any"}), arrays


def _torch_nodes(source: TorchModel, run: Run) -> list[Node]:
    """The calls of modules without children, and of those whose children were not called."""
    modules = dict(source.module.named_modules())
    called = {call.module for call in run.calls}
    nodes = []
    for call in run.calls:
        module = modules[call.module]
        whole = _is_whole(module)
        inner = [name for name in called if name.startswith(f"{call.module}.")]
        if (inner and not whole) or any(_is_whole(m) for m in _owners(modules, call.module)):
            continue
        weights = [*module.parameters(), *module.buffers()]
        arrays = [w.detach().numpy() for w in weights if w.is_floating_point()]
        kind = type(module).__name__
        nodes.append(Node(call.module, kind, call.index, tuple(arrays), tuple(call.outputs)))
    return nodes


def _is_whole(module: Any) -> bool:
    """Whether a PyTorch module or Keras layer is one of the framework's own that is one layer to
    its users, whatever it is made of."""
    home, kind = type(module).__module__, type(module).__name__
    if home.startswith("torch.nn.modules"):
        return not home.endswith(("container", "transformer"))
    if home.startswith("keras.src.layers"):
        return kind not in ("TimeDistributed", "Wrapper")
    return False


def _owners(modules: Mapping[str, Any], path: str) -> list[Any]:
    """The modules that hold the one at `path`, the root left out."""
    parts = path.split(".")[:-1]
    return [modules[".".join(parts[: i + 1])] for i in range(len(parts))]


def _layers(model: Any) -> dict[str, Any]:
    """Every layer of a Keras model by path; the model itself is left out."""
    found: dict[str, Any] = {}
    for layer in model._flatten_layers(include_self=False):
        path = getattr(layer, "path", None) or layer.name
        while path in found:
            path += "'"
        found[path.replace("/", ".")] = layer
    return found


def _run_keras(
    model: Any, weight_map: WeightMap, arrays: list[np.ndarray]
) -> tuple[list[np.ndarray], list[Node], dict[str, list[list[np.ndarray]]]]:
    """Outputs, a node for each call of an innermost layer, and what each call received."""
    import keras

    from diglot.runtime import capture

    layers = _layers(model)
    with capture.recording(layers) as recorder:
        returned = model(_keras_inputs(model, weight_map, arrays), training=False)
    called = {id(layers[call.path]) for call in recorder.calls}
    inner = {path: _inside(layer) for path, layer in layers.items()}
    hidden = set().union(*(inner[path] for path, layer in layers.items() if _is_whole(layer)))
    counts: Counter[str] = Counter()
    nodes: list[Node] = []
    received: dict[str, list[list[np.ndarray]]] = {}
    numpy = keras.ops.convert_to_numpy
    for call in recorder.calls:
        layer = layers[call.path]
        index = counts[call.path]
        counts[call.path] += 1
        received.setdefault(call.path, []).append([np.asarray(numpy(t)) for t in call.inputs])
        if id(layer) in hidden or (inner[call.path] & called and not _is_whole(layer)):
            continue
        weights = [np.asarray(numpy(v.value)) for v in layer.variables if "float" in str(v.dtype)]
        outputs = tuple(np.asarray(numpy(t)) for t in call.outputs)
        kind = type(layer).__name__
        nodes.append(Node(call.path, kind, index, tuple(weights), outputs))
    return [np.asarray(numpy(t)) for t in tensors(returned)], nodes, received


def _inside(layer: Any) -> set[int]:
    """The identities of the layers that a layer is made of."""
    return {id(item) for item in layer._flatten_layers(include_self=False)}


def _keras_inputs(model: Any, weight_map: WeightMap, arrays: list[np.ndarray]) -> Any:
    """The inputs as the Keras model takes them: by name or in order, channels last where it says
    so."""
    names = [str(spec.name) for spec in weight_map.inputs]
    wanted = getattr(model, "inputs", None)
    if not wanted:
        return arrays[0] if len(arrays) == 1 else arrays
    by_name = dict(zip(names, arrays, strict=True))
    keys = [tensor.name for tensor in wanted]
    given = [by_name[k] for k in keys] if set(keys) == set(by_name) else list(arrays)
    if len(given) != len(wanted):
        raise BadInput(
            "The two models take different numbers of inputs.",
            expected=f"{len(wanted)} for Keras",
            received=str(len(given)),
        )
    laid_out = [_laid_out(array, tensor.shape) for array, tensor in zip(given, wanted, strict=True)]
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, Mapping):
        by_tensor = {id(tensor): array for tensor, array in zip(wanted, laid_out, strict=True)}
        return {key: by_tensor[id(tensor)] for key, tensor in structure.items()}
    return laid_out[0] if len(laid_out) == 1 else laid_out


def _laid_out(array: np.ndarray, shape: Any) -> np.ndarray:
    """`array` with its channels moved to the end where only that fits the Keras input's shape."""

    def fits(candidate: np.ndarray) -> bool:
        return len(shape) == candidate.ndim and all(
            size in (None, own) for size, own in zip(shape, candidate.shape, strict=True)
        )

    if fits(array) or array.ndim < 3:
        return array
    moved = np.moveaxis(array, 1, -1)
    if not fits(moved):
        raise BadInput(
            "An input does not fit the Keras model.",
            expected=str(tuple(shape)),
            received=f"{array.shape} (or {moved.shape} with the channels last)",
        )
    return np.ascontiguousarray(moved)


def _width(model: Any) -> str:
    """The float width that a Keras model computes in."""
    return str(getattr(model, "compute_dtype", "float32"))


def _place(source: TorchModel, path: str) -> tuple[str | None, int | None]:
    """The class of the module that holds `path`: where its author wrote it down."""
    modules = dict(source.module.named_modules())
    owner = modules[path.rpartition(".")[0]]
    try:
        return inspect.getsourcefile(type(owner)), inspect.getsourcelines(type(owner))[1]
    except (OSError, TypeError):
        return None, None
