"""Translate models of other people's and compare both programs in float32 (``make sweep``; not part of ``make test``).

``python tests/sweep/run.py [NAME …] [--group GROUP] [--source] [--functional] [--prove] [--results FILE]``
A NAME selects every model whose name contains it. The groups keras_applications and keras_hub are Keras models,
translated to PyTorch and proven. round_trips go from PyTorch to Keras and back, keras_round_trips from Keras to
PyTorch and back: a line says what was lost (of the function, of names, of bits). With ``--results`` models that have passed, as the file says, are not run again. The
exit status is 1 when any model fails.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parent / "models")]
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import there_and_back  # noqa: E402
import torch  # noqa: E402
import torchvision_stub  # noqa: E402, F401
from randomise import seeded  # noqa: E402

import diglot  # noqa: E402
from diglot.errors import DiglotError  # noqa: E402

TOLERANCE = 2e-4  # float32, some models are a hundred layers deep
GROUPS = {
    "styles": "styles",
    "hugging_face": "hugging_face_zoo",
    "timm": "timm_zoo",
    "keras_applications": "keras_applications",
    "keras_hub": "keras_hub_zoo",
    "round_trips": "round_trips",
    "keras_round_trips": "keras_round_trips",
}
Factory = Callable[[], tuple[Any, Any]]


class TookTooLongError(Exception):
    """A model used up its time."""


def tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors of a nest of outputs, in order."""
    if isinstance(value, dict) or hasattr(value, "items"):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        yield value


def compare(model: torch.nn.Module, example: Any, translation: Any) -> float:
    """Return the largest difference of the outputs, relative to the largest value of each.

    Raises ValueError where a number or a shape of outputs differs.
    """
    arguments = (
        example
        if isinstance(example, dict)
        else example
        if isinstance(example, tuple)
        else (example,)
    )
    with torch.no_grad():
        expected = model(**arguments) if isinstance(arguments, dict) else model(*arguments)
    values = list(arguments.values()) if isinstance(arguments, dict) else list(arguments)
    fed = {}
    for value, spec in zip(values, translation.weight_map.inputs, strict=True):
        fed[spec.name] = np.ascontiguousarray(
            (value.permute(spec.perm) if spec.perm else value).numpy()
        )
    structure = translation.weight_map.structure["inputs"]
    given = fed if structure == "dict" else list(fed.values())
    got = list(
        tensors(translation.model(given[0] if structure == "single" else given, training=False))
    )
    wanted = [t for t in tensors(expected) if isinstance(t, torch.Tensor)]
    if len(got) != len(wanted):
        raise ValueError(f"{len(got)} outputs, PyTorch has {len(wanted)}")
    worst = 0.0
    for ours, theirs, spec in zip(got, wanted, translation.weight_map.outputs, strict=True):
        theirs = (theirs.permute(spec.perm) if spec.perm else theirs).numpy()
        ours = np.asarray(ours)
        if ours.shape != theirs.shape:
            raise ValueError(f"shape {ours.shape}, PyTorch has {theirs.shape}")
        error = np.abs(ours.astype("float64") - theirs.astype("float64")).max()
        worst = max(worst, float(error / (np.abs(theirs.astype("float64")).max() + 1e-9)))
    return worst


def fill_zeros(model: torch.nn.Module) -> None:
    """Give matrices that start as zeros (the heads of timm's mixers) random numbers: nothing hides behind a 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.1)


def steadiness(model: torch.nn.Module, example: Any) -> float:
    """Return how far PyTorch's own float32 is from its float64: some untrained networks amplify every rounding."""
    if isinstance(example, dict) or not isinstance(example, torch.Tensor):
        return 0.0
    with torch.no_grad():
        single = next(tensors(model(example)))
        double = next(tensors(copy.deepcopy(model).double()(example.double())))
    return float((single - double).abs().max() / double.abs().max())


def groups(wanted: str | None) -> dict[str, dict[str, Factory]]:
    """Return the factories of one group, or of all, by group and name."""
    names = [wanted] if wanted else list(GROUPS)
    return {name: importlib.import_module(GROUPS[name]).MODELS for name in names}


def one(factory: Factory, options: argparse.Namespace) -> tuple[bool, str]:
    """Translate and compare one PyTorch model; return whether it agrees and a line about it."""
    began = time.time()
    model, example = seeded(factory)()
    fill_zeros(model)
    model.eval()
    translation = diglot.translate(
        model, example, style="functional" if options.functional else "layers"
    )
    took = time.time() - began
    if options.source:
        print(translation.source)
    error = compare(model, example, translation)
    lines = translation.source.count("\n")
    verdict = f" {diglot.prove(translation).verdict}" if options.prove else ""
    if error > TOLERANCE and error < 10 * steadiness(model, example):
        verdict = f" {diglot.prove(translation).verdict} (float32 is chaotic here)"
        return verdict.startswith(" proven"), f"{error:.1e} {took:5.1f}s {lines:4d} lines{verdict}"
    agrees = error <= TOLERANCE and (not options.prove or verdict == " proven")
    return agrees, f"{error:.1e} {took:5.1f}s {lines:4d} lines{verdict}"


