"""Layers of Keras's that PyTorch has none for come back from the code that they became, as long as it is theirs."""

import json

import keras
import numpy as np
import pytest
import there_and_back
from keras import layers

import diglot
from diglot.translated import load_translated

SEQUENCE, IMAGES = (3, 3), (2, 5, 4, 3)


def alone(layer, *shapes, **options):
    """A model of one layer; a shape of "mask" is that of its steps."""

    def make():
        given = [
            keras.Input(s[:1], dtype="bool") if s[1:] == ("mask",) else keras.Input(s)
            for s in shapes
        ]
        masks = {"mask": given.pop()} if shapes[-1][1:] == ("mask",) else {}
        inputs = [*given, *masks.values()]
        made = layer()(given if len(given) > 1 else given[0], **masks, **options)
        return keras.Model(inputs, made)

    return make


def attention(layer, **options):
    def make():
        x = keras.Input(SEQUENCE)
        y = layers.Dense(6, name="in")(x)
        return keras.Model(x, layer()(y, y, **options))

    return make


def images():
    x = inputs = keras.Input((9, 8, 4))
    x = layers.Conv2D(5, 3, name="first")(x)
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization(scale=False, name="even")(x)
    return keras.Model(inputs, layers.SeparableConv2D(3, 2, depth_multiplier=2)(x))


def film():
    inputs = keras.Input(IMAGES)
    x = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True, go_backwards=True)(inputs)
    x, h, c = layers.ConvLSTM2D(2, 2, use_bias=False, return_state=True)(x)
    return keras.Model(inputs, [x, h, c, layers.Conv2D(2, 1)(h)])


def sentences():
    ids = keras.Input((4,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(ids)
    x, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="read")(x)
    x = layers.Bidirectional(layers.GRU(3, name="both"), merge_mode="ave")(x, initial_state=None)
    return keras.Model(ids, [x, layers.Dense(2)(h), c])


def heads():
    inputs = keras.Input((5, 6))
    seen = keras.Input((5, 5), dtype="bool")
    x = layers.MultiHeadAttention(2, 3)(inputs, inputs, attention_mask=seen)
    x = layers.EinsumDense("abc,cde->abde", (None, 3, 5), activation="tanh", bias_axes="e")(x)
    x = layers.TimeDistributed(layers.Conv1D(2, 2, name="near"))(x)
    return keras.Model([inputs, seen], layers.EinsumDense("abcd,cde->abe", (None, 4))(x))


def words():
    """Masks that Keras carries with its tensors, of queries and of values; states that are inputs."""
    ids = keras.Input((4,), dtype="int32")
    states = [keras.Input((4,)), keras.Input((4,))]
    x = layers.Embedding(9, 6, mask_zero=True)(ids)
    x = layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)
    made = layers.LSTM(4, return_state=True)(x, initial_state=states)
    return keras.Model([ids, *states], made)


def joined():
    query, value = keras.Input((5, 6)), keras.Input((4, 6))
    mask = keras.Input((4,), dtype="bool")
    made = layers.Attention(score_mode="concat")([query, value], mask=[None, mask])
    return keras.Model([query, value, mask], made)


MODELS = {
    "images": images,
    "film": film,
    "sentences": sentences,
    "heads": heads,
    "words": words,
    "joined": joined,
}


