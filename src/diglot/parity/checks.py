"""Comparing what both sides gave, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diglot.codegen.weights import ModulePair, WeightMap, WeightMapError
from diglot.parity.tolerances import GLOBAL_FLOOR, PROVEN, SIBLING_FLOOR, relative

Arrays = Mapping[str, np.ndarray]
REORDERED = "the same numbers in another order, for which the weights after it account"


@dataclass(frozen=True)
class Gap:
    """How far one array of the target is from its source. `what` names it within its kind: an
    output's or input's index, a weight's target path, or a module's "path:call:tensor"."""

    kind: str
    what: str
    where: str
    error: float
    note: str = ""


@dataclass
class Comparison:
    """All gaps of one run, modules in execution order; and what could not be compared."""

    gaps: list[Gap] = field(default_factory=list)
    not_compared: dict[str, str] = field(default_factory=dict)
    explained: list[dict[str, Any]] = field(default_factory=list)


def compare_weights(weight_map: WeightMap, state: Arrays, target: Arrays) -> list[Gap]:
    """The target's own weights against the mapped source weights; missing ones are infinitely
    far."""
    gaps = []
    for entry in weight_map.entries:
        found = target.get(entry.target)
        if found is None or any(name not in state for name in entry.sources):
            error, note = float("inf"), "missing"
        else:
            expected = entry.to_target([state[name] for name in entry.sources])
            error, note = relative(expected, found), ""
        gaps.append(Gap("weights", entry.target, entry.sources[0], error, note))
    return gaps


def compare_outputs(weight_map: WeightMap, outputs: list[np.ndarray], target: Arrays) -> list[Gap]:
    """Every mapped output, in the source's layout; a float output in another width is noted."""
    gaps = []
    for i, (spec, source) in enumerate(zip(weight_map.outputs, outputs, strict=True)):
        name = ".".join(str(part) for part in spec.path) or "output"
        found = target[f"output:{i}"]
        narrow = (
            source.dtype.kind == "f"
            and found.dtype.kind == "f"
            and found.dtype.itemsize < source.dtype.itemsize
        )
        note = f"comes out in {found.dtype}" if narrow else ""
        gaps.append(Gap("outputs", str(i), name, relative(source, found), note))
    return gaps


Pairs = list[tuple[np.ndarray, np.ndarray]]


def module_arrays(pair: ModulePair, calls: list[Any], target: Arrays, index: int) -> Pairs | str:
    """(source, target in the source's layout) for every tensor that the map lists of one call of a
    module pair (a recurrent layer's states may be left out); or, in words, why they cannot be
    compared.

    A module that is called several times may be called in another order in the target (an
    expression's parts may be evaluated either way round): each call is then taken for the one that
    it is nearest to.
    """
    count = len(
        {name.split(":")[2] for name in target if name.startswith(f"module:{pair.target}:")}
    )
    if count == 0:
        return "the Keras layer was not called by itself"
    if count != len(calls):
        return f"called {len(calls)} times in PyTorch, {count} times in Keras"
    own = _one_call(pair, calls[index].outputs, target, index)
    if count == 1 or isinstance(own, str) or _apart(own) <= PROVEN:
        return own
    free = set(range(count))
    for number, call in enumerate(calls):
        options = {j: _one_call(pair, call.outputs, target, j) for j in sorted(free)}
        errors = {j: _apart(o) for j, o in options.items() if not isinstance(o, str)}
        # In order, unless another call is the same to within rounding.
        best = min(errors, key=lambda j: (errors[j] > PROVEN, abs(j - number)), default=number)
        if number == index:
            return options.get(best, own)
        free.discard(best)
    return own


def _one_call(
    pair: ModulePair, sources: list[np.ndarray], target: Arrays, index: int
) -> Pairs | str:
    prefix = f"module:{pair.target}:{index}:"
    count = sum(name.startswith(prefix) for name in target)
    if min(len(sources), count) < len(pair.outputs):
        return (
            f"{len(sources)} tensors in PyTorch, {count} in Keras, {len(pair.outputs)} in the map"
        )
    result = []
    for i, (source, perm) in enumerate(zip(sources, pair.outputs, strict=False)):
        found = target[f"{prefix}{i}"]
        if perm is not None:
            if len(perm) != found.ndim:
                return f"the map permutes {len(perm)} axes, Keras returns {found.ndim}"
            found = found.transpose(np.argsort(perm))
        result.append((source, found))
    return result


def _apart(arrays: Pairs) -> float:
    return max((relative(a, b) for a, b in arrays), default=0.0)


