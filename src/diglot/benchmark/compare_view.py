"""A comparison as tables, pictures and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.benchmark.figures import FIGURES, ratio_text
from diglot.training.job import FRAMEWORK_NAMES, FRAMEWORKS
from diglot.zoo.drawing import COLOURS, figure
from diglot.zoo.page import render
from diglot.zoo.pair import Exhibit

if TYPE_CHECKING:
    from rich.console import Group

_BY_NAME = {figure.name: figure for figure in FIGURES}
_MODES = {
    "PyTorch, eager": ("torch", "latency_eager"),
    "torch.compile": ("torch", "latency_compiled"),
    "Keras, eager": ("keras", "latency_eager"),
    "tf.function": ("keras", "latency_compiled"),
    "XLA": ("keras", "latency_xla"),
    "predict": ("keras", "latency_predict"),
}


class Comparison(Exhibit):
    """What the page of a comparison is about."""

    name = "compare"
    title = "PyTorch and Keras, measured"
    document = "000–004"


def rows(pair: Mapping[str, Any]) -> list[list[str]]:
    """The figures of one pair: label, PyTorch's, Keras's, the ratio with its spread."""
    found = [
        [label, *[f"{pair[key][framework]:,}" for framework in FRAMEWORKS], _plain_ratio(pair[key])]
        for label, key in (("parameters", "parameters"), ("lines of code", "lines"))
    ]
    for name, values in pair["figures"].items():
        known = _BY_NAME.get(name)
        medians = [values[framework]["median"] for framework in FRAMEWORKS]
        if all(value is None for value in medians):
            continue
        texts = [_number(value) if known is None else known.text(value) for value in medians]
        found.append([values["label"], *texts, ratio_text(values)])
    return found


def _plain_ratio(values: Mapping[str, float]) -> str:
    return f"{values['keras'] / values['torch']:.2f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _notes(pair: Mapping[str, Any]) -> list[str]:
    if "problem" in pair:
        return [pair["problem"]]
    return [f"{mode}: {why}" for mode, why in pair["missing"].items()]


def tables(result: Mapping[str, Any]) -> list[tuple[str, str, list[list[str]], list[str]]]:
    """For each pair its name, title, rows, and what could not be measured."""
    return [
        (pair["name"], pair["title"], [] if "problem" in pair else rows(pair), _notes(pair))
        for pair in result["pairs"]
    ]


def compare_view(result: Mapping[str, Any]) -> Group:
    """The tables as the terminal shows them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for title in (*FRAMEWORK_NAMES.values(), "Keras / PyTorch"):
        table.add_column(title, justify="right")
    notes: list[Text] = []
    for name, _, lines, problems in tables(result):
        table.add_row(Text(name, style="bold"))
        for line in lines:
            table.add_row(*line)
        notes += [Text(f"{name}: {problem}", style="yellow") for problem in problems]
    machine = result["machine"]
    about = (
        f"Medians of {result['repeats']} runs, each in a process of its own; in brackets the least "
        f"and the largest ratio. {machine['processor']}, {machine['cores']} cores."
    )
    return Group(table, Text(), *notes, Text(about, style="dim"))


def write_pages(result: Mapping[str, Any], folder: Path) -> Path:
    """Draw the pictures and write page.html."""
    measured = [pair for pair in result["pairs"] if "problem" not in pair]
    if measured:
        draw_ratios(measured, folder / "ratios")
        draw_latencies(measured, folder / "time_for_one_example")
    return render("compare.html.j2", Comparison(), result, folder, (), tables=tables(result))


def draw_ratios(pairs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Keras's value through PyTorch's for every figure and pair, with its spread."""
    names = [f.name for f in FIGURES if any("ratio" in pair["figures"][f.name] for pair in pairs)]
    with figure(path, height=1.2 + 0.25 * len(names) * max(len(pairs) / 3, 1)) as drawn:
        axes = drawn.subplots()
        for number, pair in enumerate(pairs):
            shift = 0.7 * ((number + 0.5) / len(pairs) - 0.5)
            found = [
                (place, pair["figures"][name]["ratio"])
                for place, name in enumerate(names)
                if "ratio" in pair["figures"][name]
            ]
            middle = [ratio["median"] for _, ratio in found]
            spread = [
                [ratio["median"] - ratio["low"] for _, ratio in found],
                [ratio["high"] - ratio["median"] for _, ratio in found],
            ]
            heights = [place + shift for place, _ in found]
            style = {"fmt": "o", "markersize": 3, "linewidth": 1, "label": pair["name"]}
            axes.errorbar(middle, heights, xerr=spread, **style)
        axes.axvline(1, color="#888", linewidth=0.8)
        axes.set_xscale("log")
        labels = [
            _BY_NAME[name].label + ("" if _BY_NAME[name].less_is_better else " (more is better)")
            for name in names
        ]
        axes.set_yticks(range(len(names)), labels)
        axes.invert_yaxis()
        axes.set(xlabel="Keras / PyTorch: 1 is the same")
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def draw_latencies(pairs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The time for one example, in every mode of both frameworks."""
    columns = min(len(pairs), 3)
    lines = -(-len(pairs) // columns)
    with figure(path, width=3.2 * columns + 1, height=2.3 * lines) as drawn:
        all_axes = drawn.subplots(lines, columns, squeeze=False).flat
        for axes in all_axes:
            axes.set_axis_off()
        for axes, pair in zip(drawn.axes, pairs, strict=False):
            axes.set_axis_on()
            values = {
                label: pair["figures"][name][framework]["median"]
                for label, (framework, name) in _MODES.items()
            }
            known = {label: value * 1e3 for label, value in values.items() if value is not None}
            colours = [COLOURS[_MODES[label][0]] for label in known]
            axes.scatter(list(known.values()), list(known), color=colours, s=22)
            axes.invert_yaxis()
            axes.set_title(pair["name"], fontsize=9)
            axes.set(xlabel="ms", xscale="log")
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
