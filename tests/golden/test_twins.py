"""The hand-written twins are a yardstick for generated source, so they must be right themselves."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.xdist_group("golden-twins")

HERE = Path(__file__).parent
TWINS = {
    # twin: (model file, factory, keyword arguments of the twin's build_model)
    "mnist_mlp": ("make", {}),
    "resnet": ("make", {"depths": [1, 2, 1, 1], "num_classes": 11, "width": 4}),
    "unet": ("make", {}),
    "teaching_transformer": ("make", {}),
}


@pytest.fixture(scope="module")
def keras_alone():
    """Keras in a process without PyTorch, for all twins; see run_twin.py for the jobs that it takes."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, HERE / "run_twin.py"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_computes_what_pytorch_computes(name, keras_alone, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parent / "models"))
    factory, options = TWINS[name]
    model, inputs = getattr(importlib.import_module(name), factory)()
    model.eval()
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad():
        expected = model(*inputs)

    def to_keras(tensor):
        return (tensor.permute(0, 2, 3, 1) if name in ("resnet", "unet") else tensor).numpy()

    arrays = {f"input:{i}": to_keras(tensor) for i, tensor in enumerate(inputs)}
    for key, value in model.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            arrays[f"weight:{key}"] = value.numpy()
    np.savez(tmp_path / "in.npz", **arrays)
    files = (HERE / "twins" / f"{name}.py", tmp_path / "in.npz", tmp_path / "out.npz")
    keras_alone.stdin.write(json.dumps([*map(str, files), options]) + "\n")
    keras_alone.stdin.flush()
    answer = keras_alone.stdout.readline()
    assert answer == "done\n", answer

    found = np.load(tmp_path / "out.npz")
    expected = expected.permute(0, 2, 3, 1) if name == "unet" else expected
    np.testing.assert_allclose(found["output"], expected.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["reloaded"], found["output"], rtol=1e-5, atol=1e-5)
