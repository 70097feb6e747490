"""Running a pair: the same path, training in both frameworks, the proof, and what is drawn of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN
from diglot.output import write_whole
from diglot.runtime.exchange import write_arrays
from diglot.training import Job
from diglot.training.job import FRAMEWORK_NAMES, FRAMEWORKS
from diglot.training.supervise import TrainingProcess
from diglot.zoo.drawing import draw_curves, smooth
from diglot.zoo.machine import describe_machine
from diglot.zoo.pair import PATH_STEPS, PATH_TOLERANCE, AtMost, Options, Pair, Setting, Tell


def write_start(pair: Pair, setting: Setting, path: Path) -> Path:
    """Write the weights that both frameworks start from, in PyTorch's names."""
    import torch

    from diglot.training.torch_loop import state_of

    torch.manual_seed(setting.recipe.seed)
    write_arrays(path, state_of(pair.torch().build_model(**setting.model)))
    return path


class Runner:
    """Runs one pair once; a second run in the same folder finishes what the first left undone."""

    def __init__(self, pair: Pair, options: Options, tell: Tell) -> None:
        """`tell` hears the title of a stage, and what happens in it. Raises UsageError."""
        self.pair, self.options, self.tell = pair, options, tell
        self.folder = options.directory
        self.variants = {"": self._setting(False)}
        if options.faithful:
            self.variants["faithful"] = self._setting(True)

    def _setting(self, faithful: bool) -> Setting:
        found = self.pair.setting(self.options.setting, faithful)
        changes: dict[str, Any] = {"seed": self.options.seed}
        if self.options.epochs is not None:
            changes["epochs"] = self.options.epochs
        data = dict(found.data)
        if self.options.data is not None:
            data["path"] = str(self.options.data.absolute())
        setting = Setting(found.model, data, found.recipe.but(**changes))
        return self.pair.settle(setting.but(self.options.changes))

    def run(self) -> dict[str, Any]:
        """Everything; gives what result.json holds. Raises BadInput and WorkerFailed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stage("Preparing")
        for name, setting in self.variants.items():
            self.variants[name] = self.pair.prepared(setting, self.folder, self.tell)
        starts = {
            name: write_start(
                self.pair, setting, self.folder / f"start{name and '-'}{name}.safetensors"
            )
            for name, setting in self.variants.items()
        }
        trained: dict[str, dict[str, Any]] = {}
        paths: dict[str, list[float]] = {}
        for framework in FRAMEWORKS:
            tell = self._teller(framework)
            with TrainingProcess(framework, tell) as process:
                job = self._job("", framework, starts[""], exact=True)
                self._stage(f"{FRAMEWORK_NAMES[framework]}: the first steps in float64")
                paths[framework] = process.train(job)["history"]["losses"]
                for name in self.variants:
                    label = framework + (f"-{name}" if name else "")
                    self._stage(
                        f"{FRAMEWORK_NAMES[framework]}: training" + (f", {name}" if name else "")
                    )
                    trained[label] = process.train(self._job(name, framework, starts[name]))
        result = self._result(trained, paths)
        self._write(result)
        return result

    # -- the parts ------------------------------------------------------------------------------

    def _job(self, name: str, framework: str, start: Path, exact: bool = False) -> Job:
        setting = self.variants[name]
        if exact:
            setting = self.pair.exact(setting)
        parts = (framework, name, "float64" if exact else "")
        return Job(
            task=self.pair.task_name,
            framework=framework,
            directory=str(self.folder / "-".join(part for part in parts if part)),
            start=str(start),
            model=dict(setting.model),
            data=dict(setting.data),
            recipe=setting.recipe,
            dtype="float64" if exact else "float32",
            limit=PATH_STEPS if exact else None,
            logs=not exact,
            scored=not exact,
        )

    def _stage(self, title: str) -> None:
        self.tell(title, {"kind": "stage"})

    def _teller(self, framework: str) -> Callable[[dict[str, Any]], None]:
        return lambda event: self.tell(framework, event)

    def _result(
        self, trained: dict[str, dict[str, Any]], paths: dict[str, list[float]]
    ) -> dict[str, Any]:
        from diglot.zoo.proving import prove_pair

        self._stage("Proving that the two models are the same function")
        proof = prove_pair(
            self.pair,
            self.variants[""],
            self.folder / "proof",
            lambda text: self.tell("proof", {"kind": "note", "text": text}),
        )
        self._stage("Translating the PyTorch model, to set it beside the hand-written Keras")
        translation = self._translation()
        gap = float(np.max(np.abs(np.subtract(paths["torch"], paths["keras"]))))
        same_path = {
            "steps": len(paths["torch"]),
            "gap": gap,
            "tolerance": PATH_TOLERANCE,
            "agrees": gap <= PATH_TOLERANCE,
        }
        checks = self.pair.checks(self.variants[""])
        proven = proof.verdict == "proven" and same_path["agrees"]
        return {
            "exit_code": EXIT_PROVEN
            if proven and all(good for good, _ in checks)
            else EXIT_DIFFERS,
            "pair": self.pair.name,
            "title": self.pair.title,
            "setting": self.options.setting,
            "recipe": self.variants[""].recipe.to_dict(),
            "model": dict(self.variants[""].model),
            "same_path": same_path,
            "apart": _apart(trained),
            "proof": json.loads(proof.to_json()),
            "translation": translation,
            "checks": checks,
            "runs": trained,
            "goals": self._goals(trained) if self.options.setting == "full" else {},
            "machine": describe_machine(),
        }

    def _translation(self) -> dict[str, Any]:
        """Diglot's own translation, written to translated.py, and its lines beside the hand-written."""
        import torch

        from diglot.translating import translate
        from diglot.zoo.source import code_lines

        setting = self.variants[""]
        inputs = self.pair.example(setting.model, np.random.default_rng(self.options.seed))
        translation = translate(
            self.pair.torch().build_model(**setting.model),
            {name: torch.from_numpy(array) for name, array in inputs.items()},
            style=self.pair.style,
        )
        write_whole(self.folder / "translated.py", translation.source)
        by_hand = code_lines(self.pair.keras_source())
        return {"lines": code_lines(translation.source), "by_hand": by_hand}

    def _goals(self, trained: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """For each goal: what was asked, and what each framework reached."""
        goals = {}
        for name, wanted in self.pair.goals.items():
            reached = {framework: trained[framework]["test"][name] for framework in FRAMEWORKS}
            most = isinstance(wanted, AtMost)
            bound = wanted.value if isinstance(wanted, AtMost) else wanted
            goals[name] = {
                "wanted": bound,
                "sign": "≤" if most else "≥",
                "reached": reached,
                "met": all((v <= bound) if most else (v >= bound) for v in reached.values()),
            }
        return goals

    def _write(self, result: dict[str, Any]) -> None:
        """result.json, the curves, and the page."""
        from diglot.zoo.page import write_page

        self._stage("Drawing")
        write_whole(self.folder / "result.json", json.dumps(result, indent=1) + "\n")
        draw_curves(result, self.folder / "curves")
        self.pair.draw(result, self.folder)
        write_page(self.pair, result, self.folder)


def _apart(trained: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How far the two loss curves are apart with the defaults: the mean over all steps, and at the
    end (the last tenth), of the difference of the running means."""
    curves = [trained[framework]["history"]["losses"] for framework in FRAMEWORKS]
    count = min(len(curve) for curve in curves)
    width = max(count // 20, 1)
    first, second = (smooth(curve[:count], width) for curve in curves)
    gap = np.abs(first - second)
    return {"mean": float(gap.mean()), "end": float(gap[-max(count // 10, 1) :].mean())}
