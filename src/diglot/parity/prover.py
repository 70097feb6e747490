"""One proof, from the first comparison to the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from diglot.errors import BadInput, WorkerFailed
from diglot.parity import checks, plan, sensitivity
from diglot.parity.checks import Comparison, Gap
from diglot.parity.inputs import Sizes
from diglot.parity.plan import MODEL_ERRORS, Case, Failure, Part, Settled, first_line
from diglot.parity.proof import Check, Proof
from diglot.parity.prove import Progress, is_graph, read_info
from diglot.parity.randomise import randomise
from diglot.parity.sides import Sides
from diglot.parity.tolerances import FLOAT32, PROVEN
from diglot.parity.torch_side import Run, TorchModel, open_torch, state_of
from diglot.runtime.exchange import on_disk
from diglot.torch_program import WEIGHTS

if TYPE_CHECKING:
    from diglot.runtime import KerasWorker

_ONE_MODE = (
    "the graph was saved for inference and has no other mode: training steps were compared in "
    "evaluation mode"
)
_ONE_VALUE = "Expected more than 1 value per channel when training"


@dataclass
class _Findings:
    """What has been found so far, besides the checks."""

    failures: list[Failure] = field(default_factory=list)
    not_compared: dict[tuple[str, str], None] = field(default_factory=dict)
    biased: list[dict[str, Any]] = field(default_factory=list)
    rounding: list[dict[str, Any]] = field(default_factory=list)
    # Why situations could not be compared at all.
    refusals: list[str] = field(default_factory=list)
    compared_modules: set[str] = field(default_factory=set)
    module_reasons: dict[str, str] = field(default_factory=dict)
    exact: dict[str, int] = field(default_factory=dict)


class Prover:
    """Compares one translation; `prove` does everything, once."""

    def __init__(
        self,
        translation: Any,
        directory: Path,
        worker: KerasWorker,
        *,
        seed: int,
        tell: Progress,
        thorough: bool | None = None,
    ) -> None:
        """Copy the PyTorch side in float64. Raises BadInput where it cannot be run."""
        self.translation = translation
        self.directory = directory
        self.worker = worker
        self.seed = seed
        self.tell = tell
        self.thorough = thorough
        self.weight_map = translation.weight_map
        self.to_torch = self.weight_map.to_torch
        self.info = read_info(translation, directory)
        # A graph was saved in one mode, that of inference.
        # Why training mode is not compared, by what is not.
        self.one_mode = {"training mode": _ONE_MODE} if is_graph(self.info) else {}
        self.left_out = self.info.get("left_out", ())
        for item in self.left_out:
            what = f"{item['layer']} ({item['class']}) in training mode"
            self.one_mode[what] = f"it is left out; it {item['why']}"
        self.examples = self.info.get("example_inputs") or []
        self.proof = Proof()
        self.found = _Findings()
        self.missing: dict[str, str] = {}
        self.real: dict[str, np.ndarray] = {}
        self.random: dict[str, np.ndarray] = {}
        self.current: dict[str, np.ndarray] = {}
        self.variant = 0
        # Weights in the file that are not exactly the source's; whether Keras holds others.
        self.rounded: set[str] = set()
        self.dirty = False
        self.noisy = False
        self.slopes: dict[int, float] = {}
        # The case whose sensitivity to rounding was measured last, and the figures.
        self.nudged: tuple[Case, dict[tuple[str, str], float]] | None = None
        self.sides = Sides(self.weight_map.to_torch)
        # Inputs that a generated PyTorch program refuses, with the reason: its source may take them.
        self.refused: list[tuple[Case, str]] = []
        # Why the answer that was thrown away last was an error, if it was one.
        self.discarded: WorkerFailed | None = None
        self.module, self.unread = open_torch(translation, directory)
        # A generated program has just been read for this alone.
        self.model = TorchModel(self.module, self.weight_map, torch.float64, own=self.to_torch)

    # -- the whole ----------------------------------------------------------------------------

    def prove(self, sizes: list[Sizes] | None, steps: int) -> Proof:
        """Compare everything and give the verdict."""
        from diglot.parity.verdict import conclude

        self.tell("reading the files afresh")
        self.worker.submit_load(self.directory, "float32")
        state = self.model.present()
        self.real = on_disk({n: a for n, a in state.items() if a.dtype.kind == "f"})
        self.draw()
        settled = plan.settle(self, sizes)
        self.proof.sizes = [dict(item.sizes) for item in settled]
        if not settled:
            return self._refuses_everything(conclude)
        single = self._run_float32(settled[0])
        self.worker.submit_load(self.directory, "float64")
        self.tell("measuring how far the outputs move")
        by_size = sorted(settled, key=lambda item: item.elements())
        sensitivity.measure(self, by_size[0], by_size[-1])
        self._compare_files()
        self._ask_the_source()
        step_case = None
        for what, why in self.one_mode.items():
            self.skip(what, why)
        for part in plan.parts(self, settled):
            done = self._compare_part(part, settled)
            if part.training is not bool(self.one_mode) and part.weights == "random" and done:
                step_case = min(done, key=lambda case: case.elements())
        if step_case is not None and steps and not self.left_out and id(step_case) in self.slopes:
            self._compare_steps(step_case, steps)
        first = self._first_divergence()
        if not self.found.failures:
            self._report_float32(settled[0], single)
        return conclude(self, first)

    def draw(self, number: int = 0) -> None:
        """Draw the random weights, again where `number` is not 0."""
        if number:
            self.model.load(self.real)
        parameters = self.model.all_parameters()
        drawn = randomise(self.model.present(), parameters, self.seed + 10_000 * number)
        if self.weight_map.to_torch:  # what Keras has no weight for is a constant of the program
            mapped = {name for entry in self.weight_map.entries for name in entry.sources}
            shared = {id(p) for name, p in parameters.items() if name in mapped}
            same = {name for name, p in parameters.items() if id(p) in shared}  # under any name
            drawn = {n: a for n, a in drawn.items() if n in mapped | same}
        self.random = on_disk(drawn)

    def _refuses_everything(self, conclude: Callable[..., Proof]) -> Proof:
        """The verdict on a program that can be called with no inputs that were tried."""
        self.worker.collect()
        case, why = self.refused[0]
        self._fail(
            Gap("outputs", "0", "", float("inf"), f"the program cannot be called: {why}"), case
        )
        return conclude(self, self._first_divergence())

    def _ask_the_source(self) -> None:
        """A generated program must take all that its Keras source takes."""
        for case, why in self.refused:
            try:
                self.worker.call(
                    "run", case.arrays(), modules=False, gradients=False, **case.options()
                )
            except (WorkerFailed, BadInput):
                if not self.worker.alive:
                    raise
                self.skip(f"sizes {case.sizes}", f"Keras and the program refuse them: {why}")
                continue
            note = f"the program refuses sizes {case.sizes}, which Keras takes: {why}"
            self._fail(Gap("outputs", "0", "", float("inf"), note), case)

    def _first_divergence(self) -> dict[str, Any] | None:
        from diglot.parity.locate import first_divergence

        if not self.found.failures:
            return None
        self.tell("looking for the first divergence")
        return first_divergence(self)

    def skip(self, what: str, why: str) -> None:
        """List something as not compared, once."""
        self.found.not_compared.setdefault((what, why))

    # -- files --------------------------------------------------------------------------------

    def _compare_files(self) -> None:
        """Take the model that was loaded from the files; compare its weights with the source's,
        which must be equal."""
        try:
            loaded = self.worker.collect().result
        except WorkerFailed as error:
            self._fail(Gap("weights", "model.weights.h5", "", float("inf"), first_line(error)))
            loaded = self.worker.load(self.directory, "float64", weights=False)
        self.missing = loaded["problems"]
        stored = self.worker.call("get").arrays
        if self.model.module is self.module:
            self.model.load(self.real)
        state = state_of(self.module)
        if self.unread:
            self._fail(Gap("weights", WEIGHTS, "", float("inf"), self.unread))
        gaps = []
        for gap in checks.compare_weights(self.weight_map, state, stored):
            if gap.error > 0:
                self.rounded.add(gap.what)
            note = self.missing.get(gap.what, gap.note)
            gaps.append(Gap(gap.kind, gap.what, gap.where, gap.error, note))
        # Saved in float32, a float64 source loses what float32 cannot hold.
        self._record(Case("real", False, {}, [], 0), "weights", gaps, tolerance=1e-7)
        used = {name for entry in self.weight_map.entries for name in entry.sources}
        listed = used | {item["source"] for item in self.weight_map.unmapped}
        parameters = self.model.all_parameters()
        # A second name of a tied weight is compared under its first.
        mapped = {id(parameters[name]) for name in used if name in parameters}
        for name in self.model.parameters():
            if name not in listed and id(parameters[name]) not in mapped:
                why = f"no {self.sides.keras_weight} holds it, and the map does not say why"
                self._fail(Gap("weights", name, name, float("inf"), why))
        for item in loaded["extra"]:
            if item["trainable"]:
                why = f"trained in Keras, but no {self.sides.torch_weight} stands for it"
                self._fail(Gap("weights", item["path"], "", float("inf"), why))
            else:
                what = self.sides.torch_weight
                self.skip(item["path"], f"a Keras variable that no {what} stands for")
        for item in self.weight_map.unmapped:
            if id(parameters.get(item["source"])) not in mapped:
                self.skip(item["source"], item["why"])

    def set_weights(self, which: str) -> None:
        """Give both sides the real or the random weights."""
        state = {**self.real, **(self.random if which == "random" else {})}
        self.model.load(state)
        self.current = state
        whole = {**self.model.present(), **state}
        arrays = {
            entry.target: entry.to_target([whole[name] for name in entry.sources])
            for entry in self.weight_map.entries
            if entry.target not in self.missing
            and all(name in whole for name in entry.sources)
            # The real weights are in the file already, unless they were rounded to go there.
            and (
                which == "random"
                or self.dirty
                or entry.target in self.rounded
                or len(entry.sources) > 1
            )
        }
        if arrays:
            self.worker.call("set", arrays)
        self.dirty = which == "random"

    # -- comparing ----------------------------------------------------------------------------

    def _compare_part(self, part: Part, settled: list[Settled]) -> list[Case]:
        """Compare one weight set in one mode; gives the cases that could be compared."""
        self.set_weights(part.weights)
        done: list[Case] = []
        for number in part.order:
            item, seed = settled[number], self.seed + 10 * number
            case = Case(part.weights, part.training, item.sizes, item.inputs, seed)
            if part.training and self.noisy:
                break
            if self._compare_case(case):
                done.append(case)
            # One more case of what already differs would say nothing new.
            if len(done) == part.count or (done and self.found.failures):
                break
        return done

    def run_both(self, case: Case, **options: Any) -> tuple[Run, dict[str, np.ndarray]]:
        """Run both sides at the same time. Raises what the source raises, and WorkerFailed."""
        names = [pair.source for pair in self.weight_map.modules]
        common = {"training": case.training, "seed": case.seed, **options}
        self.worker.submit("run", case.arrays(), modules=bool(names), **common)
        try:
            run = self.model.run(case.inputs, modules=names, **common)
        except MODEL_ERRORS:
            self._discard()
            raise
        reply = self.worker.collect()
        self.found.exact.update(reply.result["exact"])
        return run, reply.arrays

    def _discard(self) -> None:
        """Take the answer to a command that is of no use any more."""
        self.discarded = None
        try:
            self.worker.collect()
        except WorkerFailed as error:
            if not self.worker.alive:
                raise
            self.discarded = error

    def _compare_case(self, case: Case) -> bool:
        """Compare everything in one situation; False where it could not be compared at all."""
        shown = (
            ", ".join(f"{self.size_name(s)} {n}" for s, n in case.sizes.items()) or "fixed sizes"
        )
        self.tell(f"{case.weights} weights, {case.mode} mode, {shown}")
        label = f"{case.mode} mode with {shown}"
        try:
            run, target = self.run_both(case)
        except MODEL_ERRORS as error:
            return self._torch_refuses(case, label, first_line(error))
        except (WorkerFailed, BadInput) as error:
            if not self.worker.alive:
                raise
            if self.to_torch:
                return self._set_case_aside(label, f"Keras refuses it: {first_line(error)}")
            self._fail(Gap("outputs", "0", "", float("inf"), first_line(error)), case)
            return True
        if case.weights == "real":
            self._go_on_from(run)
        comparison = self.compare(case, run, target)
        if case.training and self._draws(case, comparison):
            return False
        self._set_reordered_aside(comparison)
        self.slopes[id(case)] = float(np.sqrt(sum((g**2).sum() for g in run.gradients.values())))
        kinds = list(dict.fromkeys(gap.kind for gap in comparison.gaps))
        for kind in kinds:
            self._record(case, kind, [gap for gap in comparison.gaps if gap.kind == kind])
        self.found.biased += comparison.explained
        return True

    def _go_on_from(self, run: Run) -> None:
        """Let a state that calls write start, with the random weights, where this call has left it: what a
        call makes of a state that is still zero does not show."""
        mapped = {name for entry in self.weight_map.entries for name in entry.sources}
        for name, array in run.buffers.items():
            before = self.real.get(name)
            if name in mapped and name not in self.random and before is not None:
                if array.shape == before.shape and not np.array_equal(array, before):
                    self.random[name] = array

    def _torch_refuses(self, case: Case, label: str, why: str) -> bool:
        """A source that refuses something sets it aside; a generated program must not refuse what its
        source has just taken, but for what PyTorch's own batch norm does: train on one value."""
        if not self.to_torch or self.discarded is not None or why.startswith(_ONE_VALUE):
            return self._set_case_aside(label, f"PyTorch refuses it: {why}")
        note = f"the program refuses it, Keras does not: {why}"
        self._fail(Gap("outputs", "0", "", float("inf"), note), case)
        return True

    def _set_case_aside(self, label: str, why: str) -> bool:
        """List a situation as not compared."""
        self.skip(label, why)
        self.found.refusals.append(why)
        return False

    def _set_reordered_aside(self, comparison: Comparison) -> None:
        """Where everything else agrees, a module may keep its numbers in another order (a flattened
        image, channels last, before a Dense with its rows moved): no difference, but listed."""
        other = [gap for gap in comparison.gaps if gap.note != checks.REORDERED]
        if all(gap.error <= PROVEN for gap in other if gap.kind != "buffers"):
            for gap in comparison.gaps:
                if gap.note == checks.REORDERED:
                    self.skip(f"output of {gap.where}", gap.note)
            comparison.gaps[:] = other

    def _draws(self, case: Case, comparison: Comparison) -> bool:
        """Whether the source draws random numbers in training mode, besides dropout, so that it
        does not even agree with itself; asked only where the outputs differ."""
        if all(gap.error <= PROVEN for gap in comparison.gaps if gap.kind == "outputs"):
            return False
        first, second = (self.model.outputs(case.inputs, True, noise=n) for n in (1, 2))
        if all(np.array_equal(a, b, True) for a, b in zip(first, second, strict=True)):
            return False
        self.noisy = True
        self.skip("training mode", "PyTorch draws random numbers in it, besides dropout")
        return True

    def compare(self, case: Case, run: Run, target: dict[str, np.ndarray]) -> Comparison:
        """All gaps between two runs of one case."""
        modules, reasons = checks.compare_modules(self.weight_map, run.calls, target)
        gaps = checks.compare_outputs(self.weight_map, run.outputs, target) + modules
        self.found.compared_modules |= {gap.where for gap in modules}
        self.found.module_reasons.update(reasons)
        explained: list[dict[str, Any]] = []
        if run.gradients:
            of_weights, why = checks.compare_gradients(self.weight_map, run.gradients, target)
            gaps += of_weights
            for name, text in why.items():
                self.skip(f"gradient of {name}", text)
        gaps += checks.compare_input_gradients(self.weight_map, run.input_gradients, target)
        of_buffers, explained = checks.compare_buffers(
            self.weight_map, run, self.model.present(), target, PROVEN
        )
        gaps += of_buffers
        gaps += checks.lost_buffers(self.weight_map, run, self.model.present(), self.module)
        return Comparison(gaps, explained=explained)

    def _record(self, case: Case, kind: str, gaps: list[Gap], tolerance: float = PROVEN) -> None:
        """Make one check of the gaps of one kind, and failures of those beyond the tolerance."""
        if not gaps:
            return
        beyond = [gap for gap in gaps if not gap.error <= tolerance]
        if beyond and kind != "weights":
            beyond = sensitivity.without_rounding(self, case, beyond)
        excused = {id(gap) for gap in gaps if not gap.error <= tolerance} - {id(g) for g in beyond}
        counted = [gap for gap in gaps if id(gap) not in excused]
        worst = max(counted, key=lambda gap: gap.error, default=None)
        self.proof.checks.append(
            Check(
                kind,
                case.mode,
                case.weights,
                dict(case.sizes),
                worst.error if worst else 0.0,
                worst.where if worst else "",
                len(gaps),
                not beyond,
                tolerance=tolerance,
            )
        )
        self.found.failures += [Failure(gap, case) for gap in beyond]

    def _fail(self, gap: Gap, case: Case | None = None) -> None:
        self._record(case or Case("real", False, {}, [], 0), gap.kind, [gap])

    def size_name(self, symbol: str) -> str:
        """What translation.json calls a dynamic size."""
        about = (self.info.get("dynamic") or {}).get(symbol) or {}
        return str(about.get("name") or symbol)

    # -- training and float32 -------------------------------------------------------------------

    def _compare_steps(self, case: Case, steps: int) -> None:
        """Compare the weights after some steps of plain gradient descent from random weights."""
        self.tell(f"{steps} training steps on both sides")
        trained = {e.target: e for e in self.weight_map.entries if e.kind == "parameter"}
        factors = {t: float(len(e.sources)) for t, e in trained.items() if e.combine == "sum"}
        names = self.model.parameters()
        size = np.sqrt(sum(float((self.current[name] ** 2).sum()) for name in names))
        slope = self.slopes[id(case)]
        if not slope:
            return
        # A ten-thousandth of the weights' length per step: larger ones make deep networks chaotic, and
        # rounding grows as fast as a fault would.
        options = {"steps": steps, "rate": float(1e-4 * size / slope), "seed": case.seed}
        self.worker.submit("train", case.arrays(), factors=factors, **options)
        self.model.train(case.inputs, training=case.training, **options)
        target = self.worker.collect().arrays
        state = self.model.present()
        gaps = [
            Gap("steps", gap.what, gap.where, gap.error, gap.note)
            for gap in checks.compare_weights(self.weight_map, state, target)
            # Statistics after one step have been compared, explained where need be.
            if gap.what in trained
        ]
        if any(not gap.error <= PROVEN for gap in gaps):
            sensitivity.note_steps(self, case, options)
        self._record(case, "steps", gaps)
        for name in factors:
            self.proof.explained.append(
                {
                    "what": name,
                    "why": "PyTorch trains several weights that only their sum matters of; Keras "
                    "has the sum, which plain gradient descent moves more slowly by this factor",
                    "factor": factors[name],
                }
            )
        self.set_weights("random")

    def _run_float32(self, item: Settled) -> list[Gap] | str:
        """How far float32 is apart with the real weights; or why one side does not run in it. The
        model has been asked for; whatever ails it, float64 will show more closely."""
        case = Case("real", False, item.sizes, item.inputs, self.seed)
        options: dict[str, Any] = {"training": False, "seed": self.seed, "gradients": False}
        try:
            self.worker.collect()
            self.worker.submit("run", case.arrays(), modules=False, **options)
            single = TorchModel(self.module, self.weight_map, torch.float32)
            try:
                run = single.run(item.inputs, **options)
            except RuntimeError as error:  # it says `.double()` in so many words, and has tables
                self.worker.collect()
                return f"PyTorch does not run in it: {first_line(error)}"
            target = self.worker.collect().arrays
        except WorkerFailed as error:
            if not self.worker.alive:
                raise
            return f"Keras does not run in it: {first_line(error)}"
        return checks.compare_outputs(self.weight_map, run.outputs, target)

    def _report_float32(self, item: Settled, gaps: list[Gap] | str) -> None:
        """Put the figures of float32 beside the proof; they decide nothing."""
        if isinstance(gaps, str):
            self.skip("float32", gaps)
            return
        worst = max(gaps, key=lambda gap: gap.error, default=None)
        if worst is not None:
            ok = bool(worst.error <= FLOAT32)
            figures = (dict(item.sizes), worst.error, worst.where, len(gaps), ok)
            self.proof.checks.append(Check("outputs", "eval", "real", *figures, "float32", FLOAT32))
