"""The DNA pairs: their files, and what is particular to them."""

import json

import keras
import numpy as np
import pytest
import torch

from diglot.cli import run
from diglot.errors import BadInput
from diglot.training import Batch, Recipe
from diglot.training.task import total
from diglot.zoo import find_pair

TAGGER = find_pair("dna-tagger")


def test_the_simulator_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "dna.csv"
    command = ["zoo", "simulate-dna", str(path), "--count", "12", "--length", "20", "--json"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 12
    first = path.read_text()
    assert len(first.splitlines()) == 13
    assert run(command) == 0
    assert path.read_text() == first
    assert run([*command, "--substitution", "2"]) == 2
    assert "no probability" in capsys.readouterr().out


def test_data_of_ones_own(tmp_path, capsys):
    path = tmp_path / "dna.csv"
    path.write_text("ancestor,descendant\n" + "ACGT,ATGT\n" * 30)
    data = TAGGER.data(maxlen=8, path=str(path))
    assert len(data.train["targets"]) == 24
    assert data.train["targets"][0].tolist() == [1, 4, 3, 4, 0, 0, 0, 0]
    path.write_text("ancestor,descendant\nACGT,ATGT\n")
    with pytest.raises(BadInput, match="too few pairs"):
        TAGGER.data(maxlen=8, path=str(path))
    out = ["-o", str(tmp_path / "out")]
    assert run(["zoo", "run", "mnist-mlp", "--data", str(path), *out]) == 2
    assert "its own data only" in capsys.readouterr().err
    path.write_text("ancestor,descendant\nACGT,ATNT\n")
    assert run(["zoo", "run", "dna-tagger", "--data", str(path), *out]) == 2
    error = capsys.readouterr().err
    assert "letter that is no base" in error
    assert "line 2, letter 3" in error.replace("\n", "")


def test_precision_and_recall_are_those_of_keras():
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(6, 9, 5)).astype(np.float32) * 2
    targets = rng.integers(1, 5, (6, 9))
    weights = (rng.random((6, 9)) > 0.3).astype(np.float32)
    batch = Batch({"ancestor": rng.integers(1, 5, (6, 9))}, targets, weights)
    found = total([TAGGER.score(outputs, batch)])
    probabilities = keras.ops.softmax(outputs)
    one_hot = np.eye(5)[targets]
    for name, metric in (
        ("precision", keras.metrics.Precision()),
        ("recall", keras.metrics.Recall()),
    ):
        metric.update_state(
            one_hot, probabilities, sample_weight=np.repeat(weights[..., None], 5, -1)
        )
        assert found[name] == pytest.approx(float(metric.result()), abs=1e-6)


def test_the_data_need_a_look_at_the_neighbour():
    """Copying does worse than the rule, and the rule is what there is to reach."""
    about = TAGGER.data(**TAGGER.setting("full").data).about
    assert about["accuracy_by_copying"] < 0.93
    assert about["accuracy_by_rule"] > TAGGER.goals["accuracy"]


def test_padding_changes_nothing():
    """A base's tag is the same however much padding follows."""
    sizes = TAGGER.setting("fast").model
    model = TAGGER.torch().build_model(**sizes).eval()
    keras_model = TAGGER.keras().build_model(**sizes)
    tokens = np.random.default_rng(0).integers(1, 5, (2, 9))
    padded = np.pad(tokens, ((0, 0), (0, 4)))
    with torch.no_grad():
        short, long = (model(torch.from_numpy(array)).numpy() for array in (tokens, padded))
    np.testing.assert_allclose(short, long[:, :9], atol=1e-5)
    short, long = (keras_model.predict_on_batch(array) for array in (tokens, padded))
    np.testing.assert_allclose(short, long[:, :9], atol=1e-5)


def test_the_tagger_is_saved_and_loaded(tmp_path):
    """`.keras` without custom objects, and a state dict."""
    sizes = TAGGER.setting("fast").model
    tokens = np.random.default_rng(0).integers(1, 5, (2, 9))
    model = TAGGER.keras().build_model(**sizes)
    TAGGER.keras().compile_model(model, "adam")
    model.train_on_batch(tokens, tokens, sample_weight=np.ones(tokens.shape))
    model.save(tmp_path / "tagger.keras")
    loaded = keras.models.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(loaded(tokens), model(tokens))
    model, loaded = (TAGGER.torch().build_model(**sizes).eval() for _ in range(2))
    torch.save(model.state_dict(), tmp_path / "tagger.pt")
    loaded.load_state_dict(torch.load(tmp_path / "tagger.pt"))
    assert torch.equal(loaded(torch.from_numpy(tokens)), model(torch.from_numpy(tokens)))


def test_a_token_that_occurs_twice_has_one_gradient():
    """Adam's second moment of an embedding is that of the summed gradient, in `fit`, too."""
    from diglot.training.keras_loop import make_optimizer

    optimizer = make_optimizer(Recipe(batch_size=1, epochs=1))
    embedding = keras.layers.Embedding(3, 2)
    model = keras.Sequential([embedding, keras.layers.Flatten()])
    model.compile(optimizer, loss=lambda targets, outputs: keras.ops.sum(outputs))
    model.train_on_batch(np.array([[1, 1, 1, 2]]), np.zeros((1, 8)))
    (velocity,) = optimizer._velocities
    np.testing.assert_allclose(
        velocity, 0.001 * np.array([[0, 0], [9, 9], [1, 1]]), rtol=1e-4, atol=1e-9
    )
