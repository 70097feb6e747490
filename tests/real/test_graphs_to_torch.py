"""TensorFlow graphs become PyTorch programs; what cannot be proven of them is compared in float32, and says so."""

import json

import keras
import numpy as np
import pytest
import torch
from keras import layers
from typer.testing import CliRunner

import diglot
from diglot.cli import app
from diglot.frontends.tensorflow_graph import read_saved_model


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


def test_a_saved_model_is_compared_and_not_called_proven(folder):
    translation = diglot.translate(read_saved_model(folder), to="torch")
    assert (
        "permute" not in translation.source
        and "nn.Conv2d(3, 6, 3, padding=1)" in translation.source
    )
    proof = diglot.prove(translation)
    assert proof.verdict == "unproven" and "float32" in proof.reason
    (check,) = proof.checks
    assert check.ok and check.worst < 1e-5


def test_a_weight_that_is_wrong_differs(folder):
    translation = diglot.translate(read_saved_model(folder), to="torch")
    name = next(n for n, v in translation.weights.items() if v.dim() == 4)
    translation.weights[name] = translation.weights[name].flip(3)
    assert diglot.prove(translation).verdict == "differs"


def test_the_command_writes_it_and_marks_it(folder, tmp_path):
    done = CliRunner().invoke(
        app, ["translate", str(folder), "-o", str(tmp_path / "out"), "--json"]
    )
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "unproven"
    assert (tmp_path / "out" / "NOT-PROVEN.txt").is_file()
    scope = {}
    exec((tmp_path / "out" / "model.py").read_text(), scope)
    network = scope["build_model"](str(tmp_path / "out" / "model.safetensors")).eval()
    with torch.no_grad():
        assert network(torch.from_numpy(np.ones((2, 3, 9, 12), "float32"))).shape == (2, 4)
