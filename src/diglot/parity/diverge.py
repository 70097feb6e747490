"""Where any two models, one in PyTorch and one in Keras, part first, and why."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.errors import BadInput
from diglot.parity import causes, matching
from diglot.parity.matching import Node
from diglot.parity.proof import _plain
from diglot.parity.tolerances import PROVEN, relative
from diglot.runtime.observing import LayerCall, Observation, observe

if TYPE_CHECKING:
    from diglot.parity.torch_side import Run, TorchModel

TOLERANCE = {"float64": PROVEN, "float32": 2e-5}
_COARSE = 1e-2

Observe = Callable[[list[str], list[np.ndarray]], Observation]


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

    return find_divergence(torch_model, inputs, functools.partial(observe, keras_model))


def find_divergence(torch_model: Any, inputs: Any, observed: Observe) -> Divergence:
    """`diverge`, with the Keras model wherever it is: `observed` calls it on arrays, which have these
    names in PyTorch, and gives what it did."""
    from diglot.parity.torch_side import TorchModel

    weight_map, arrays = _boundary(torch_model, inputs)
    source = TorchModel(torch_model, weight_map)
    names = [name for name, _ in source.module.named_modules() if name]
    run = source.run(
        arrays, training=False, seed=0, gradients=False, modules=names, module_inputs=True
    )
    target = observed([str(spec.name) for spec in weight_map.inputs], arrays)
    received = {(call.path, call.index): call for call in target.calls}
    targets = [Node(c.path, c.kind, c.index, c.weights, c.outputs) for c in target.calls]
    result = Divergence(tolerance=TOLERANCE.get(target.width, _COARSE))
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
    result.outputs = _output_errors(run.outputs, target.outputs)
    if max(result.outputs, default=0.0) <= result.tolerance:
        return result
    result.found = True
    if first is None:
        _explain_outputs(result, run.outputs, target.outputs)
    else:
        layer = target.layers[first[1].path]
        _explain(result, source, arrays, run, first, received[first[1].path, first[1].index], layer)
    return result


def _explain_outputs(
    result: Divergence, sources: list[np.ndarray], targets: list[np.ndarray]
) -> None:
    """Say how outputs differ where no layer does."""
    result.error = max(result.outputs)
    result.where = "all layers that were matched agree, the outputs do not"
    moved = [matching.in_source_layout(a, b) for a, b in zip(sources, targets, strict=False)]
    result.likely_cause = causes.output_cause(
        sources, [b if m is None else m for b, m in zip(targets, moved, strict=False)]
    )


def _explain(
    result: Divergence,
    source: TorchModel,
    arrays: list[np.ndarray],
    run: Run,
    first: tuple[Node, Node],
    target: LayerCall,
    layer: Mapping[str, Any],
) -> None:
    """Say which layer is to blame, and why; `layer` is what `describe_layer` says of it."""
    a, b = first
    result.module, result.target_module, result.error = a.path, b.path, _error(a, b)
    result.file, result.line = _place(source, arrays, a)
    call = next(c for c in run.calls if (c.module, c.index) == (a.path, a.index))
    result.where = "its inputs agree and its output does not"
    if not _inputs_agree(call.inputs, target.inputs, result.tolerance):
        order = [row["source"] for row in result.compared]
        before = order[order.index(a.path) - 1] if order.index(a.path) else "the inputs"
        result.where = f"its inputs differ already: look between {before} and it"
    live = dict(source.module.named_modules())[a.path]
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
    sizes = [sum(w.size for w in node.weights) for node in (a, b)]
    if len(a.weights) != len(b.weights) and sizes[0] != sizes[1]:
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


def _other_cause(a: Node, b: Node, live: Any, layer: Mapping[str, Any]) -> str:
    cause = causes.settings_cause(live, dict(layer))
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


def _inputs_agree(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], tolerance: float
) -> bool:
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


# -- the PyTorch side -----------------------------------------------------------------------------------


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
    """Whether a module is one of PyTorch's own that is one layer to its users, whatever it is made
    of."""
    home = type(module).__module__
    return home.startswith("torch.nn.modules") and not home.endswith(("container", "transformer"))


def _owners(modules: Mapping[str, Any], path: str) -> list[Any]:
    """The modules that hold the one at `path`, the root left out."""
    parts = path.split(".")[:-1]
    return [modules[".".join(parts[: i + 1])] for i in range(len(parts))]


def _place(
    source: TorchModel, arrays: list[np.ndarray], node: Node
) -> tuple[str | None, int | None]:
    """The file and line of the author's that calls a module, or else where the class of what holds it
    begins."""
    modules = dict(source.module.named_modules())
    lines: list[tuple[str, int] | None] = []
    handle = modules[node.path].register_forward_pre_hook(
        lambda module, args: lines.append(_calling_line())
    )
    try:
        source.outputs(arrays)
    finally:
        handle.remove()
    found = lines[node.index] if node.index < len(lines) else None
    if found is not None:
        return found
    owner = modules[node.path.rpartition(".")[0]]
    try:
        return inspect.getsourcefile(type(owner)), inspect.getsourcelines(type(owner))[1]
    except (OSError, TypeError):
        return None, None


def _calling_line() -> tuple[str, int] | None:
    """Where the code that is running now was called from a model's own code; None where there is no
    such code, as in an nn.Sequential by itself."""
    import torch

    from diglot.parity import torch_side

    framework = str(Path(torch.__file__).parent)
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename != torch_side.__file__:
        file = frame.f_code.co_filename
        if not file.startswith((framework, "<")):
            return file, frame.f_lineno
        frame = frame.f_back
    return None