def compare_modules(
    weight_map: WeightMap, calls: list[Any], target: Arrays
) -> tuple[list[Gap], dict[str, str]]:
    """Every module's outputs, in the order in which the source's modules returned; and, by module,
    why one could not be compared."""
    by_source = {pair.source: pair for pair in weight_map.modules}
    by_module: dict[str, list[Any]] = {}
    for call in calls:
        by_module.setdefault(call.module, []).append(call)
    gaps: list[Gap] = []
    reasons: dict[str, str] = {}
    for call in calls:
        pair = by_source[call.module]
        arrays = module_arrays(pair, by_module[call.module], target, call.index)
        if isinstance(arrays, str):
            reasons[call.module] = arrays
            continue
        for i, (source, found) in enumerate(arrays):
            what = f"{call.module}:{call.index}:{i}"
            note = ""
            if source.shape != found.shape:
                note = f"shape {list(source.shape)} in PyTorch, {list(found.shape)} in Keras"
            error = relative(source, found)
            if not error <= PROVEN and source.size == found.size:
                by_size = np.sort(source, axis=None), np.sort(found, axis=None)
                note = REORDERED if relative(*by_size) <= PROVEN else note
            gaps.append(Gap("modules", what, call.module, error, note))
    for pair in weight_map.modules:
        if pair.source not in by_module:
            reasons.setdefault(pair.source, "the PyTorch module was not called by itself")
    return gaps, reasons


def compare_gradients(
    weight_map: WeightMap, gradients: Arrays, target: Arrays
) -> tuple[list[Gap], dict[str, str]]:
    """The gradient of every trained weight; by target path, why one could not be compared."""
    gaps: list[Gap] = []
    reasons: dict[str, str] = {}
    peaks = {n: float(np.abs(g).max()) if g.size else 0.0 for n, g in gradients.items()}
    top = max(peaks.values(), default=0.0)
    by_module: dict[str, float] = {}
    for name, peak in peaks.items():
        module = name.rpartition(".")[0]
        by_module[module] = max(by_module.get(module, 0.0), peak)
    for entry in weight_map.entries:
        if entry.kind != "parameter":
            continue
        missing = [name for name in entry.sources if name not in gradients]
        found = target.get(f"grad:{entry.target}")
        if missing and weight_map.to_torch and found is not None:
            why = "trained in Keras, not in PyTorch"
            gaps.append(Gap("gradients", entry.target, entry.sources[0], float("inf"), why))
            continue
        if missing:
            reasons[entry.target] = f"{missing[0]} is not trained in PyTorch"
            continue
        where = entry.sources[0]
        if found is None:
            why = "missing" if entry.trainable else "not trained in Keras"
            gaps.append(Gap("gradients", entry.target, where, float("inf"), why))
            continue
        sibling = SIBLING_FLOOR * by_module[where.rpartition(".")[0]]
        try:
            expected = entry.gradient_to_target([gradients[name] for name in entry.sources])
        except WeightMapError as error:
            gaps.append(Gap("gradients", entry.target, where, float("inf"), error.message))
            continue
        error = relative(expected, found, max(sibling, GLOBAL_FLOOR * top))
        gaps.append(Gap("gradients", entry.target, where, error))
    return gaps, reasons


def compare_input_gradients(
    weight_map: WeightMap, gradients: Mapping[int, np.ndarray], target: Arrays
) -> list[Gap]:
    """The gradient of every float input, in the source's layout."""
    top = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    gaps = []
    for i, gradient in gradients.items():
        found = target.get(f"input_grad:{i}")
        error = float("inf") if found is None else relative(gradient, found, GLOBAL_FLOOR * top)
        gaps.append(Gap("input_gradients", str(i), str(weight_map.inputs[i].name), error))
    return gaps


def compare_buffers(
    weight_map: WeightMap, run: Any, before: Arrays, target: Arrays, tolerance: float
) -> tuple[list[Gap], list[dict[str, Any]]]:
    """Buffers after one call: all that `run` has, and those that Keras alone wrote. A running variance
    that is exactly the biased estimate is no gap but an explanation."""
    gaps: list[Gap] = []
    explained: list[dict[str, Any]] = []
    for entry in weight_map.entries:
        found = target.get(f"buffer:{entry.target}")
        written = found is not None or any(name in run.buffers for name in entry.sources)
        if not entry.changes or not written or any(n not in before for n in entry.sources):
            continue
        where = entry.sources[0]
        if found is None:
            gaps.append(
                Gap("buffers", entry.target, where, float("inf"), "Keras does not write it")
            )
            continue
        after = {**before, **run.buffers}
        expected = entry.to_target([after[name] for name in entry.sources])
        error = relative(expected, found)
        module, _, last = where.rpartition(".")
        fact = run.norms.get(module)
        if error > tolerance and last == "running_var" and fact is not None and fact.values > 1:
            old = entry.to_target([before[name] for name in entry.sources])
            kept = (1.0 - fact.momentum) ** fact.calls
            factor = fact.values / (fact.values - 1)
            biased = kept * old + (expected - kept * old) / factor
            rest = relative(biased, found)
            if rest <= tolerance:
                explained.append({"target": entry.target, "values": fact.values, "error": rest})
                error = rest
        gaps.append(Gap("buffers", entry.target, where, error))
    return gaps, explained


def lost_buffers(weight_map: WeightMap, run: Any, before: Arrays, module: Any) -> list[Gap]:
    """What a call changes and a file would hold, and nothing in Keras stands for (but counts of calls)."""
    saved, why = module.state_dict(), "a call changes it, and nothing in Keras holds it"
    held = {name for entry in weight_map.entries for name in entry.sources}
    return [
        Gap("buffers", name, name, float("inf"), why)
        for name, array in run.buffers.items()
        if name in saved
        and name not in held
        and not name.endswith("num_batches_tracked")
        and not (name in before and np.array_equal(array, before[name]))
    ]
