"""`diglot zoo compare`: every pair in both frameworks, each measurement in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diglot.benchmark.figures import FIGURES, Figure, compared
from diglot.benchmark.kept import Kept
from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, DiglotError, WorkerFailed
from diglot.output import write_whole
from diglot.training import Job
from diglot.training.job import FRAMEWORK_NAMES, FRAMEWORKS
from diglot.training.supervise import TrainingProcess
from diglot.zoo.pair import Pair, Setting, Tell
from diglot.zoo.running import write_start
from diglot.zoo.source import code_lines
from diglot.zoo.ways import call_way

_NEVER = 1e9


@dataclass(frozen=True)
class Plan:
    """What to compare: the setting, how often each is measured, and the seconds for each mode and size
    of inference."""

    setting: str = "fast"
    repeats: int = 3
    seconds: float = 1.0


def found_plan(folder: Path) -> Plan:
    """The plan of the comparison that lies in a folder, or the usual one where there is none."""
    try:
        found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        return Plan(found["setting"], found["repeats"], found["seconds"])
    except (OSError, ValueError, KeyError):
        return Plan()


class Comparer:
    """Compares pairs in a folder; whatever was finished there is not measured again."""

    def __init__(self, pairs: Sequence[Pair], plan: Plan, folder: Path, tell: Tell) -> None:
        """`tell` hears the title of each measurement, and how far it is."""
        self.pairs, self.plan, self.folder, self.tell = pairs, plan, folder, tell
        self.kept = Kept(folder / "measurements")

    def run(self) -> dict[str, Any]:
        """Measure, write compare.json, and give what it holds."""
        result = self.measure()
        write_whole(self.folder / "compare.json", json.dumps(result, indent=1) + "\n")
        return result

    def measure(self) -> dict[str, Any]:
        """Measure what is left to measure, and give all of it.

        A pair that cannot be measured says why under "problem", and the exit code is then 1.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        pairs = [self._pair(pair) for pair in self.pairs]
        failed = any("problem" in pair for pair in pairs)
        return {
            "exit_code": EXIT_DIFFERS if failed else EXIT_PROVEN,
            "setting": self.plan.setting,
            "repeats": self.plan.repeats,
            "seconds": self.plan.seconds,
            "pairs": pairs,
            "machine": self.kept.machine,
        }

    def _pair(self, pair: Pair) -> dict[str, Any]:
        about: dict[str, Any] = {"name": pair.name, "title": pair.title, "document": pair.document}
        try:
            setting = self._setting(pair)
            runs = [
                {
                    framework: self._measure(pair, setting, framework, repeat)
                    # Whoever goes first finds a cooler machine: they take turns.
                    for framework in (FRAMEWORKS if repeat % 2 == 0 else FRAMEWORKS[::-1])
                }
                for repeat in range(self.plan.repeats)
            ]
        except DiglotError as error:
            return {**about, "problem": str(error)}
        return {**about, "batch_size": setting.recipe.batch_size, **summary(pair, runs)}

    def _setting(self, pair: Pair) -> Setting:
        """The setting, with the files that its data needs."""
        found = pair.settle(pair.setting(self.plan.setting))
        folder = self._work(pair)
        folder.mkdir(parents=True, exist_ok=True)
        return pair.prepared(found, folder, self.tell)

    def _work(self, pair: Pair) -> Path:
        return self.folder / "work" / f"{pair.name}-{self.plan.setting}"

    def _measure(
        self, pair: Pair, setting: Setting, framework: str, repeat: int
    ) -> dict[str, dict[str, Any]]:
        """One repetition, which has a seed of its own: {"training", "inference"}."""
        recipe = setting.recipe.but(seed=setting.recipe.seed + repeat)
        setting = Setting(setting.model, setting.data, recipe)
        folder = self._work(pair) / f"{framework}-{repeat}"
        job = Job(
            task=pair.task_name,
            framework=framework,
            directory=str(folder),
            start=str(self._work(pair) / f"start-{repeat}.safetensors"),
            model=dict(setting.model),
            data=dict(setting.data),
            recipe=recipe,
            checkpoint_seconds=_NEVER,
            logs=False,
            extras=False,
        )
        sources = [pair.torch_source(), pair.keras_source()]
        identity = {"job": job.identity(), "sources": sources}
        label = f"{pair.name}-{self.plan.setting}-{framework}-{repeat}"
        title = f"{pair.name}, {FRAMEWORK_NAMES[framework]}, {repeat + 1} of {self.plan.repeats}"

        def train() -> dict[str, Any]:
            self.tell(f"{title}: training", {"kind": "stage"})
            write_start(pair, setting, Path(job.start))
            # A resumed run would be no measurement of its first step.
            shutil.rmtree(folder, ignore_errors=True)
            tell = self.tell
            with TrainingProcess(framework, lambda event: tell(framework, event)) as process:
                result = process.train(job)
            shutil.rmtree(folder, ignore_errors=True)
            del result["history"]
            return result

        def infer() -> dict[str, Any]:
            self.tell(f"{title}: inference", {"kind": "stage"})
            write_start(pair, setting, Path(job.start))
            way = "diglot.benchmark.inference:measure"
            return call_way(way, job=job.to_dict(), seconds=self.plan.seconds).result

        inference = {**identity, "seconds": self.plan.seconds}
        return {
            "training": self.kept.measure(f"{label}-training", identity, train),
            "inference": self.kept.measure(f"{label}-inference", inference, infer),
        }


def score_name(pair: Pair, test: dict[str, float]) -> str:
    """The score that says how good a pair is: that of its first goal, or the first but the loss."""
    wanted = [*pair.goals, *(name for name in test if name != "loss"), "loss"]
    found = next((name for name in wanted if name in test), None)
    if found is None:
        raise WorkerFailed(f"{pair.name} has no test score.", expected=" or ".join(wanted))
    return found


def summary(pair: Pair, runs: Sequence[dict[str, dict[str, dict[str, Any]]]]) -> dict[str, Any]:
    """The figures of a pair's runs: {framework: {"training", "inference"}} of every repetition."""
    first = {framework: runs[0][framework]["training"] for framework in FRAMEWORKS}
    score = score_name(pair, first["torch"]["test"])
    metric = Figure("score", f"test {score}", "", lambda t, i: t["test"][score], False)
    figures = {}
    for figure in (metric, *FIGURES):
        values = {
            framework: [
                figure.find(run[framework]["training"], run[framework]["inference"]) for run in runs
            ]
            for framework in FRAMEWORKS
        }
        figures[figure.name] = {"label": figure.label, **compared(**values)}
    return {
        "score": score,
        "parameters": {framework: first[framework]["parameters"] for framework in FRAMEWORKS},
        "lines": {
            "torch": code_lines(pair.torch_source()),
            "keras": code_lines(pair.keras_source()),
        },
        "steps": first["torch"]["steps"],
        "figures": figures,
        "missing": {
            f"{framework} {mode}": found["missing"]
            for framework in FRAMEWORKS
            for mode, found in runs[0][framework]["inference"].items()
            if "missing" in found
        },
    }
