"""The measurements that claims are judged by: made once, kept, and shared between claims."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from diglot.benchmark.compare import Comparer, Plan, found_plan
from diglot.benchmark.kept import Kept
from diglot.doctor import installed, probe
from diglot.errors import DiglotError, MissingExtra
from diglot.zoo import PAIRS, Options, find_exhibit, find_pair
from diglot.zoo.pair import Pair, Tell
from diglot.zoo.ways import call_way

_WAYS = "diglot.benchmark.claims"


class NoGpu(DiglotError):
    """A measurement needs a GPU, and there is none that the framework can use."""


class Evidence:
    """Makes measurements in a folder, or finds them there."""

    def __init__(
        self,
        folder: Path,
        comparison: Path,
        tell: Tell,
        pairs: Sequence[Pair] | None = None,
        plan: Plan | None = None,
    ) -> None:
        """`comparison` is the folder of `zoo compare`: what was measured there counts here, too, and
        `plan` is the one that it was measured with, if it is not given. `pairs` are all by default."""
        self.folder, self.tell = folder, tell
        self.comparison_folder, self.plan = comparison, plan or found_plan(comparison)
        self.pairs = [find_pair(name) for name in PAIRS] if pairs is None else pairs
        self.kept = Kept(folder / "measurements")

    def way(self, way: str, *, needs: str | None = None, **parameters: Any) -> dict[str, Any]:
        """What the function `way` ("torch_ways:parameters") of this package gives in a process of its
        own. Raises MissingExtra where the package `needs` is not installed."""
        if needs is not None and not installed(needs):
            raise MissingExtra(needs, "hf", needed_for="This measurement")
        module, _, name = way.partition(":")
        identity = {"way": way, "parameters": parameters, "source": _source(f"{_WAYS}.{module}")}
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:8]
        words = name.replace("_", " ")

        def make() -> dict[str, Any]:
            self.tell(f"Measuring: {words}", {"kind": "stage"})
            return call_way(f"{_WAYS}.{way}", **parameters).result

        return self.kept.measure(f"{name}-{digest}", identity, make)

    @cached_property
    def comparison(self) -> dict[str, Any]:
        """The comparison of the pairs, by pair; those that cannot be measured are left out."""
        result = Comparer(self.pairs, self.plan, self.comparison_folder, self.tell).measure()
        return {pair["name"]: pair for pair in result["pairs"] if "problem" not in pair}

    @cached_property
    def graphs(self) -> dict[str, dict[str, Any]]:
        """The ways of the study of static graphs that could be measured, by their titles."""
        study = find_exhibit("static-graph")
        folder = self.folder / study.name

        def make() -> dict[str, Any]:
            return study.run(Options("fast", folder), self.tell)

        sources = [path.read_text(encoding="utf-8") for path in sorted(study.folder.glob("*.py"))]
        found = self.kept.measure(study.name, {"sources": sources}, make)
        return {way["way"]: way for way in found["ways"] if "missing" not in way}

    def gpu(self, framework: str) -> str:
        """The name of the first GPU that a framework sees. Raises NoGpu."""
        found = self.kept.measure(f"devices-{framework}", {}, lambda: probe(framework))
        devices = found.get("devices")
        if not devices:
            raise NoGpu(f"This needs a GPU that {framework} can use; here there is none.")
        return str(devices[0])


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    return Path(str(spec and spec.origin)).read_text(encoding="utf-8")


def ratios(comparison: Mapping[str, Any], figure: str) -> dict[str, float]:
    """Keras's value of a figure through PyTorch's, for every pair that has one."""
    return {
        name: round(pair["figures"][figure]["ratio"]["median"], 4)
        for name, pair in comparison.items()
        if "ratio" in pair["figures"][figure]
    }
