"""What the tests on real models share: translate, prove, save, and look at the result.

A model is translated and proven once per test process; the tests of one model share the result.
"""

import atexit
import functools
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shared_keras
import torch

import diglot
from diglot.parity.prove import Proof
from diglot.translation import Translation

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "models"
FRESH = Path(__file__).parent / "fresh_model.py"


@dataclass
class Translated:
    """A translation on disk, and what it was made from."""

    translation: Translation
    directory: Path
    model: torch.nn.Module
    example_inputs: Any

    @functools.cached_property
    def proof(self) -> Proof:
        """The proof, made when it is first asked for."""
        return diglot.prove(self.translation)


@functools.cache
def _workplace() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="diglot-tests-")  # removed when Python ends


@functools.cache
def translated(module: str, factory: str = "make", **options: Any) -> Translated:
    """Translate `factory` of tests/models/`module`.py and save the result, once."""
    shared_keras.keras_worker()
    model, example_inputs = getattr(importlib.import_module(module), factory)()
    translation = diglot.translate(model, example_inputs, to="keras", **options)
    name = "-".join([module, factory, *map(str, options.values())])
    directory = Path(_workplace().name) / name
    translation.save(directory)
    return Translated(translation, directory, model, example_inputs)


def assert_proven(result: Translated) -> None:
    """Fail with what the proof says where it is not `proven`."""
    figures = result.proof.to_dict()
    told = {
        key: figures.get(key)
        for key in ("verdict", "reason", "reasons", "first_divergence", "not_compared")
    }
    assert result.proof, json.dumps(told, indent=1, default=str)[:4000]
    assert result.proof.verdict == "proven"
    assert json.loads(result.proof.to_json())["verdict"] == "proven"


@functools.cache
def _receiver(backend: str) -> subprocess.Popen:
    """A Python that knows neither Diglot nor PyTorch; it serves all tests of this process."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, FRESH],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(process.kill)
    return process


def run_fresh(result: Translated, *actions: str, backend: str = "tensorflow") -> dict[str, Any]:
    """Use the saved translation in a Python that knows neither Diglot nor PyTorch.

    See fresh_model.py for the actions. Returns the report. With "outputs" among the actions, the
    outputs are compared with PyTorch's here.
    """
    process = _receiver(backend)
    assert process.stdin is not None and process.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, **target_inputs(result))
        job = {"directory": str(result.directory), "inputs": str(path), "actions": actions}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"Python with the backend {backend} died"
        answer = json.loads(answer)
        assert "error" not in answer, answer["error"][-4000:]
        if "outputs" in actions:
            found = np.load(path.with_name("outputs.npz"))
            compare(result, {key.removeprefix("output:"): found[key] for key in found.files})
    return answer["report"]


def weight_map(result: Translated) -> dict[str, Any]:
    """The weight map as it is on the disk."""
    return json.loads((result.directory / "weight_map.json").read_text())


def source_arguments(result: Translated) -> tuple[tuple, dict[str, Any]]:
    """The example inputs as (positional, keyword) arguments of the PyTorch model."""
    example_inputs = result.example_inputs
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (tuple(example_inputs) if isinstance(example_inputs, tuple) else (example_inputs,)), {}


def target_inputs(result: Translated) -> dict[str, np.ndarray]:
    """The example inputs in the translation's layout, by "input:INDEX"."""
    args, kwargs = source_arguments(result)
    tensors = [*args, *kwargs.values()]
    described = weight_map(result)["inputs"]
    assert len(tensors) == len(described)
    arrays = {}
    for index, (tensor, entry) in enumerate(zip(tensors, described, strict=True)):
        perm = entry["perm"]
        arrays[f"input:{index}"] = (tensor.permute(perm) if perm else tensor).numpy()
    return arrays


def flatten(outputs: Any, path: str = "") -> dict[str, Any]:
    """The tensors of a structure by their path: "" alone, "logits", "1/0", …"""
    if isinstance(outputs, dict):
        items = outputs.items()
    elif isinstance(outputs, (list, tuple)):
        items = enumerate(outputs)
    else:
        return {path: outputs}
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flatten(value, f"{path}/{key}" if path else str(key))
    return leaves


def source_outputs(result: Translated) -> dict[str, np.ndarray]:
    """PyTorch's outputs for the example inputs, evaluation mode, in the translation's layout."""
    args, kwargs = source_arguments(result)
    was_training = result.model.training
    result.model.eval()
    with torch.no_grad():
        leaves = flatten(result.model(*args, **kwargs))
    result.model.train(was_training)
    arrays = {}
    for entry in weight_map(result)["outputs"]:
        path, perm = "/".join(map(str, entry["path"])), entry["perm"]
        tensor = leaves.pop(path)
        arrays[path] = (tensor.permute(perm) if perm else tensor).numpy()
    assert not any(torch.is_tensor(leaf) for leaf in leaves.values()), f"lost: {list(leaves)}"
    return arrays


def compare(result: Translated, found: dict[str, np.ndarray], tolerance: float = 2e-4) -> None:
    """Compare Keras outputs, by path, with PyTorch's in float32; relative to the largest value."""
    expected = source_outputs(result)
    assert found.keys() == expected.keys()
    for path, wanted in expected.items():
        assert found[path].shape == wanted.shape, path
        gap = np.abs(found[path] - wanted).max() / max(1.0, np.abs(wanted).max())
        assert gap <= tolerance, f"{path or 'the output'} is off by {gap:.1e}"


def assert_reads_well(result: Translated, *classes: str) -> None:
    """The generated source stands alone, is clean under ruff, and keeps the author's classes."""
    path = result.directory / "model.py"
    source = path.read_text()
    assert source == result.translation.source
    assert not re.search(r"^\s*(import|from)\s+(diglot|torch)\b", source, re.MULTILINE)
    for command in (["check", "--select", "E,F,W,I,B,UP"], ["format", "--check"]):
        finished = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "100", path],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]
    for name in classes:
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), f"no class {name}"
    # add_17, relu_3, view_5: names that no author wrote.
    serial = re.findall(
        r"\b(?:add|sub|mul|div|view|reshape|permute|transpose|matmul|expand|unsqueeze|getitem|"
        r"_to_copy|slice|select|where)_\d+\b",
        source,
    )
    assert not serial, sorted(set(serial))
