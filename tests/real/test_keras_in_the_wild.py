"""What trained Keras models of other people's say, and how: old files, ids called float32, long crops, saturation."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

import diglot
from diglot.parity.last_places import LastPlaces

pytestmark = pytest.mark.xdist_group("keras_in_the_wild")


@pytest.fixture
def proven(worker):
    def prove(model):
        made = diglot.translate(model, to="torch")
        proof = diglot.prove(made, worker=worker)
        assert proof.verdict == "proven", str(proof) + proof.to_json()
        return made

    return prove


def test_a_list_of_one_result_is_that_result():
    """As Keras 2 saved models: ``Model(x, [y])``; whoever calls it is given ``y``."""
    inputs = keras.Input((6,))
    made = diglot.translate(keras.Model(inputs, [layers.Dense(5)(inputs)]), to="torch")
    assert made.model(torch.randn(2, 6)).shape == (2, 5)


def test_ids_that_are_declared_as_floats_are_ids(proven):
    words = keras.Input((9,))
    x = layers.Embedding(50, 8, mask_zero=True)(words)
    made = proven(keras.Model(words, layers.Dense(2)(layers.LSTM(6)(x))))
    assert made.weight_map.inputs[0].dtype == "int64"
    assert "inputs.long()" not in made.source
    sequential = keras.Sequential([keras.Input((9,)), layers.Embedding(50, 8), layers.Flatten()])
    assert diglot.translate(sequential, to="torch").weight_map.inputs[0].dtype == "int64"


def test_ids_that_something_else_reads_too_stay_floats():
    words = keras.Input((9,))
    x = layers.Flatten()(layers.Embedding(50, 8)(words))
    made = diglot.translate(keras.Model(words, layers.Concatenate()([x, words])), to="torch")
    assert made.weight_map.inputs[0].dtype == "float32"


def test_an_open_length_is_as_long_as_the_model_needs_it(proven):
    x = inputs = keras.Input((None, 4))
    for _ in range(2):
        x = layers.add([x, layers.Conv1D(4, 3, padding="same")(x)])
    made = proven(keras.Model(inputs, layers.Cropping1D(50)(x)))
    assert "[:, :, 50:-50]" in made.source
    images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 41)(images)
    assert diglot.translate(keras.Model(images, x), to="torch").source.count("nn.Conv2d") == 1


def test_a_size_that_no_length_can_mend_is_said():
    inputs = keras.Input((None, 5, 3))
    x = layers.Reshape((-1, 4))(layers.Conv2D(2, 3)(inputs))
    with pytest.raises(diglot.DiglotError):
        diglot.translate(keras.Model(inputs, layers.Dot(1)([x, inputs])), to="torch")


def test_bilinear_upsampling_is_proven_in_float64(proven):
    inputs = keras.Input((6, 9, 3))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.UpSampling2D((2, 3), interpolation="bilinear")(x)
    made = proven(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    assert "mode='bilinear'" in made.source or 'mode="bilinear"' in made.source


def test_sequences_that_come_channels_first_go_so(proven):
    inputs = keras.Input((20, 4))
    x = layers.Conv1D(8, 3, padding="same")(inputs)
    made = proven(keras.Model(inputs, layers.Conv1D(3, 1, activation="softmax")(x)))
    assert "transpose" not in made.source and "F.softmax(" in made.source
    assert made.weight_map.outputs[0].perm == (0, 2, 1)
    # A recurrent layer gives its results as it takes its inputs.
    made = diglot.translate(
        keras.Model(inputs, layers.LSTM(3, return_sequences=True)(x)), to="torch"
    )
    assert made.weight_map.outputs[0].perm is None
    same = diglot.translate(keras.Model(inputs, x), to="torch", io_layout="same")
    assert same.weight_map.outputs[0].perm is None


def test_blocks_with_and_without_dilation_are_one_class():
    x = inputs = keras.Input((30, 8))
    for dilation in (1, 1, 4, 4):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.add([layers.Conv1D(8, 5, padding="same", dilation_rate=dilation)(y), x])
        x = layers.Conv1D(8, 1)(x) if dilation == 1 else x
    source = diglot.translate(keras.Model(inputs, x), to="torch").source
    assert source.count("class ") == 2 and "dilation=dilation" in source


def test_a_sequence_that_needs_a_class_calls_its_layers_by_what_they_are():
    model = keras.Sequential(
        [
            keras.Input((9,)),
            layers.Embedding(50, 8, mask_zero=True),
            layers.LSTM(5),
            layers.Dense(4),
            layers.Dense(3),
        ]
    )
    names = set(diglot.translate(model, to="torch").model.state_dict())
    assert {"embedding.weight", "lstm.weight_hh_l0", "linear_1.bias", "linear_2.bias"} <= names


def test_a_saturated_classifier_is_told_from_a_wrong_one(proven):
    """Near 1 a sigmoid's gradient has few digits, which no nudge of its input shows."""
    inputs = keras.Input((7,))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dense(5)(inputs)))
    model.layers[-1].set_weights([np.full((5, 1), 0.01), np.array([18.3])])
    proven(model)


def test_rounding_moves_what_it_flattens():
    x = torch.tensor([18.3, 0.3], dtype=torch.float64, requires_grad=True)

    def gradient():
        return torch.autograd.grad(torch.sigmoid(x).sum(), x)[0]

    exact = gradient()
    with LastPlaces(0):
        moved = gradient()
    error = ((moved - exact) / exact).abs()
    assert 1e-9 < error[0] < 1e-6 and error[1] < 1e-14
    mask = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with LastPlaces(0):
        assert torch.equal(1.0 - mask, torch.tensor([1.0, 0.0], dtype=torch.float64))
