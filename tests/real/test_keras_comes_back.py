"""Keras -> PyTorch -> Keras loses nothing: neither layers' names nor weights, in memory or through folders."""

import json

import keras
import keras_models
import numpy as np
import pytest
import there_and_back
from keras import layers, ops
from marking import swept

import diglot
from diglot import cli

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


def automatic():
    return keras.Sequential([keras.Input((7,)), layers.Dense(5, "relu"), layers.Dense(2)])


def unnamed_blocks():
    x = images = keras.Input((8, 11, 3))
    for filters in (4, 4, 6):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))


def channels_first():
    """Whose axes stay where they are: a batch norm of axis 1, then channels in the second place."""
    images = keras.Input((5, 3, 4))
    x = layers.BatchNormalization(axis=1)(images)
    return keras.Model(images, layers.Permute((3, 1, 2))(x))


@keras.saving.register_keras_serializable()
class Mixing(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.inner = layers.Dense(width, name="up")
        self.outer = layers.Dense(width)

    def build(self, shape):
        self.gain = self.add_weight(shape=(self.width,), initializer="ones", name="strength")
        self.shift = self.add_weight(shape=(self.width,), initializer="zeros")

    def call(self, x):
        length = ops.shape(x)[1]
        seen = ops.cast(ops.tril(ops.ones((length, length))), x.dtype)
        return x + self.shift + self.gain * ops.matmul(seen, self.outer(ops.relu(self.inner(x))))


@keras.saving.register_keras_serializable()
class Steeper(layers.Layer):
    """Does more in training."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(width, name="first")

    def call(self, x, training=False):
        y = self.inner(x)
        if training:
            y = y + ops.tanh(y)
            y = y / ops.sqrt(ops.sum(y * y, axis=-1, keepdims=True))
        return y


@keras.saving.register_keras_serializable()
class Encoder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(9, 6, name="vocabulary")
        self.blocks = [Mixing(6, name=f"mix_{i}") for i in range(2, 5)]
        self.head = layers.Dense(3, name="classes")

    def call(self, ids):
        x = self.words(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def classes():
    ids = keras.Input((7,), dtype="int32", name="ids")
    return keras.Model(ids, Encoder(name="body")(ids), name="whole")


def layers_of_ones_own():
    """In a graph: applied twice, in a model that is a layer, in a sequence."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    shared = Mixing(6, name="shared")
    x = shared(shared(layers.Embedding(9, 6, name="words")(ids)))
    features = keras.Input((None, 6))
    mixed = Mixing(6, name="deep")(layers.Dense(6, name="widen")(features))
    inner = keras.Model(features, mixed, name="inner")
    parts = [layers.Dense(6, "relu", name="hidden"), Mixing(6, name="last")]
    ends = keras.Sequential(parts, name="ends")
    x = Steeper(5, name="steeper")(ends(inner(x)))
    return keras.Model(ids, layers.Dense(2, name="head")(x), name="of_ones_own")


def lengths():
    """Nothing in it reads how long a sentence is."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Conv1D(4, 3, padding="same", name="near")(layers.Embedding(9, 4, name="words")(ids))
    return keras.Model(ids, layers.GlobalMaxPooling1D()(x), name="sentences")


def groups_of_one():
    """Not a depthwise convolution, though the same function: its kernel is of another shape."""
    images = keras.Input((6, 5, 4))
    x = layers.Conv2D(4, 3, groups=4, name="grouped")(images)
    return keras.Model(images, layers.DepthwiseConv2D(2, name="each")(x))


def both_ways():
    """A layer with two weights that stands at both ends: PyTorch has an embedding and a linear layer."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    words = layers.ReversibleEmbedding(9, 4, tie_weights=False, name="words")
    x = layers.Dense(4, "gelu", name="between")(words(ids))
    return keras.Model(ids, words(x, reverse=True), name="both_ways")


def models_in_models():
    """Each of the ways in which a model is a layer: twice, in another, of several inputs, in a sequence."""
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    x = layers.Dense(4, name="one")(layers.Add()([left, right]))
    inner = keras.Model([left, right], [x, layers.Dense(4, name="two")(x)], name="inner")
    features = keras.Input((6,))
    around = keras.Model(features, layers.Multiply()(inner([features, features])), name="around")
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    x = layers.Concatenate()([around(first), around(second)])
    return keras.Model([first, second], keras.Sequential([layers.Dense(2)], name="ends")(x))


def on_a_frozen_base():
    images = keras.Input((8, 9, 3))
    x = images
    for number in range(3):
        y = layers.Conv2D(3, 3, padding="same", name=f"block{number}_conv")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"block{number}_BN")(y))
    x = layers.BatchNormalization(name="bn_last")(x)
    base = keras.Model(images, x, name="base")
    base.trainable = False
    head = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(2)], name="head")
    return keras.Sequential([keras.Input((8, 9, 3)), base, layers.Flatten(), head], name="whole")


