"""Keras -> PyTorch -> Keras loses nothing: neither layers' names nor weights, in memory or through folders."""

import json

import keras
import keras_models
import numpy as np
import pytest
import there_and_back

import diglot
from diglot import cli

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


def test_a_folder_goes_back_to_what_it_came_from(tmp_path, monkeypatch):
    """By the command line, without a word on style or inputs; and on to PyTorch again."""
    monkeypatch.chdir(tmp_path)
    keras.backend.clear_session()
    model = keras_models.residual()
    model.save("source.keras")
    assert cli.run(["translate", "source.keras", "-o", "a"]) == 0
    assert cli.run(["translate", "a/model.py", "-o", "b"]) == 0
    assert json.loads((tmp_path / "b" / "translation.json").read_text())["style"] == "functional"
    assert not there_and_back.keras_differences(model, keras.saving.load_model("b/model.keras"))
    assert cli.run(["translate", "b", "-o", "c"]) == 0
    assert "class" in (tmp_path / "c" / "model.py").read_text()
    assert cli.run(["translate", "a", "--style", "layers", "-o", "d"]) == 0
    assert "(layers.Layer):" in (tmp_path / "d" / "model.py").read_text()


def test_lengths_and_ids_of_a_folder_are_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4, name="words")(ids))
    model = keras.Model(ids, keras.layers.Dense(2, name="head")(x))
    model.save("source.keras")
    assert cli.run(["translate", "source.keras", "-o", "a"]) == 0
    assert cli.run(["translate", "a", "-o", "b"]) == 0
    back = diglot.load("b").model
    back.load_weights("b/model.weights.h5")
    for length in (3, 8):
        words = np.random.default_rng(0).integers(0, 9, (2, length))
        np.testing.assert_allclose(back(words), model(words), rtol=1e-5, atol=1e-6)
