"""Pictures of a run, each as SVG (for pages) and PNG (for everything else)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.errors import MissingExtra
from diglot.training.job import FRAMEWORK_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Orange for PyTorch, blue for Keras: told apart by the colour-blind, too.
COLOURS = {"torch": "#d55e00", "keras": "#0072b2"}


def colour(label: str) -> str:
    """The colour of a run's label ("torch", "keras-faithful")."""
    return COLOURS[label.partition("-")[0]]


def title(label: str) -> str:
    """A run's label as people write it: "PyTorch, faithful"."""
    framework, _, variant = label.partition("-")
    return FRAMEWORK_NAMES[framework] + (f", {variant}" if variant else "")


def line_style(label: str) -> str:
    """Keras is drawn dashed over PyTorch, so that equal curves show as both; variants are dotted."""
    framework, _, variant = label.partition("-")
    if variant:
        return ":"
    return "-" if framework == "torch" else "--"


@contextmanager
def figure(path: Path, width: float = 9.0, height: float = 3.6) -> Iterator[Figure]:
    """A matplotlib figure of `width` x `height` inches, saved as `path`.svg and `path`.png at the end.

    Raises MissingExtra where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "zoo", needed_for="Drawing") from error
    import matplotlib

    # Text stays text, and the same figure gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "diglot", "font.size": 9}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(drawn)
        yield drawn
        formats: dict[str, dict[str, Any]] = {
            "svg": {"metadata": {"Date": None}},
            "png": {"dpi": 150},
        }
        for suffix, options in formats.items():
            part = path.with_name(f"{path.name}.part.{suffix}")
            drawn.savefig(part, **options)
            part.replace(path.with_name(f"{path.name}.{suffix}"))


def smooth(values: list[float], width: int) -> np.ndarray:
    """The running mean over the last `width` values."""
    sums = np.cumsum(np.insert(np.asarray(values, float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_curves(result: Mapping[str, Any], path: Path) -> None:
    """The loss of every step, both frameworks overlaid, and the validation score of every epoch
    (0: before the first step)."""
    runs: Mapping[str, Mapping[str, Any]] = result["runs"]
    metric = _metric(runs)
    with figure(path) as drawn:
        left, right = drawn.subplots(1, 2)
        for label, run in runs.items():
            losses = run["history"]["losses"]
            width = max(len(losses) // 100, 1)
            steps = np.arange(1, len(losses) + 1)
            style = {"color": colour(label), "linestyle": line_style(label), "label": title(label)}
            left.plot(steps, smooth(losses, width), linewidth=1.3, **style)
            history = run["history"]
            before = [history["before"]] if history.get("before") else []
            scores = [
                epoch.get(f"validation_{metric}", np.nan) for epoch in before + history["epochs"]
            ]
            epochs = np.arange(len(scores)) + (0 if before else 1)
            right.plot(epochs, scores, marker="o", markersize=3, **style)
        left.set(xlabel="step", ylabel="training loss", title="Loss")
        right.set(xlabel="epoch", ylabel=f"validation {metric}", title=metric.capitalize())
        right.xaxis.get_major_locator().set_params(integer=True)
        for axes in (left, right):
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False)


def draw_attention(
    path: Path,
    rows: Mapping[str, np.ndarray],
    queries: Sequence[str],
    keys: Sequence[str],
    heading: str = "",
) -> None:
    """Attention weights as heatmaps: a row of pictures for each of `rows`, one for each head.

    `rows` holds, by what to call them ("Keras, layer 1"), arrays (heads, queries, keys) of weights from
    0 to 1; all share one scale. `queries` and `keys` are the tokens; every query looks along its line at
    the keys.
    """
    heads = max(len(weights) for weights in rows.values())
    cell = 0.13
    most = max(float(weights.max()) for weights in rows.values())
    # Words stand upright, so that they do not cover each other.
    turned = 90 if max(map(len, keys)) > 1 else 0
    # Room for one label a token, but pictures of no more than a page.
    wide = min(max(len(keys) * cell, 1.2), 2.4)
    high = wide * max(len(queries), 1) / max(len(keys), 1)
    labels = 0.45 + (max(map(len, keys)) * 0.06 if turned else 0)
    with figure(path, 1.0 + heads * (wide + 0.35), 0.7 + len(rows) * (high + labels)) as drawn:
        grid = drawn.subplots(len(rows), heads, squeeze=False)
        image = None
        for line, (label, weights) in zip(grid, rows.items(), strict=True):
            for head, axes in enumerate(line):
                if head >= len(weights):
                    axes.set_axis_off()
                    continue
                image = axes.imshow(weights[head], vmin=0, vmax=most, cmap="viridis", aspect="auto")
                axes.set_xticks(range(len(keys)), keys, fontsize=6, rotation=turned)
                axes.set_yticks(range(len(queries)), queries, fontsize=6)
                axes.tick_params(length=0, pad=1)
                axes.set_title(f"head {head + 1}", fontsize=7, pad=2)
            line[0].set_ylabel(label)
        if image is not None:
            drawn.colorbar(image, ax=grid, shrink=0.6, aspect=30, fraction=0.03, pad=0.02)
        drawn.suptitle(heading)


def _metric(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The first score that is not the loss, or the loss where there is no other."""
    names = [name for run in runs.values() for name in run.get("test", {})]
    return next((name for name in names if name != "loss"), "loss")