def functions_in_a_sequence():
    """Each is a layer in Keras and a function in PyTorch."""
    return keras.Sequential(
        [
            keras.Input((7, 8, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="gelu"),
            layers.Cropping2D(((1, 2), (0, 3))),
            layers.LeakyReLU(0.2),
            layers.Conv2D(6, 3, activation="tanh"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name="functions",
    )


def normalised():
    """By what was measured: of images, whose channels PyTorch has elsewhere; by numbers, which are no weights."""
    images = keras.Input((5, 6, 3))
    layer = layers.Normalization(name="measured")
    layer.adapt(np.random.default_rng(0).normal(2.0, 3.0, (20, 5, 6, 3)))
    numbers = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.2, 0.3, 0.5], name="known")
    x = layers.Conv2D(2, 3, name="conv")(numbers(layer(images)))
    x = layers.PReLU(name="slopes")(x)  # of each place: PyTorch's has one of each channel
    return keras.Model(images, layers.RMSNormalization(name="scaled")(x))


def recurrent_sequence():
    steps = [layers.Permute((2, 1)), layers.LSTM(5, return_sequences=True), layers.GRU(3)]
    return keras.Sequential([keras.Input((6, 4)), *steps, layers.Dense(2)], name="recurrent")


MODELS = {
    "normalised": normalised,
    "functions in a sequence": functions_in_a_sequence,
    "a recurrent sequence": recurrent_sequence,
    "models in models": models_in_models,
    "on a frozen base": on_a_frozen_base,
    "convolutions in groups of one": groups_of_one,
    "open lengths": lengths,
    "an embedding that leads back": both_ways,
    "axes": channels_first,
    "classes": classes,
    "layers of one's own": layers_of_ones_own,
    "a sequence": keras_models.cnn,
    "a sequence with automatic names": automatic,
    "a graph": keras_models.residual,
    "blocks": lambda: keras_models.blocks(["up"] * 3),
    "blocks that are not named alike": lambda: keras_models.blocks(["up", "wide"]),
    "blocks without names": unnamed_blocks,
}


@pytest.mark.parametrize(
    "name",
    swept(MODELS, {"blocks that are not named alike", "blocks without names", "models in models"}),
)
def test_nothing_is_lost(name):
    keras.backend.clear_session()
    model = MODELS[name]()
    keras.backend.clear_session()
    there, back, inputs = there_and_back.to_torch_and_back(model)
    assert not there_and_back.keras_differences(model, back.model)
    assert isinstance(back.model, keras.Sequential) == isinstance(model, keras.Sequential)
    assert back.info["style"] == ("layers" if name == "classes" else "functional")
    if name == "classes":
        assert 'Mixing(name=f"mix_{i}") for i in range(2, 5)' in back.source
    if name == "layers of one's own":
        assert "        if training:\n" in back.source  # so evaluation does not compute it
    ours, theirs = (there_and_back.keras_outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-6
    assert [diglot.prove(t, thorough=False, steps=1).verdict for t in (there, back)] == [
        "proven"
    ] * 2


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(keras_models.residual, id="graph"),
        pytest.param(keras_models.cnn, id="sequence", marks=pytest.mark.sweep),
    ],
)
def test_a_folder_goes_back_to_what_it_came_from(make, tmp_path, monkeypatch):
    """By the command line, without a word on style or inputs; and on to PyTorch again."""
    monkeypatch.chdir(tmp_path)
    keras.backend.clear_session()
    make().save("source.keras")
    assert cli.run(["translate", "source.keras", "-o", "a"]) == 0
    assert cli.run(["translate", "a/model.py", "-o", "b"]) == 0
    assert json.loads((tmp_path / "b" / "translation.json").read_text())["style"] == "functional"
    ours, theirs = (keras.saving.load_model(f) for f in ("source.keras", "b/model.keras"))
    assert type(ours) is type(theirs)
    assert not there_and_back.keras_differences(ours, theirs)
    assert cli.run(["translate", "b", "-o", "c"]) == 0
    assert "def build_model(" in (tmp_path / "c" / "model.py").read_text()


def test_lengths_and_ids_of_a_folder_are_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4, name="words")(ids))
    model = keras.Model(ids, layers.Dense(2, name="head")(x))
    model.save("source.keras")
    assert cli.run(["translate", "source.keras", "-o", "a"]) == 0
    assert cli.run(["translate", "a", "-o", "b"]) == 0
    back = diglot.load("b").model
    back.load_weights("b/model.weights.h5")
    for length in (3, 8):
        words = np.random.default_rng(0).integers(0, 9, (2, length))
        np.testing.assert_allclose(back(words), model(words), rtol=1e-5, atol=1e-6)


def test_weights_that_training_divides_are_a_layer_again(tmp_path):
    """A discriminator: its wrapped layers write to their weights in training, and are one class for each kind."""
    inputs = keras.Input((9, 9, 3))
    x = inputs
    for filters in (4, 8):
        conv = layers.Conv2D(filters, 3, strides=2, padding="same")
        x = layers.LeakyReLU(0.2)(layers.SpectralNormalization(conv, 2)(x))
    x = layers.SpectralNormalization(layers.Dense(1))(layers.Flatten()(x))
    there = diglot.translate(keras.Model(inputs, x), to="torch")
    assert there.source.count("class SpectralNormalization") == 2
    assert there.source.count("if self.training:") == 2 and "else:" not in there.source
    proof = diglot.prove(there)
    assert proof and any(check.mode == "train" and check.count for check in proof.checks)
    there.save(tmp_path)
    back = diglot.translate(tmp_path, to="keras")
    assert back.source.count("layers.SpectralNormalization(") == 3
    assert back.source.count('padding="same"') == 2
    assert diglot.prove(back)
