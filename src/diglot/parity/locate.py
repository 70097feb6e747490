"""Naming the first module where source and translation part, and why."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import ModulePair
from diglot.errors import WorkerFailed
from diglot.parity import causes
from diglot.parity.checks import module_arrays
from diglot.parity.exported import is_exported
from diglot.parity.plan import MODEL_ERRORS
from diglot.parity.tolerances import PROVEN, relative
from diglot.parity.variants import Variant, variants

if TYPE_CHECKING:
    from diglot.parity.plan import Case, Failure
    from diglot.parity.prover import Prover
    from diglot.parity.torch_side import Call, Run

_ORDER = ("modules", "outputs", "buffers", "gradients", "input_gradients", "steps")

_SAME_INPUT = 1e-11

WEIGHT_FILES = ("model.weights.h5", "model.safetensors")

Arrays = dict[str, np.ndarray]


def first_divergence(prover: Prover) -> dict[str, Any]:
    """{module, target_module, file, line, error, likely_cause, where} of the first divergence.

    Wrong weights come first, then the first situation in which an output differs, then buffers,
    then gradients. `where` says in words what was seen.
    """
    failures = prover.found.failures
    of_weights = [failure for failure in failures if failure.gap.kind == "weights"]
    # A weight that is named says more than a weight file that could not be read.
    of_weights.sort(key=lambda f: (f.gap.what in WEIGHT_FILES, f.gap.error < float("inf")))
    if of_weights:
        return _of_weight(prover, of_weights[0])
    for kind in _ORDER:
        of_kind = [failure for failure in failures if failure.gap.kind == kind]
        if not of_kind:
            continue
        if kind in ("modules", "outputs"):
            case = next(f.case for f in failures if f.gap.kind in ("modules", "outputs"))
            return _of_output(prover, case, of_kind[0])
        if kind == "buffers":
            return _of_buffer(prover, of_kind)
        return _of_gradient(prover, of_kind)
    return _answer(prover, "", failures[0].gap.error, failures[0].gap.note, "")


def _answer(prover: Prover, module: str, error: float, cause: str, where: str) -> dict[str, Any]:
    """The record for the path of a PyTorch module, paired or not."""
    pair = _pair(prover, module)
    file, line = (pair.file, pair.line) if pair else (None, None)
    if file is None:
        file, line = _place(prover, module)
    target = pair.target if pair else ""
    if prover.to_torch:
        # The source is the Keras model; the line is the author's, or else the program's.
        module, target = target or module, module
        if file is not None and Path(file).parent == prover.directory:
            file = Path(file).name
    return {
        "module": module,
        "target_module": target,
        "source_class": pair.source_class if pair else "",
        "file": file,
        "line": line,
        "error": error,
        "likely_cause": cause or "unknown",
        "where": where,
    }


def _pair(prover: Prover, module: str) -> ModulePair | None:
    found = [pair for pair in prover.weight_map.modules if pair.source == module]
    return found[0] if found else None


def _live(prover: Prover, module: str) -> Any:
    """The live source module at a path, or None."""
    return dict(prover.model.module.named_modules(remove_duplicate=False)).get(module)


def _place(prover: Prover, module: str) -> tuple[str | None, int | None]:
    """File and line of a module's forward, for a module that the map does not list."""
    live = _live(prover, module)
    if live is None or is_exported(prover.model.module):
        return None, None
    try:
        return inspect.getsourcefile(type(live)), inspect.getsourcelines(type(live).forward)[1]
    except (OSError, TypeError):
        return None, None


def _owner(prover: Prover, name: str) -> str:
    """The module that a source weight belongs to: the longest listed prefix of its name."""
    module = name.rpartition(".")[0]
    while module and _pair(prover, module) is None and _live(prover, module) is None:
        module = module.rpartition(".")[0]
    return module


# -- weights, buffers, gradients ------------------------------------------------------------------


def _of_weight(prover: Prover, failure: Failure) -> dict[str, Any]:
    gap = failure.gap
    try:
        entry = prover.weight_map[gap.what]
    except KeyError:
        return _answer(prover, _owner(prover, gap.where), gap.error, gap.note, gap.what)
    prover.worker.load(prover.directory, "float64", weights=not _unreadable(prover))
    found = prover.worker.call("get").arrays.get(gap.what)
    state = prover.real
    held = all(name in state for name in entry.sources)
    ours = entry.to_target([state[name] for name in entry.sources]) if held else None
    expected, found = (found, ours) if prover.to_torch else (ours, found)
    cause = gap.note if expected is None else causes.weight_cause(expected, found, gap.note)
    if found is None and gap.where.endswith("bias"):
        cause = f"the bias is missing ({cause})"
    return _answer(
        prover, _owner(prover, gap.where), gap.error, cause, f"weight {gap.what} as stored"
    )