def one_of_keras(factory: Factory, options: argparse.Namespace) -> tuple[bool, str]:
    """Translate a Keras model to PyTorch and prove it; return whether it is proven and a line about it."""
    model, example = factory()
    began = time.time()
    translation = diglot.translate(model, example, to="torch")
    translated = time.time()
    if options.source:
        print(translation.source)
    proof = diglot.prove(translation, thorough=False, steps=1)
    lines, permutes = translation.source.count("\n"), translation.source.count("permute(")
    said = proof.verdict if proof else str(proof)[: options.width]
    times = f"{translated - began:5.1f}s + {time.time() - translated:5.1f}s"
    return bool(proof), f"{times} {lines:4d} lines {permutes:2d} permutes {said}"


def round_trip(factory: Factory, options: argparse.Namespace) -> tuple[bool, str]:
    """Translate a PyTorch model to Keras and back; return whether nothing was lost and a line about it."""
    model, example = factory()
    began = time.time()
    style = "functional" if options.functional else "layers"
    back = there_and_back.to_keras_and_back(model, example, style)
    if options.source:
        print(back.source)
    gap = there_and_back.largest_gap(
        *(there_and_back.outputs(m, example) for m in (model, back.model))
    )
    lost = there_and_back.state_differences(model, back.model)
    said = _said(gap, began, back.source) + _lost(lost, options)
    return gap <= 1e-7 and not lost, said  # a table that is written out has 32 bits


def round_trip_of_keras(factory: Factory, options: argparse.Namespace) -> tuple[bool, str]:
    """Translate a Keras model to PyTorch and back; return whether nothing was lost and a line about it."""
    import keras

    keras.backend.clear_session()
    model, example = factory()
    keras.backend.clear_session()
    began = time.time()
    style = "functional" if options.functional else None
    there, back, inputs = there_and_back.to_torch_and_back(model, example, style)
    if options.source:
        print(there.source, back.source, sep="\n")
    gap = there_and_back.largest_gap(
        *(there_and_back.keras_outputs(m, inputs) for m in (model, back.model))
    )
    lost = there_and_back.keras_differences(model, back.model)
    said = f"{_said(gap, began, back.source)}, {back.info['style']}" + _lost(lost, options)
    proofs = [diglot.prove(t).verdict for t in (there, back)] if options.prove else []
    said += "".join(f" {verdict}" for verdict in proofs)
    return gap <= TOLERANCE and not lost and set(proofs) <= {"proven"}, said


def _said(gap: float, began: float, source: str) -> str:
    lines = source.count("\n")
    return f"{gap:.1e} {time.time() - began:5.1f}s {lines:4d} lines"


def _lost(lost: list[str], options: argparse.Namespace) -> str:
    return f", {len(lost)} lost: {', '.join(lost)}"[: options.width] if lost else ""


def tried(group: str, factory: Factory, options: argparse.Namespace) -> tuple[bool, str]:
    """Run one model of a group; whatever it raises is a line, too."""
    runs = {
        "keras_applications": one_of_keras,
        "keras_hub": one_of_keras,
        "round_trips": round_trip,
        "keras_round_trips": round_trip_of_keras,
    }
    run = runs.get(group, one)
    try:
        return run(factory, options)
    except DiglotError as error:
        said = " / ".join(str(error).splitlines())[: options.width]
        return False, f"{type(error).__name__}: {said}"
    except Exception as error:
        places = [
            f"{Path(f.filename).name}:{f.lineno}"
            for f in traceback.extract_tb(error.__traceback__)[-4:]
        ]
        if options.trace:
            traceback.print_exc()
        said = " ".join(str(error).split())[: options.width]
        return False, f"{type(error).__name__}: {said} {places}"


def chosen(options: argparse.Namespace) -> Iterator[tuple[str, str, Factory]]:
    """Yield group, name and factory of the models that were asked for and have not passed before."""
    results = options.results
    passed = results.read_text().splitlines() if results and results.exists() else []
    passed = {line.split()[1] for line in passed if line.startswith("ok ")}
    for group, models in groups(options.group).items():
        for name, factory in models.items():
            wanted = not options.names or any(n in name for n in options.names)
            if wanted and f"{group}:{name}" not in passed:
                yield group, name, factory


def main() -> int:
    """Run the chosen models, one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--group", choices=list(GROUPS))
    parser.add_argument("--source", action="store_true", help="print the translated program")
    parser.add_argument("--functional", action="store_true")
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--width", type=int, default=400)
    parser.add_argument("--seconds", type=int, help="time for one model (180; Keras models 1800)")
    parser.add_argument("--results", type=Path, help="add the lines to a file; skip what passed")
    options = parser.parse_args()
    limit = 0

    def stop(*_: Any) -> None:
        raise TookTooLongError(f"more than {limit} s")

    signal.signal(signal.SIGALRM, stop)
    failed = total = 0
    for group, name, factory in chosen(options):
        limit = options.seconds or (1800 if group.startswith("keras") else 180)
        signal.alarm(limit)
        agrees, line = tried(group, factory, options)
        signal.alarm(0)
        total, failed = total + 1, failed + (not agrees)
        line = f"{'ok    ' if agrees else 'FAILED'} {group}:{name:<28s} {line}"
        print(line, flush=True)
        if options.results:
            with options.results.open("a") as results:
                results.write(line + "\n")
    print(f"{total - failed} of {total} agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