LAYERS = {
    "LSTM": alone(
        lambda: layers.LSTM(4, activation="softsign", go_backwards=True, name="up"),
        SEQUENCE,
        (3, "mask"),
    ),
    "RNN": alone(
        lambda: layers.RNN(
            [layers.GRUCell(4), layers.LSTMCell(3, recurrent_dropout=0.2)], return_sequences=True
        ),
        SEQUENCE,
    ),
    "MultiHeadAttention": attention(
        lambda: layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False),
        return_attention_scores=True,
    ),
    "GroupQueryAttention": attention(
        lambda: layers.GroupQueryAttention(3, 4, 2), use_causal_mask=True
    ),
    "AdditiveAttention": alone(lambda: layers.AdditiveAttention(), (4, 6), (5, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back(name):
    keras.backend.clear_session()
    model = LAYERS[name]()
    keras.backend.clear_session()
    _, back, inputs = there_and_back.to_torch_and_back(model)
    assert f"layers.{name}" in back.source
    assert not there_and_back.keras_differences(model, back.model)
    ours, theirs = (there_and_back.keras_outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_layers_in_several_parts_come_back(name):
    keras.backend.clear_session()
    model = MODELS[name]()
    keras.backend.clear_session()
    _, back, inputs = there_and_back.to_torch_and_back(model)
    assert not there_and_back.keras_differences(model, back.model)
    kinds = [[type(layer) for layer in m.layers if layer.weights] for m in (model, back.model)]
    assert kinds[0] == kinds[1]
    ours, theirs = (there_and_back.keras_outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-6


@keras.saving.register_keras_serializable()
class Reader(keras.Model):
    """An author's class around such layers, which Keras named."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reader = layers.LSTM(4, activation="softsign", return_sequences=True)
        self.look = layers.MultiHeadAttention(2, 3, name="look")

    def call(self, x):
        x = self.reader(x)
        return self.look(x, x)


def test_layers_of_a_class_come_back():
    keras.backend.clear_session()
    model = Reader()
    model(np.ones((2, 3, 3), "float32"))
    keras.backend.clear_session()
    _, back, _ = there_and_back.to_torch_and_back(model, np.ones((2, 3, 3), "float32"))
    assert back.info["style"] == "layers"
    assert 'layers.MultiHeadAttention(2, 3, name="look")' in back.source
    assert 'layers.LSTM(4, activation="softsign", return_sequences=True)' in back.source
    assert not there_and_back.keras_differences(model, back.model)


@pytest.fixture
def folder(tmp_path):
    """A translation to PyTorch, on disk, of a model of one such layer."""
    keras.backend.clear_session()
    reader = layers.LSTM(4, activation="softsign", name="reader")
    diglot.translate(keras.Sequential([keras.Input(SEQUENCE), reader]), to="torch").save(tmp_path)
    return tmp_path


def back_from(folder):
    source = load_translated(folder, str(folder))
    return diglot.translate(source.model, source.example_inputs, dynamic=source.dynamic)


@pytest.mark.usefixtures("worker")
def test_a_folder_gives_the_layer_back(folder):
    back = back_from(folder)
    assert 'layers.LSTM(4, activation="softsign", name="reader")' in back.source
    assert diglot.prove(back, thorough=False, steps=1).verdict == "proven"


def test_code_that_was_edited_counts(folder):
    """A layer that was noted is that layer no more once another function stands in its place."""
    source = (folder / "model.py").read_text()
    before, _, after = source.rpartition("o * self.activation(c)")
    assert before
    (folder / "model.py").write_text(f"{before}o * torch.sigmoid(c){after}")
    assert "layers.LSTM" not in back_from(folder).source


def test_code_around_a_layer_that_was_edited_counts(tmp_path):
    keras.backend.clear_session()
    inputs = keras.Input(SEQUENCE)
    made = layers.Bidirectional(layers.GRU(4), merge_mode="ave", name="both")(inputs)
    diglot.translate(keras.Model(inputs, made), to="torch").save(tmp_path)
    assert 'merge_mode="ave"' in back_from(tmp_path).source
    source = (tmp_path / "model.py").read_text()
    assert ") / 2" in source
    (tmp_path / "model.py").write_text(source.replace(") / 2", ") / 3"))
    assert "merge_mode" not in back_from(tmp_path).source


def test_a_note_that_names_other_classes_is_no_layer(folder):
    """Nothing but Keras's own classes is made of what a file says."""
    path = folder / "weight_map.json"
    said = json.loads(path.read_text())
    said["keras"]["kept"][0]["layer"]["module"] = "subprocess"
    path.write_text(json.dumps(said))
    assert "layers.LSTM" not in back_from(folder).source