def _unreadable(prover: Prover) -> bool:
    return any(failure.gap.what in WEIGHT_FILES for failure in prover.found.failures)


def _of_buffer(prover: Prover, failures: list[Failure]) -> dict[str, Any]:
    """A running mean is clearer than a running variance: it has one formula only."""
    means = [f for f in failures if f.gap.where.endswith("running_mean")]
    failure = (means or failures)[0]
    case, gap = failure.case, failure.gap
    module = gap.where.rpartition(".")[0]
    cause = gap.note
    if case is not None and gap.error < float("inf"):
        prover.set_weights(case.weights)
        run, target = prover.run_both(case)
        entry = prover.weight_map[gap.what]
        state = prover.model.state()
        before = entry.to_target([state[name] for name in entry.sources])
        after = entry.to_target([run.buffers.get(name, state[name]) for name in entry.sources])
        fact = run.norms.get(module)
        momentum = fact.momentum if fact else 0.0
        cause = causes.momentum_cause(
            before, after, target[f"buffer:{gap.what}"], momentum, prover.sides
        )
    return _answer(prover, module, gap.error, cause, f"buffer {gap.what} after a call")


def _of_gradient(prover: Prover, failures: list[Failure]) -> dict[str, Any]:
    """All outputs agree: the last module of the forward pass is the first of the backward one."""
    order = {pair.source: i for i, pair in enumerate(prover.weight_map.modules)}
    last = max(failures, key=lambda f: order.get(_owner(prover, f.gap.where), -1))
    gap = last.gap
    if gap.kind == "steps":
        cause = "gradients agree, but training moves the weight differently"
    else:
        cause = gap.note or (
            "outputs agree but gradients do not: the gradient is stopped or changed on one side "
            "(detach, stop_gradient, a rounding or a clipping)"
        )
    module = "" if gap.kind == "input_gradients" else _owner(prover, gap.where)
    return _answer(prover, module, gap.error, cause, f"{gap.kind} of {gap.where}")


# -- outputs --------------------------------------------------------------------------------------


def _of_output(prover: Prover, case: Case | None, failure: Failure) -> dict[str, Any]:
    """Run the case again, with the inputs of every module, and find where they part."""
    if case is None:
        return _answer(prover, "", failure.gap.error, failure.gap.note, "")
    prover.set_weights(case.weights)
    try:
        run, target = prover.run_both(case, module_inputs=True)
    except MODEL_ERRORS:
        return _answer(
            prover, "", float("inf"), failure.gap.note, f"{case.mode} mode, {case.sizes}"
        )
    except WorkerFailed as error:
        cause = f"the Keras model cannot be called: {str(error).splitlines()[0]}"
        return _answer(prover, "", float("inf"), cause, f"{case.mode} mode, {case.sizes}")
    parted = [
        gap
        for gap in prover.compare(case, run, target).gaps
        if gap.kind == "modules" and not gap.error <= PROVEN
    ]
    situation = f"{case.mode} mode, {case.weights} weights"
    if not parted:
        outputs = [target[f"output:{i}"] for i in range(len(run.outputs))]
        cause = _try_variants(prover, case, run, target, "", 0) or failure.gap.note
        cause = cause or causes.output_cause(run.outputs, outputs, prover.sides)
        where = f"after the last module, in {situation}"
        return _answer(prover, "", failure.gap.error, cause, where)
    module, index, _ = parted[0].what.rsplit(":", 2)
    call = next(c for c in run.calls if (c.module, c.index) == (module, int(index)))
    if not _inputs_agree(prover, call, target):
        return _between(prover, case, run, target, call, parted[0].error, situation)
    cause = _cause(prover, case, run, target, call)
    where = f"its inputs agree and its output does not, in {situation}"
    return _answer(prover, module, parted[0].error, cause or parted[0].note, where)


