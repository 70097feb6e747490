"""Whether a comparison means anything: how far outputs move, and how far rounding moves them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.parity.checks import Gap
from diglot.parity.inputs import make_inputs
from diglot.parity.last_places import LastPlaces
from diglot.parity.plan import MODEL_ERRORS
from diglot.parity.randomise import perturb
from diglot.parity.tolerances import VACUOUS, relative
from diglot.runtime.exchange import on_disk

if TYPE_CHECKING:
    from diglot.parity.plan import Case, Settled
    from diglot.parity.prover import Prover

MOVES = "the outputs move"
IN_TRAINING = "random weights, inputs changed, in training mode"
_CALIBRATE_BELOW = 1e-3
_DRAWS = 4
"""How often weights are drawn until the outputs move with the inputs."""
_NUDGE = 1e-14
"""Some fifty units in the last place."""
_ROUNDING_FACTOR = 10.0
_ROUNDING_LIMIT = 1e-4
"""No difference above this is ever put down to rounding."""


def measure(prover: Prover, item: Settled, widest: Settled) -> None:
    """Measure on the source how far every output moves when the inputs change, with real and with
    random weights, and when the random weights move by a hundredth; calibrate the random
    statistics to the inputs of `widest` where that is little. Fills `proof.sensitivity`."""
    other = make_inputs(
        prover.weight_map.inputs, prover.examples, item.sizes, prover.seed + 1000, prover.variant
    )
    model = prover.model
    figures = {"real weights, inputs changed": _movement(prover, item.outputs, other)}
    for number in range(_DRAWS):
        # A softmax behind a deep network may be a one and zeros, whatever comes in.
        if number:
            prover.draw(number)
        base, moved = _random_movement(prover, item, other, widest)
        if not moved or max(moved.values()) >= VACUOUS:
            break
    figures["random weights, inputs changed"] = moved
    model.load_each(perturb(model.present(), model.all_parameters(), prover.seed))
    figures["random weights, weights changed"] = _movement(prover, base, item.inputs)
    if vacuous(figures) and not prover.one_mode:  # a result may be a constant in evaluation alone
        model.load({**prover.real, **prover.random})
        with contextlib.suppress(*MODEL_ERRORS):
            base = model.outputs(item.inputs, training=True)
            figures[IN_TRAINING] = _movement(prover, base, other, training=True)
    prover.proof.sensitivity = {**figures, "verdict": vacuous(figures) or MOVES}


def _random_movement(
    prover: Prover, item: Settled, other: list[np.ndarray], widest: Settled
) -> tuple[list[np.ndarray], dict[str, float]]:
    """The outputs with the random weights, and how far they move, with statistics that let them."""
    model = prover.model
    for calibrate in (True, False):
        model.load({**prover.real, **prover.random})
        base = model.outputs(item.inputs)
        moved = _movement(prover, base, other)
        if not (calibrate and moved and max(moved.values()) < _CALIBRATE_BELOW):
            break
        prover.random.update(model.calibrated(widest.inputs))
    return base, moved


def _movement(
    prover: Prover, base: list[np.ndarray], inputs: list[np.ndarray], *, training: bool = False
) -> dict[str, float]:
    """How far every output is from `base` for `inputs`, relatively, by the output's name."""
    try:
        after = prover.model.outputs(inputs, training)
    except MODEL_ERRORS:
        after = base
    names = [".".join(map(str, spec.path)) or "output" for spec in prover.weight_map.outputs]
    return {name: _moved(a, b) for name, a, b in zip(names, base, after, strict=True)}


def _moved(before: np.ndarray, after: np.ndarray) -> float:
    """Relative movement; 1 at most, also where something became infinite."""
    if before.dtype.kind not in "fc":
        return float(not np.array_equal(before, after))
    return min(relative(before, after), 1.0)


def vacuous(figures: dict[str, dict[str, float]]) -> str:
    """Why a proof would be one of a constant; empty where it would not."""
    by_inputs: dict[str, float] = {}
    by_anything: dict[str, float] = {}
    for what, moved in figures.items():
        for name, value in moved.items():
            by_anything[name] = max(by_anything.get(name, 0.0), value)
            if "inputs" in what:
                by_inputs[name] = max(by_inputs.get(name, 0.0), value)
    if by_inputs and max(by_inputs.values()) < VACUOUS:
        return (
            f"no output depends on the inputs by more than {max(by_inputs.values()):.1e} of its "
            "size, neither with the given weights nor with random ones"
        )
    for name, value in by_anything.items():
        if value < VACUOUS:
            return f"the output {name} depends neither on the inputs nor on the weights"
    return ""


_NOISE = 0.1
"""A figure that moves by this part of itself when everything else moves by 1e-14 is noise."""


