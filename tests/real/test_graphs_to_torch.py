"""TensorFlow graphs become PyTorch programs, proven in float64 as everything else is."""

import json
import shutil

import keras
import numpy as np
import pytest
import torch
from keras import layers
from typer.testing import CliRunner

import diglot
from diglot.cli import app
from diglot.frontends.tensorflow_graph import read_saved_model

pytestmark = pytest.mark.usefixtures("commands")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model = keras.Sequential(
        [
            keras.Input((9, 12, 3)),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
    place = tmp_path_factory.mktemp("graphs") / "images"
    model.export(str(place), verbose=False)
    return place


def test_a_saved_model_is_proven_with_its_gradients_and_steps(folder):
    translation = diglot.translate(read_saved_model(folder), to="torch")
    assert (
        "permute" not in translation.source
        and "nn.Conv2d(3, 6, 3, padding=1)" in translation.source
    )
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.reason
    kinds = {check.kind for check in proof.checks if check.dtype == "float64"}
    assert kinds >= {"weights", "outputs", "gradients", "input_gradients", "steps"}
    assert any(check.dtype == "float32" and check.ok for check in proof.checks)
    assert [item["what"] for item in proof.not_compared] == ["training mode"]


def test_a_weight_that_is_wrong_differs(folder):
    translation = diglot.translate(read_saved_model(folder), to="torch")
    name = next(n for n, v in translation.weights.items() if v.dim() == 4)
    translation.weights[name] = translation.weights[name].flip(3)
    assert diglot.prove(translation).verdict == "differs"


def test_the_command_writes_it_with_its_source_beside_it(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "images")
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["translate", str(copy), "-o", str(out), "--json"])
    assert done.exit_code == 0, done.stdout
    assert json.loads(done.stdout)["verdict"] == "proven"
    shutil.rmtree(copy)  # it is proven again with what lies in the folder
    assert CliRunner().invoke(app, ["prove", str(out)]).exit_code == 0
    scope = {}
    exec((out / "model.py").read_text(), scope)
    network = scope["build_model"](str(out / "model.safetensors")).eval()
    with torch.no_grad():
        assert network(torch.from_numpy(np.ones((2, 3, 9, 12), "float32"))).shape == (2, 4)