def _between(
    prover: Prover, case: Case, run: Run, target: Arrays, call: Call, error: float, situation: str
) -> dict[str, Any]:
    """The first module that differs already got other inputs: the code around it is to blame."""
    parent = call.module
    while parent:
        parent = parent.rpartition(".")[0]
        if _pair(prover, parent) is None and parent:
            continue
        outer = [c for c in run.calls if c.module == parent]
        if not parent or not outer or _inputs_agree(prover, outer[0], target):
            break
    before = run.calls[: run.calls.index(call)]
    last = f"after {before[-1].module}" if before else "from the start"
    where = f"in its own forward, {last} and before {call.module}, in {situation}"
    cause = _try_variants(prover, case, run, target, parent, 0)
    sources, targets = _matched_inputs(prover, call, target)
    cause = cause or causes.output_cause(sources, targets, prover.sides)
    return _answer(prover, parent, error, cause, where)


def _inputs_of(prover: Prover, call: Call, target: Arrays) -> list[np.ndarray]:
    pair = _pair(prover, call.module)
    prefix = f"module_input:{pair.target if pair else ''}:{call.index}:"
    return [array for name, array in target.items() if name.startswith(prefix)]


def _matched_inputs(
    prover: Prover, call: Call, target: Arrays
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Float inputs of one call on both sides, in order; none where their shapes differ. An input has
    the layout of the module's output, if any."""
    pair = _pair(prover, call.module)
    perms = [perm for perm in (pair.outputs if pair else ()) if perm is not None]
    sources = [array for array in call.inputs if array.dtype.kind == "f"]
    targets = [
        a.transpose(np.argsort(perms[0])) if perms and a.ndim == len(perms[0]) else a
        for a in _inputs_of(prover, call, target)
        if a.dtype.kind == "f"
    ]
    same = [a.shape for a in sources] == [b.shape for b in targets]
    return (sources, targets) if same else ([], [])


def _inputs_agree(prover: Prover, call: Call, target: Arrays) -> bool:
    """Whether every float input of a call is among the Keras layer's inputs.

    Layouts and argument orders may differ, and padding may have been added: so sums of absolute
    values and of squares are compared, which neither changes.
    """
    found = [_print(array) for array in _inputs_of(prover, call, target) if array.size]
    for array in call.inputs:
        if array.dtype.kind != "f" or not array.size:
            continue
        print_ = _print(array)
        if not any(relative(print_, other) < _SAME_INPUT for other in found):
            return False
    return True


def _print(array: np.ndarray) -> np.ndarray:
    values = array[np.isfinite(array)].astype(np.float64)
    return np.array([np.abs(values).sum(), (values**2).sum()])


def _cause(prover: Prover, case: Case, run: Run, target: Arrays, call: Call) -> str:
    """The cause for a module whose inputs agree."""
    cause = _try_variants(prover, case, run, target, call.module, call.index)
    if cause:
        return cause
    pair = _pair(prover, call.module)
    live = _live(prover, call.module)
    if pair is None:
        return ""
    described = prover.worker.call("describe", path=pair.target).result
    cause = causes.settings_cause(live, described) if live is not None else ""
    calls = [c for c in run.calls if c.module == call.module]
    arrays = module_arrays(pair, calls, target, call.index)
    if cause or isinstance(arrays, str):
        return cause
    return causes.output_cause([a for a, _ in arrays], [b for _, b in arrays], prover.sides)


def _try_variants(
    prover: Prover, case: Case, run: Run, target: Arrays, module: str, index: int
) -> str:
    """The mistake under which the source's module gives what the translation gives, if any."""
    pair = _pair(prover, module)
    wanted: list[np.ndarray] | None = None
    given = run.outputs
    calls = [call for call in run.calls if call.module == module]
    if pair is not None and len(calls) > index:
        arrays = module_arrays(pair, calls, target, index)
        if not isinstance(arrays, str):
            wanted = [found for _, found in arrays]
            given = [source for source, _ in arrays]
    if wanted is None and module:
        return ""
    outputs = [target[f"output:{i}"] for i in range(len(run.outputs))]

    expected = outputs if wanted is None else wanted
    apart = max((relative(b, a) for a, b in zip(given, expected, strict=False)), default=0.0)
    named = {text: Variant(change) for text, change in variants(prover.sides)}
    tried = prover.model.under_variants(case.inputs, case.training, module, index, named)
    for text, (of_module, of_model) in tried.items():
        results = of_model if wanted is None else of_module
        left = [relative(b, a) for a, b in zip(results, expected, strict=False)]
        # A variant must explain the difference, not merely be as near as the source itself.
        if left and max(left) < min(causes.CLOSE, 0.01 * apart):
            return text
    return ""