def without_rounding(prover: Prover, case: Case, beyond: list[Gap]) -> list[Gap]:
    """The gaps that rounding does not account for.

    A deep network can blow rounding up beyond the tolerance. So the source itself is run again
    with every weight and input moved by 1e-14 of its size, and every operation's result by a unit
    in the last place (`note_steps` for training steps): what moves by as much as the gap cannot be
    told from rounding. Gaps above 1e-4 are never excused, but
    for figures that are nothing but rounding: what is zero by its nature (the mean of a batch norm's
    output in training mode) moves by all of itself.
    """
    if case.sizes not in prover.proof.sizes:
        return beyond
    if prover.nudged is None or prover.nudged[0] is not case:
        prover.nudged = (case, _nudged(prover, case))
    moved = prover.nudged[1]
    for gap in beyond:
        if gap.error > _ROUNDING_LIMIT and moved.get((gap.kind, gap.what), 0.0) < _NOISE:
            return beyond
    kept = []
    for gap in beyond:
        conditioned = moved.get((gap.kind, gap.what), 0.0)
        if gap.error <= _ROUNDING_FACTOR * conditioned:
            prover.found.rounding.append(
                {"what": gap.where, "kind": gap.kind, "error": gap.error, "rounding": conditioned}
            )
        else:
            kept.append(gap)
    return kept


def note_steps(prover: Prover, case: Case, options: dict[str, Any]) -> None:
    """Note how far the weights after the source's own training steps move under such nudges.

    A step may lead across a kink, which rounding alone then decides the side of. Leaves the source with weights
    that were trained from nudged ones.
    """
    if prover.nudged is None or prover.nudged[0] is not case:
        prover.nudged = (case, {})
    moved = prover.nudged[1]
    base = prover.model.state()
    start = {n: a for n, a in prover.current.items() if a.dtype.kind == "f"}
    for number in range(2):
        nudge = _nudges(prover, number)
        prover.model.load_each((name, nudge(array)) for name, array in start.items())
        with LastPlaces(number):
            prover.model.train(
                [nudge(array) for array in case.inputs], training=case.training, **options
            )
        again = prover.model.present()
        for entry in prover.weight_map.entries:
            if entry.kind == "parameter" and all(name in base for name in entry.sources):
                a, b = (entry.to_target([s[n] for n in entry.sources]) for s in (base, again))
                key = ("steps", entry.target)
                moved[key] = max(moved.get(key, 0.0), relative(a, b))


def _nudges(prover: Prover, number: int) -> Callable[[np.ndarray], np.ndarray]:
    generator = np.random.default_rng([prover.seed, 77, number])

    def nudge(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind != "f":
            return array
        return array.astype(np.float64) * (1.0 + _NUDGE * generator.standard_normal(array.shape))

    return nudge


def _nudged(prover: Prover, case: Case) -> dict[tuple[str, str], float]:
    """How far every figure of the source's own run moves under nudges in the last places."""
    from diglot.parity.checks import compare_gradients

    names = [pair.source for pair in prover.weight_map.modules]
    options: dict[str, Any] = {"training": case.training, "seed": case.seed, "modules": names}
    base = prover.model.run(case.inputs, **options)
    result: dict[tuple[str, str], float] = {}

    def note(kind: str, what: str, error: float) -> None:
        result[kind, what] = max(result.get((kind, what), 0.0), error)

    state = prover.model.present()
    floats = on_disk({name: array for name, array in state.items() if array.dtype.kind == "f"})
    for number in range(2):
        nudge = _nudges(prover, number)
        # Nudge the working copy only: `current` stays what both sides hold.
        prover.model.load_each((name, nudge(array)) for name, array in floats.items())
        with LastPlaces(number):
            run = prover.model.run([nudge(array) for array in case.inputs], **options)
        for i, (a, b) in enumerate(zip(base.outputs, run.outputs, strict=True)):
            note("outputs", str(i), relative(a, b))
        for call, again in zip(base.calls, run.calls, strict=False):
            for i, (a, b) in enumerate(zip(call.outputs, again.outputs, strict=False)):
                note("modules", f"{call.module}:{call.index}:{i}", relative(a, b))
        mapped = {
            f"grad:{entry.target}": entry.gradient_to_target(
                [run.gradients[name] for name in entry.sources], rtol=1.0
            )
            for entry in prover.weight_map.entries
            if all(name in run.gradients for name in entry.sources)
        }
        for gap in compare_gradients(prover.weight_map, base.gradients, mapped)[0]:
            note(gap.kind, gap.what, gap.error)
        for i, gradient in base.input_gradients.items():
            note("input_gradients", str(i), relative(gradient, run.input_gradients[i]))
        for name, array in base.buffers.items():
            for entry in prover.weight_map.entries:
                if entry.sources[0] == name and name in run.buffers:
                    note("buffers", entry.target, relative(array, run.buffers[name]))
    prover.model.load(floats)
    return result
