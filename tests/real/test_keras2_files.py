"""Model files that Keras 2 wrote: each gives what it gave there, and becomes PyTorch."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from marking import swept

import diglot
from diglot.errors import BadInput
from diglot.keras_files import load_keras

ARCHIVE = Path(__file__).parent / "fixtures" / "keras2.zip"
NAMES = zipfile.ZipFile(ARCHIVE).namelist()


def unpacked(name, folder):
    with zipfile.ZipFile(ARCHIVE) as archive:
        return Path(archive.extract(name, folder))


def arrays(name):
    with zipfile.ZipFile(ARCHIVE) as archive:
        held = np.load(io.BytesIO(archive.read(name)))
    return [[held[key] for key in held if key[0] == kind] for kind in "xy"]


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("npz")])
def test_a_file_of_keras_2_gives_what_it_gave_there(name, tmp_path):
    """Keras 3 by itself reads 14 of the 46 ``.h5`` files, and three of these as something else."""
    inputs, wanted = arrays(f"{Path(name).stem}.npz")
    model = load_keras(unpacked(name, tmp_path))
    made = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    made = made if isinstance(made, (list, tuple)) else [made]
    close = 1e-2 if name.startswith("mixed") else 2e-5
    for a, b in zip(made, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=close * np.abs(b).max())


@pytest.mark.parametrize(
    "name",
    swept(
        "lstm_options.h5 gru_hard.keras bidirectional.h5 nested.keras frozen.h5 operators.h5 multi_head.keras".split(),
        {"bidirectional.h5"},
    ),
)
@pytest.mark.usefixtures("worker")
def test_and_is_proven_in_pytorch(name, tmp_path):
    """Also from a folder, where the model is what Keras 3 has saved again."""
    model = load_keras(unpacked(name, tmp_path))
    translation = diglot.translate(model, to="torch")
    assert diglot.prove(translation).verdict == "proven"
    translation.save(tmp_path / "out")
    assert diglot.prove(diglot.load(tmp_path / "out")).verdict == "proven"


def changed(folder, change, name="lstm.h5", version="2.15.0"):
    path = unpacked(name, folder)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
    return path


def test_what_keras_3_cannot_be_told_is_refused(tmp_path):
    """By layer and option, with the way out."""
    path = changed(tmp_path, lambda layers: layers[1]["config"].update(time_major=True))
    with pytest.raises(BadInput, match=r"The LSTM layer lstm has time_major=True") as refusal:
        load_keras(path)
    assert "SavedModel" in str(refusal.value)


def test_a_function_without_an_equal_is_refused(tmp_path):
    """A raw op that has no record."""

    def change(layers):
        op = next(e for e in layers if e["class_name"] == "TFOpLambda")
        op["config"]["function"] = "raw_ops.Bucketize"

    path = changed(tmp_path, change, "operators.h5")
    with pytest.raises(BadInput, match=r"calls tf\.raw_ops\.Bucketize") as refusal:
        load_keras(path)
    assert "layer tf.math.multiply" in str(refusal.value)


def test_a_layer_that_is_not_there_is_named(tmp_path):
    """Where a call reads it."""
    path = changed(
        tmp_path,
        lambda layers: layers[-1].update(inbound_nodes=[[["gone", 0, 0, {}]]]),
        "nested.h5",
    )
    with pytest.raises(BadInput, match="reads a layer that it does not have"):
        load_keras(path)


def test_layers_that_wait_for_each_other_end(tmp_path):
    """A loop in the file is an error, not a search without end."""

    def change(layers):
        layers[1]["inbound_nodes"] = [[[layers[-1]["name"], 1, 0, {}]]]

    with pytest.raises(BadInput, match="wait for each other"):
        load_keras(changed(tmp_path, change, "nested.h5"))


def test_weights_of_another_shape_are_named(tmp_path):
    """With what the layer has and what the file has."""
    path = changed(tmp_path, lambda layers: layers[1]["config"].update(units=3), "lstm.h5")
    with pytest.raises(BadInput, match="The weights of the layer lstm are not those of the file"):
        load_keras(path)


def test_a_file_of_keras_1_is_refused(tmp_path):
    """Its layers had other options."""
    with pytest.raises(BadInput, match="was written by Keras 1"):
        load_keras(changed(tmp_path, lambda layers: None, version="1.2.2"))


def test_names_may_have_a_slash_in_them(tmp_path):
    """Keras 3 takes no such name; the file has the weights under it."""
    path = unpacked("lstm.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"lstm"', '"scope/lstm"')
        file.move("model_weights/lstm", "model_weights/scope/lstm")
    model, (inputs, wanted) = load_keras(path), arrays("lstm.npz")
    assert "scope_lstm" in [layer.name for layer in model.layers]
    np.testing.assert_allclose(model(inputs[0]), wanted[0], atol=1e-5)
