"""static-graph: z = (x + y) · 2, described first and run later, in seven ways."""

from __future__ import annotations

import importlib
import shutil
import statistics
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diglot.benchmark.timing import timed
from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, MissingExtra
from diglot.zoo.machine import describe_machine
from diglot.zoo.pair import Exhibit, Options, Tell
from diglot.zoo.static_graph.picture import draw_graphs
from diglot.zoo.studies import finish, study_view
from diglot.zoo.ways import call_way

if TYPE_CHECKING:
    from rich.console import Group

    from diglot.runtime.keras_worker import Answer, Arrays

# Title, module, the function that builds it.
WAYS = (
    ("a lazy graph in plain Python", "lazy_graph", "build"),
    ("TensorFlow 1: Session and feed_dict", "tf1_session", "build"),
    ("TensorFlow 2: eager", "tf_function", "build_eager"),
    ("TensorFlow 2: tf.function", "tf_function", "build"),
    ("TensorFlow 2: tf.function with XLA", "tf_function", "build_xla"),
    ("PyTorch: eager", "torch_compile", "build_eager"),
    ("PyTorch: torch.compile", "torch_compile", "build"),
)
FILES = ("lazy_graph.py", "tf1_session.py", "tf_function.py", "torch_compile.py")


class StaticGraph(Exhibit):
    """The same numbers from graphs and from eager code, and what each costs."""

    name = "static-graph"
    title = "A graph first, numbers later"
    document = "004"
    settings: ClassVar = {
        "fast": {"size": 1_000_000, "repeats": 20},
        "full": {"size": 4_000_000, "repeats": 200},
    }

    def run(self, options: Options, tell: Tell) -> dict[str, Any]:
        """Compute 14 from 3 and 4, then a large array, every way; time the calls; draw the graphs."""
        setting = self.settings[options.setting]
        rng = np.random.default_rng(options.seed)
        arrays = {n: rng.random(setting["size"], dtype=np.float32) for n in ("x", "y")}
        expected = (arrays["x"] + arrays["y"]) * np.float32(2)
        rows: list[dict[str, Any]] = []
        for title, module, function in WAYS:
            tell(title, {"kind": "stage"})
            row: dict[str, Any] = {"way": title, "file": f"{module}.py"}
            rows.append(row)
            try:
                if function == "build" and module == "torch_compile" and not shutil.which("g++"):
                    raise MissingExtra("g++", needed_for="torch.compile on a CPU")
                reply = call_way(
                    f"{__name__}:measure",
                    arrays,
                    module=module,
                    function=function,
                    repeats=setting["repeats"],
                )
            except MissingExtra as error:
                row["missing"] = str(error)
                continue
            row |= reply.result
            row["gap"] = float(np.max(np.abs(reply.arrays["z"] - expected)))
        ran = [row for row in rows if "missing" not in row]
        same = all(row["small"] == 14.0 and row["gap"] == 0.0 for row in ran)
        result = {
            "exit_code": EXIT_PROVEN if same else EXIT_DIFFERS,
            "pair": self.name,
            "title": self.title,
            "setting": options.setting,
            "size": setting["size"],
            "repeats": setting["repeats"],
            "ways": rows,
            "machine": describe_machine(),
        }
        options.directory.mkdir(parents=True, exist_ok=True)
        draw_graphs([row for row in ran if row["graph"]], options.directory / "graphs")
        finish(self, result, options.directory, _table(result), _verdicts(result), FILES)
        return result

    def view(self, result: Mapping[str, Any]) -> Group:
        """The table, and whether all numbers are the same."""
        return study_view(_table(result), _verdicts(result))


def _table(result: Mapping[str, Any]) -> list[list[str]]:
    rows = [["way", "(3 + 4) · 2", "first call", "a number", f"{result['size']:,} numbers"]]
    for row in result["ways"]:
        if "missing" in row:
            rows.append([row["way"], "–", row["missing"].partition("\n")[0], "–", "–"])
            continue
        times = (row["first_seconds"], row["small_seconds"], row["large_seconds"])
        rows.append([row["way"], f"{row['small']:g}", *[f"{s * 1e3:.3g} ms" for s in times]])
    return rows


def _verdicts(result: Mapping[str, Any]) -> list[tuple[bool, str]]:
    return [(result["exit_code"] == EXIT_PROVEN, "Every way gives the same numbers, bit for bit.")]


def measure(arrays: Arrays, module: str, function: str, repeats: int) -> Answer:
    """One way in a process of its own: its numbers, its graph, and the medians of its calls."""
    way = importlib.import_module(f"{__package__}.{module}")
    tensor = getattr(way, "tensor", np.asarray)
    compute, graph = getattr(way, function)()
    x, y = (tensor(arrays[name]) for name in ("x", "y"))
    three, four = (tensor(np.asarray(value, np.float32)) for value in (3, 4))
    first = timed(lambda: float(compute(three, four)))
    small = float(compute(three, four))
    z = np.asarray(compute(x, y))
    result = {
        "small": small,
        "first_seconds": first,
        "small_seconds": _median(lambda: compute(three, four), repeats),
        "large_seconds": _median(lambda: compute(x, y), repeats),
        "graph": graph,
    }
    return result, {"z": z}


def _median(call: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call, the median of `repeats` after three that warm up."""
    return statistics.median([timed(call) for _ in range(repeats + 3)][3:])


STUDY = StaticGraph()
