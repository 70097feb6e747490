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

HERE = Path(__file__).parent
TWINS = {
    # twin: (model file, factory, keyword arguments of the twin's build_model)
    "mnist_mlp": ("make", {}),
    "resnet": ("make", {"depths": [1, 2, 1, 1], "num_classes": 11, "width": 4}),
    "unet": ("make", {}),
    "teaching_transformer": ("make", {}),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_computes_what_pytorch_computes(name, tmp_path, monkeypatch):
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
    command = [sys.executable, HERE / "run_twin.py", HERE / "twins" / f"{name}.py"]
    command += [tmp_path / "in.npz", tmp_path / "out.npz", json.dumps(options)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]

    found = np.load(tmp_path / "out.npz")
    expected = expected.permute(0, 2, 3, 1) if name == "unet" else expected
    np.testing.assert_allclose(found["output"], expected.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["reloaded"], found["output"], rtol=1e-5, atol=1e-5)
