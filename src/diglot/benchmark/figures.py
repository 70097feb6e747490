"""What is compared of a pair, and how much the two frameworks differ in it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure: how it is called, its unit, whether less of it is better, and where it is found in
    the results of training and of inference (None where it was not measured)."""

    name: str
    label: str
    unit: str
    find: Callable[[Result, Result], float | None]
    less_is_better: bool = True

    def text(self, value: float | None) -> str:
        """A value as people read it."""
        if value is None:
            return "–"
        if self.unit == "s":
            return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
        shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{shown} {self.unit}".rstrip()


def _latency(mode: str) -> Callable[[Result, Result], float | None]:
    return lambda training, inference: inference.get(mode, {}).get("one", {}).get("median_seconds")


def _throughput(mode: str) -> Callable[[Result, Result], float | None]:
    def find(training: Result, inference: Result) -> float | None:
        found = inference.get(mode, {})
        return found["rows"] / found["batch"]["median_seconds"] if "batch" in found else None

    return find


def _per_second(training: Result, inference: Result) -> float | None:
    seconds = training["epoch_seconds"]
    return 1 / seconds if seconds else None


FIGURES = (
    Figure("first_step", "time to first step", "s", lambda t, i: t["first_step_seconds"]),
    Figure("step", "time of a step", "s", lambda t, i: t["step_seconds"]),
    Figure("epochs", "epochs per second", "/s", _per_second, less_is_better=False),
    Figure("memory", "peak memory", "MiB", lambda t, i: t["peak_mib"] - t["imported_mib"]),
    Figure("latency_eager", "one example, eager", "s", _latency("eager")),
    Figure("latency_compiled", "one example, compiled", "s", _latency("compiled")),
    Figure("latency_xla", "one example, XLA", "s", _latency("xla")),
    Figure("latency_predict", "one example, predict", "s", _latency("predict")),
    Figure("throughput_eager", "a batch, eager", "rows/s", _throughput("eager"), False),
    Figure("throughput_compiled", "a batch, compiled", "rows/s", _throughput("compiled"), False),
    Figure("throughput_xla", "a batch, XLA", "rows/s", _throughput("xla"), False),
)
"""In Keras "compiled" is tf.function, in PyTorch torch.compile; XLA and predict are Keras's alone."""


def compared(torch: Sequence[float | None], keras: Sequence[float | None]) -> dict[str, Any]:
    """The values of repeated runs of both, their medians, and Keras's through PyTorch's: the ratio of
    the medians, and the least and the largest of those of runs that belong together."""
    found: dict[str, Any] = {
        "torch": {"values": list(torch), "median": _median(torch)},
        "keras": {"values": list(keras), "median": _median(keras)},
    }
    pairs = [(t, k) for t, k in zip(torch, keras, strict=True) if t and k is not None]
    if pairs:
        ratios = [k / t for t, k in pairs]
        middle = found["keras"]["median"] / found["torch"]["median"]
        low, high = min(*ratios, middle), max(*ratios, middle)
        found["ratio"] = {"median": middle, "low": low, "high": high}
    return found


def ratio_text(figure: Mapping[str, Any]) -> str:
    """The ratio and its spread: "1.20 (1.10–1.31)"."""
    ratio = figure.get("ratio")
    if ratio is None:
        return "–"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}–{ratio['high']:.2f})"


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
