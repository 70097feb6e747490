"""`diglot diverge`: two models that the user names, compared from the command line."""

import json
import types

import keras
import numpy as np
import pytest
import torch
from torch import nn

from diglot import cli, runtime

TORCH = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        x = self.hidden(x)
        return self.norm(x)  # the line that calls it

def make():
    torch.manual_seed(0)
    return Net(), torch.randn(3, 6)
"""
KERAS = """
import keras
import numpy as np

class Own(keras.layers.Layer):
    pass

def make(epsilon=1e-5, file=None):
    model = keras.Sequential([
        keras.Input((6,)),
        keras.layers.Dense(5, name="hidden"),
        keras.layers.LayerNormalization(epsilon=epsilon, name="norm"),
    ])
    if file is not None:
        model.set_weights(list(np.load(file).values()))
    return model

def own():
    return keras.Sequential([keras.Input((6,)), Own()])

def number():
    return 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A PyTorch file, a Keras file, and the weights that both models have."""
    folder = tmp_path_factory.mktemp("diverge")
    (folder / "diverging_torch.py").write_text(TORCH)
    (folder / "diverging_keras.py").write_text(KERAS)
    torch.manual_seed(0)
    hidden, norm = nn.Linear(6, 5), nn.LayerNorm(5)
    arrays = [hidden.weight.T, hidden.bias, norm.weight, norm.bias]
    np.savez(folder / "diverging_weights.npz", *(array.detach().numpy() for array in arrays))
    return folder


@pytest.fixture
def diverge(folder, worker, capsys, monkeypatch):
    """Run the command in the folder; gives its exit code and what it prints as JSON."""
    monkeypatch.chdir(folder)
    # The tests' process serves all commands; they may not close it.
    lent = types.SimpleNamespace(call=worker.call, observe=worker.observe, close=lambda: None)
    monkeypatch.setattr(runtime, "start_worker", lambda: lent)

    def run(*arguments):
        capsys.readouterr()
        code = cli.run(["diverge", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        found = json.loads(captured.out)
        assert found["exit_code"] == code
        return code, found

    return run


def keras_source(folder, epsilon):
    weights = str(folder / "diverging_weights.npz")
    return f"{folder}/diverging_keras.py:make(epsilon={epsilon}, file={weights!r})"


def test_the_same_function_does_not_diverge(diverge, folder):
    code, found = diverge("diverging_torch.py:make", keras_source(folder, 1e-5))
    assert code == 0 and not found["found"] and found["file"] is None
    targets = [row["target"].rpartition(".")[2] for row in found["compared"]]
    assert targets == ["hidden", "norm"]


def test_where_two_part_first_and_why(diverge, folder):
    code, found = diverge("diverging_torch.py:make", keras_source(folder, 1e-2))
    assert code == 1 and found["module"] == "norm" and found["target_module"].endswith("norm")
    line = (folder / "diverging_torch.py").read_text().splitlines()[found["line"] - 1]
    assert found["file"].endswith("diverging_torch.py") and "the line that calls it" in line
    assert "eps" in found["likely_cause"]


def test_input_replaces_the_sources_own(diverge, folder):
    code, _ = diverge(
        "diverging_torch.py:make", keras_source(folder, 1e-5), "--input", "float32[batch,6]"
    )
    assert code == 0


def test_the_folder_of_a_translation(diverge, folder):
    import diglot

    namespace = {}
    exec(TORCH, namespace)
    model, example = namespace["make"]()
    diglot.translate(model, example).save(folder / "translated")
    code, found = diverge("diverging_torch.py:make", folder / "translated")
    assert code == 0 and len(found["compared"]) == 2


def test_a_keras_file(diverge, folder):
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5), keras.layers.LayerNormalization(epsilon=1e-5)]
    )
    model.set_weights(list(np.load(folder / "diverging_weights.npz").values()))
    model.save(folder / "whole.keras")
    assert diverge("diverging_torch.py:make", folder / "whole.keras")[0] == 0


def test_nothing_in_a_keras_file_is_executed(diverge, folder):
    """A Lambda layer is a pickled function."""
    layers = [keras.Input((6,)), keras.layers.Lambda(lambda x: x)]
    keras.Sequential(layers).save(folder / "lambda.keras")
    code, found = diverge("diverging_torch.py:make", folder / "lambda.keras")
    assert code == 2 and "was refused" in found["error"]["message"]


def test_a_pair_of_the_zoo(diverge):
    code, found = diverge("zoo:mnist-mlp")
    assert code == 0 and len(found["compared"]) >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diverging_torch.py:make"], "does not name two models"),
        (["zoo:mnist-mlp", "diverging_keras.py:make"], "does not name two models"),
        (["zoo:nothing"], "The zoo has no"),
        (["diverging_torch.py:make", "nowhere"], "not understood"),
        (["diverging_torch.py:make", "{folder}/nowhere.keras"], "There is no file"),
        (["diverging_torch.py:make", "{folder}/graph.pb"], "not a Keras model"),
        (["diverging_torch.py:make", "{folder}"], "is no translation"),
        (["diverging_torch.py:make", "{folder}/diverging_keras.py:nothing"], "has no nothing"),
        (["diverging_torch.py:make", "{folder}/diverging_keras.py:number"], "no Keras model"),
        (["diverging_torch.py:make", "{folder}/diverging_torch.py:make"], "no Keras model"),
        (["diverging_torch.py:nothing", "{folder}/diverging_keras.py:make"], "has no nothing"),
        (
            ["diverging_torch.py:Net", "{folder}/diverging_keras.py:make"],
            "brings no example inputs",
        ),
    ],
)
def test_bad_input_is_one_sentence(diverge, folder, arguments, message):
    code, found = diverge(*(text.format(folder=folder) for text in arguments))
    assert code == 2 and message in found["error"]["message"]
