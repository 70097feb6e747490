"""Keras models named by the user: loaded, or refused in one sentence, with nothing executed."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import diglot
from diglot import cli
from diglot.errors import BadInput, MissingExtra
from diglot.sources_keras import is_keras_spec, load_keras_source

NET = """
import keras
import numpy as np


class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def make(units=3):
    return keras.Sequential([keras.Input((4,)), Twice(), keras.layers.Dense(units)])


def make_both():
    return make(), np.zeros((2, 4), "float32")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Good files, and files made bad from them."""
    folder = tmp_path_factory.mktemp("keras")
    ids = keras.Input((None,), dtype="int32", name="ids")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(ids))
    good = keras.Model(ids, layers.Dense(2, name="head")(y))
    good.save(folder / "good.keras")
    good.save(folder / "good.h5")
    good.save_weights(folder / "only.weights.h5")
    x = keras.Input((4,))
    keras.Model(x, layers.Lambda(lambda t: t + 1)(x)).save(folder / "lambda.keras")
    keras.Model(x, layers.Lambda(lambda t: t + 1)(x)).save(folder / "lambda.h5")
    (folder / "net.py").write_text(NET)
    for name in ("good.keras", "good.h5"):
        data = (folder / name).read_bytes()
        (folder / f"half-{name}").write_bytes(data[: len(data) // 2])
    changed = bytearray((folder / "good.keras").read_bytes())
    place = changed.find(b"\x89HDF") + 3000
    changed[place : place + 8] = b"tampered"
    (folder / "tampered.keras").write_bytes(bytes(changed))
    config = json.loads(zipfile.ZipFile(folder / "good.keras").read("config.json"))
    _archive(folder / "climbs.keras", config, folder, {"../../evil.txt": b"x"})
    head = next(n for n in config["config"]["layers"] if n["name"] == "head")
    for name, change in {
        "os.keras": {"module": "os", "class_name": "system", "registered_name": None},
        "unknown.keras": {"module": "mine", "class_name": "Head", "registered_name": "pack>Head"},
        "file.keras": {"module": "keras.utils", "class_name": "get_file", "registered_name": None},
        "tfsm.keras": {"module": "keras.layers", "class_name": "TFSMLayer"},
    }.items():
        kept = dict(head)
        head.update(change)
        _archive(folder / name, config, folder)
        head.clear()
        head.update(kept)
    _archive(folder / "noconfig.keras", [1, 2], folder)
    with zipfile.ZipFile(folder / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(config))
        with archive.open("model.weights.h5", "w") as stream:
            for _ in range(300):
                stream.write(bytes(1 << 20))
    with h5py.File(folder / "link.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file["model_weights"] = h5py.ExternalLink("/etc/passwd", "/")
    with h5py.File(folder / "huge.h5", "w") as file:
        file.attrs["model_config"] = "{}"
        file.create_dataset("model_weights/w", (1 << 40,), chunks=(1024,))
    (folder / "empty.h5").write_bytes(b"")
    (folder / "text.keras").write_text("not a model")
    return folder


def _archive(path, config, folder, more=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        weights = zipfile.ZipFile(folder / "good.keras").read("model.weights.h5")
        archive.writestr("model.weights.h5", weights)
        for name, data in dict(more).items():
            archive.writestr(name, data)


@pytest.mark.parametrize("name", ["good.keras", "good.h5"])
def test_a_saved_model_is_loaded_with_its_weights(files, name):
    source = load_keras_source(str(files / name), ["int32[batch,length]"])
    wanted = keras.saving.load_model(files / "good.keras")
    for a, b in zip(source.model.weights, wanted.weights, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())
    assert source.example_inputs.dtype == np.int32 and source.example_inputs.max() == 8
    assert source.dynamic == {"0": {0: "batch", 1: "length"}}
    assert load_keras_source(str(files / name)).example_inputs is None


BAD = {
    "half-good.keras": "cannot be read",
    "half-good.h5": "cannot be read",
    "tampered.keras": "checksum",
    "climbs.keras": "climbs out",
    "os.keras": "names a class or function that Keras does not have",
    "unknown.keras": "names a class or function that Keras does not have",
    "file.keras": "cannot build",
    "tfsm.keras": "runs another SavedModel",
    "noconfig.keras": "no model's",
    "bomb.keras": "unpacks to 300 MiB",
    "link.h5": "is a link",
    "huge.h5": "unpacks to",
    "empty.h5": "neither a Keras archive nor an HDF5 file",
    "text.keras": "neither a Keras archive nor an HDF5 file",
    "only.weights.h5": "holds weights only",
    "lambda.keras": "Python bytecode",
    "lambda.h5": "Python bytecode",
    "nowhere.keras": "There is no file",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_error(files, name):
    with pytest.raises(BadInput) as caught:
        load_keras_source(str(files / name))
    assert BAD[name] in caught.value.message, str(caught.value)
    assert name in caught.value.message and caught.value.exit_code == 2
    assert not (files.parent.parent / "evil.txt").exists()
    if name == "unknown.keras":
        assert "Head (registered as pack>Head) of mine" in str(caught.value)
        assert "--custom" in str(caught.value)


@pytest.mark.parametrize("name", ["lambda.keras"])
def test_a_lambda_runs_only_when_it_is_trusted(files, name):
    model = load_keras_source(str(files / name), trust=True).model
    assert np.array_equal(model(np.zeros((1, 4), "float32")).numpy(), np.ones((1, 4)))


def test_classes_of_the_authors_own_are_given_as_a_file(files):
    made = load_keras_source(f"{files / 'net.py'}:make").model
    made.save(files / "own.keras")
    with pytest.raises(BadInput, match="Twice"):
        load_keras_source(str(files / "own.keras"))
    model = load_keras_source(str(files / "own.keras"), custom=[str(files / "net.py")]).model
    assert np.array_equal(model.weights[0].numpy(), made.weights[0].numpy())


def test_a_function_that_a_file_only_names_is_given_by_that_name(tmp_path):
    """Keras 2 wrote ``<lambda>`` for an activation: who trained the model knows what it was."""
    x = keras.Input((4,))
    keras.Model(x, layers.Dense(3, activation="relu", name="d")(x)).save(tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        text = file.attrs["model_config"]
        assert '"activation": "relu"' in text
        file.attrs["model_config"] = text.replace(
            '"activation": "relu"', '"activation": "<lambda>"'
        )
    with pytest.raises(BadInput) as caught:
        load_keras_source(str(tmp_path / "m.h5"))
    assert "received: <lambda>" in str(caught.value) and "custom_objects" in str(caught.value)
    (tmp_path / "acts.py").write_text(
        'import keras\n\ncustom_objects = {\n    "<lambda>": lambda x: keras.ops.tanh(x) * 2\n}\n'
    )
    loaded = load_keras_source(str(tmp_path / "m.h5"), custom=[str(tmp_path / "acts.py")])
    made = diglot.translate(loaded.model, to="torch")
    # A name in the statement that holds the function is no name for what it gives.
    assert "torch.tanh(self.d(" in made.source and "custom_objects" not in made.source


def test_factories(files, monkeypatch):
    monkeypatch.chdir(files)
    source = load_keras_source("net.py:make_both")
    assert source.example_inputs.shape == (2, 4)
    assert source.factory == f"{Path(files).resolve()}/net.py:make_both"
    assert load_keras_source("net.py:make(units=5)").model.output_shape == (None, 5)
    with pytest.raises(BadInput, match="made no Keras model"):
        load_keras_source("builtins:int")


def test_applications():
    small = "keras:applications/MobileNetV2(input_shape=(32, 32, 3), classes=4, alpha=0.35)"
    assert load_keras_source(small).model.output_shape == (None, 4)
    with pytest.raises(BadInput, match="no builder") as caught:
        load_keras_source("keras:applications/ResNet51")
    assert "ResNet50" in caught.value.expected
    with pytest.raises(BadInput, match="raised an error"):
        load_keras_source("keras:applications/ResNet50(nothing=1)")


def test_hub_without_the_package():
    if _has_hub():
        pytest.skip("keras-hub is installed")
    with pytest.raises(MissingExtra, match="keras-hub"):
        load_keras_source("hub:bert_tiny_en_uncased")


def _has_hub():
    import importlib.util

    return importlib.util.find_spec("keras_hub") is not None


def test_what_can_only_be_keras(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    yes = ("a.keras", "b/c.h5", "x.pb", "keras:applications/VGG16", "hub:x", str(tmp_path))
    assert all(map(is_keras_spec, yes))
    assert not any(map(is_keras_spec, ("net.py:make", "keras.models:Model", "x.pt2", "timm:a")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{files}/lambda.keras"], "Python bytecode"),
        (["{files}/climbs.keras", "--to", "torch"], "climbs out"),
        (["{files}/good.keras", "--to", "keras"], "is of Keras or TensorFlow already"),
        (["timm:resnet18", "--trust"], "go with --to torch"),
    ],
)
@pytest.mark.usefixtures("commands")
def test_the_command_ends_with_2_and_writes_nothing(files, tmp_path, capsys, arguments, message):
    given = [a.format(files=files) for a in arguments]
    code = cli.run(["translate", *given, "-o", str(tmp_path / "out"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == 2 and message in found["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_path_to_nothing_is_called_that(tmp_path):
    (tmp_path / "exported").mkdir()
    with pytest.raises(BadInput, match="There is no file or folder") as raised:
        load_keras_source(str(tmp_path / "exportde"))
    assert f"did you mean {tmp_path / 'exported'}?" in str(raised.value)
    with pytest.raises(BadInput, match="There is no file or folder"):
        load_keras_source(str(tmp_path / "nowhere" / "model"))
    with pytest.raises(BadInput, match="there is no file or folder exportde in"):
        load_keras_source("exportde")


def test_an_archive_is_not_read_again_for_each_of_its_weights(tmp_path, monkeypatch):
    """A step back in a file within an archive reads it from its start."""
    model = keras.Sequential([keras.Input((64,)), *(layers.Dense(64) for _ in range(24))])
    model.save(tmp_path / "m.keras")
    read = []
    original = zipfile.ZipExtFile._read1

    def counted(self, n):
        data = original(self, n)
        read.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "_read1", counted)
    load_keras_source(str(tmp_path / "m.keras"))
    assert sum(read) < 6 * (tmp_path / "m.keras").stat().st_size
