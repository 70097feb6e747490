"""What the examples and tutorials of Keras and TensorFlow do: NumPy among tensors, masks, scores, tables."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers, ops

import diglot
from diglot.runtime import original

pytestmark = pytest.mark.xdist_group("keras_examples")


@pytest.fixture
def proven(worker):
    def prove(model, inputs=None):
        made = diglot.translate(model, inputs, to="torch")
        proof = diglot.prove(made, worker=worker)
        assert proof.verdict == "proven", str(proof) + proof.to_json()
        return made

    return prove


def test_the_transformer_of_the_tutorial(proven):
    import tutorial_transformer

    made = proven(*tutorial_transformer.make())
    source = made.source
    # Causal and not, each with a mask and without: in Keras an attention takes the mask from its inputs, and what is
    # added to one of them has none.
    assert source.count("class MultiHeadAttention") == 4 and "x = self.enc_layers[1](x)" in source
    assert "mask | mask" not in source and "einsum" not in source
    about = made.info["example_inputs"]
    assert [item["min"] for item in about] == [0, 0]  # masked steps are proven, too
    table = made.model.state_dict()["encoder.pos_embedding.pos_encoding"]
    assert table.shape == (1, 64, 12) and float(table[0, 0, -1]) == 1.0
    assert 'self.register_buffer("pos_encoding", torch.zeros(1, 64, 12))' in source


def test_masks_that_two_tensors_have_are_one(proven):
    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.first = layers.LSTM(6, return_sequences=True)
            self.second = layers.LSTM(6, return_sequences=True)
            self.add = layers.Add()

        def call(self, x):
            return self.add([self.first(x), self.second(x)])

    class Stack(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(9, 6, mask_zero=True)
            self.blocks = [Block() for _ in range(3)]

        def call(self, ids):
            x = self.embedding(ids)
            for i in range(len(self.blocks)):
                x = self.blocks[i](x)
            return x

    ids = np.random.default_rng(0).integers(1, 9, (2, 7))
    model = Stack()
    model(ids)
    source = proven(model, ids).source
    assert "for block in self.blocks:" in source  # the author's i is a number
    assert " | " not in source and source.count("class ") == 2


class StochasticDepth(layers.Layer):
    def __init__(self, drop_prob, **kwargs):
        super().__init__(**kwargs)
        self.drop_prob = drop_prob
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, x, training=None):
        if training:
            keep_prob = 1 - self.drop_prob
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            random_tensor = keep_prob + keras.random.uniform(shape, 0, 1, seed=self.seed_generator)
            random_tensor = ops.floor(random_tensor)
            return (x / keep_prob) * random_tensor
        return x


def test_drop_paths_whose_rates_are_numpys(proven):
    x = inputs = keras.Input((5, 7))
    for rate in np.linspace(0, 0.1, 2):
        x = StochasticDepth(rate)(layers.Dense(7)(x))
    source = proven(keras.Model(inputs, x)).source
    assert "DropPath(" in source and "torch.rand(" not in source


@pytest.mark.parametrize("options", [{}, {"dropout": 0.1}, {"return_attention_scores": True}])
def test_heads_wider_than_the_model_are_pytorchs_attention(proven, options):
    inputs = keras.Input((None, 6))
    given = dict(options)
    scores = given.pop("return_attention_scores", False)
    attention = layers.MultiHeadAttention(2, 6, **given)
    made = attention(inputs, inputs, return_attention_scores=scores)
    source = proven(keras.Model(inputs, made)).source
    assert ("F.scaled_dot_product_attention(" in source) != scores
    assert source.count("F.scaled_dot_product_attention(") < 2 and "einsum" not in source
    assert ".unflatten(-1, (2, 6)).transpose(1, 2)" in source and ".flatten(2)" in source


def test_scores_that_nobody_reads_are_not_computed(proven):
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(ids)
    made, _ = layers.MultiHeadAttention(2, 5, dropout=0.2)(x, x, return_attention_scores=True)
    source = proven(keras.Model(ids, made)).source
    assert "F.softmax" not in source and "F.scaled_dot_product_attention(" in source


def test_names_are_not_those_of_the_callers_statement():
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 6, mask_zero=True)(ids)
    x = layers.MultiHeadAttention(2, 6)(x, x)
    pelican = diglot.translate(keras.Model(ids, x), to="torch")
    assert "pelican" not in pelican.source and ", mask)" in pelican.source


class Nearest(layers.Layer):
    def __init__(self, count, size):
        super().__init__()
        self.codes = self.add_weight(shape=(size, count), initializer="random_normal")

    def call(self, x):
        distances = ops.sum(self.codes**2, axis=0) - 2 * ops.matmul(x, self.codes)
        chosen = ops.one_hot(ops.argmin(distances, axis=-1), self.codes.shape[1])
        found = ops.matmul(chosen, ops.transpose(self.codes))
        return x + ops.stop_gradient(found - x)


def test_the_nearest_code_is_found_in_float64(proven):
    """Keras's argmin asks for the sign bit of a float32, by its cast."""
    inputs = keras.Input((4, 5))
    proven(keras.Model(inputs, Nearest(13, 5)(inputs)))


class Eased(layers.Layer):
    def call(self, x):
        return x / (ops.convert_to_tensor(1e-3) + ops.sum(x, axis=-1, keepdims=True))


def test_a_plain_number_as_a_tensor_is_of_the_proofs_width(proven):
    inputs = keras.Input((5,))
    proven(keras.Model(inputs, Eased()(layers.Dense(4, activation="softmax")(inputs))))


class Masked(layers.Layer):
    """As PixelCNN's: a mask of NumPy's in double precision."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 20))
        self.mask = np.random.default_rng(0).normal(size=(shape[-1], 20))

    def call(self, x):
        return ops.matmul(x, self.kernel * self.mask)


def test_long_tables_are_in_the_weight_file(proven):
    inputs = keras.Input((17,))
    made = proven(keras.Model(inputs, Masked()(inputs)))
    assert made.model.state_dict()["mask"].shape == (17, 20)
    assert len(made.source.splitlines()) < 40


def test_one_list_of_inputs_has_names_for_its_parts(proven):
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            first, second = inputs
            return self.dense(first) + second

    rng = np.random.default_rng(0)
    values = (rng.normal(size=(2, 5)).astype("float32"), rng.normal(size=(2, 3)).astype("float32"))
    model = Two()
    model(values)
    made = proven(model, values)
    assert made.model(*map(torch.from_numpy, values)).shape == (2, 3)


def test_crops_of_several_axes_are_one_subscript():
    x = inputs = keras.Input((7, 6, 3))
    for filters in (9, 8):
        x = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu")(x)
    source = diglot.translate(keras.Model(inputs, x), to="torch").source
    assert source.count(":-1, :-1]") == 2 and "[..., :-1]" not in source


def test_an_lstm_over_images_is_a_layer_of_the_program_for_any_number_of_steps(proven):
    x = inputs = keras.Input((None, 6, 5, 2))
    x = layers.ConvLSTM2D(
        4, (3, 2), padding="same", return_sequences=True, activation="relu", name="first"
    )(x)
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True, name="second")(x)
    made = proven(keras.Model(inputs, layers.Conv3D(1, 3, padding="same")(x)))
    assert {"first.weight_ih", "second.weight_hh", "first.bias"} <= set(made.model.state_dict())
    assert 'ConvLSTM(2, 4, (3, 2), padding="same", activation=F.relu)' in made.source
    for steps in (1, 4, 9):
        assert made.model(torch.randn(2, steps, 6, 5, 2)).shape == (2, 1, steps, 6, 5)


def test_states_of_an_lstm_over_images_are_handed_on(proven):
    inputs = keras.Input((None, 6, 5, 2))
    y, h, c = layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True, return_state=True)(
        inputs
    )
    y = layers.ConvLSTM2D(4, 3, padding="same")(y, initial_state=[h, c])
    assert "(output, (h, c))" in proven(keras.Model(inputs, y)).source


class Distance(keras.regularizers.Regularizer):
    """As PointNet's: it holds a tensor of its own."""

    def __init__(self, size):
        self.eye = ops.eye(size)

    def __call__(self, x):
        return ops.sum(ops.square(x - self.eye))


def test_what_a_regulariser_holds_is_of_the_proofs_width(proven):
    inputs = keras.Input((5, 5))
    proven(keras.Model(inputs, layers.Dense(5, activity_regularizer=Distance(5))(inputs)))


def test_a_frozen_base_keeps_its_statistics_in_training(proven, worker):
    x = inputs = keras.Input((8, 9, 3))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(5, 3, name="conv")(x))
    base = keras.Model(inputs, x, name="base")
    base.trainable = False
    images = keras.Input((8, 9, 3))
    pooled = layers.GlobalAveragePooling2D()(base(images, training=False))
    model = keras.Model(images, layers.Dense(2, name="head")(pooled))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    made = proven(model)
    assert {"base.bn.weight", "base.bn.running_var"} <= set(made.model.state_dict())
    assert "self.bn = FrozenBatchNorm(5, eps=0.001)" in made.source
    trained = [n for n, p in made.model.named_parameters() if p.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    for style in ("layers", "functional"):
        back = diglot.translate(made.model.eval(), torch.randn(2, 3, 8, 9), style=style)
        assert re.search("trainable ?= ?False", back.source)
        proof = diglot.prove(back, worker=worker)
        assert proof.verdict == "proven", style + str(proof)


def test_a_frozen_batch_norm_of_trained_weights(proven):
    inputs = keras.Input((6, 5, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs), training=False)
    x = layers.BatchNormalization(center=False, trainable=False)(x)
    proven(keras.Model(inputs, x))


def test_a_batch_norm_leaves_masked_steps_out(proven):
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Masking(-1.0),
            layers.BatchNormalization(momentum=0.9),
            layers.GRU(4, return_sequences=True),
        ]
    )
    made = proven(model)
    assert "MaskedBatchNorm(3, eps=0.001)" in made.source


def test_recurrent_layers_with_other_functions_are_classes_of_the_program(proven):
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.Bidirectional(layers.LSTM(4, activation="relu", return_sequences=True)),
            layers.GRU(5, activation="softsign", return_sequences=True),
            layers.GRU(7, reset_after=False, return_sequences=True),
            layers.SimpleRNN(2, activation="elu", use_bias=False),
        ]
    )
    made = proven(model)
    assert "self.forward_layer = LSTM(3, 4, activation=F.relu)" in made.source
    assert "GRU(8, 5, activation=F.softsign)" in made.source
    assert "ResetBeforeGRU(5, 7)" in made.source
    assert "RNN(7, 2, bias=False, activation=F.elu)" in made.source
    assert "dropout" not in made.source


def test_a_gru_of_the_program_hands_on_its_state(proven):
    inputs = keras.Input((5, 3))
    made = layers.GRU(4, reset_after=False, return_sequences=True, return_state=True)(inputs)
    assert "output, h = self.gru" in proven(keras.Model(inputs, made)).source


def test_recurrent_layers_with_dropout_are_classes_of_the_program(proven):
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.LSTM(4, dropout=0.3, recurrent_dropout=0.1, return_sequences=True),
            layers.GRU(5, reset_after=False, recurrent_dropout=0.2),
        ]
    )
    made = proven(model)
    assert "LSTMWithDropout(3, 4, dropout=0.3, recurrent_dropout=0.1)" in made.source
    assert "GRUWithDropout(4, 5, reset_after=False, recurrent_dropout=0.2)" in made.source


class Mirrored(layers.Layer):
    """As CycleGAN's and StyleGAN's padding, and some that PyTorch has no one function for."""

    def call(self, x):
        around = ops.pad(x, [[0, 0], [1, 2], [3, 1], [0, 0]], mode="reflect")[:, 2:-1, 1:-3]
        below = ops.pad(x, [[0, 0], [0, 0], [2, 1], [0, 0]], mode="reflect")[:, :, 3:]
        return around + below + ops.pad(x, [[0, 0], [1, 2], [0, 0], [0, 0]], "symmetric")[:, 3:]


def test_mirrored_borders_are_padding_for_images_of_any_size(proven):
    inputs = keras.Input((None, None, 3))
    source = proven(keras.Model(inputs, Mirrored()(layers.Conv2D(3, 2)(inputs)))).source
    assert 'F.pad(x, (3, 1, 1, 2), mode="reflect")[:, :, 2:-1, 1:-3]' in source
    assert "buffer" not in source


class Tree(layers.Layer):
    """As a decision forest's: each tree sees other features, under a mask."""

    def __init__(self, generator, **kwargs):
        super().__init__(**kwargs)
        self.features = generator.choice(9, 3, replace=False)
        self.mask = ops.convert_to_tensor(generator.normal(size=(9, 4)))

    def call(self, x):
        seen = ops.sum(ops.take(x, self.features, axis=-1), axis=-1, keepdims=True)
        return seen + ops.matmul(x, ops.cast(self.mask, x.dtype))


def test_tables_in_which_instances_differ_are_arguments_or_weights(proven):
    inputs, generator = keras.Input((9,)), np.random.default_rng(3)
    trees = [Tree(generator, name=f"tree_{i}")(inputs) for i in range(3)]
    made = proven(keras.Model(inputs, layers.Average()(trees)))
    assert "self.tree_1 = Tree(features=[" in made.source
    assert made.source.count("class ") == 2 and "double()" not in made.source
    assert made.model.state_dict()["tree_1.mask"].shape == (9, 4)


class Moments(layers.Layer):
    """As StyleGAN's and CycleGAN's normalisations in TensorFlow: a mean that is detached, a mean of squares."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:])
        self.offset = self.add_weight(shape=shape[-1:])

    def call(self, x):
        mean, variance = tf.nn.moments(x, axes=[1, 2], keepdims=True)
        x = self.scale * (x - mean) * tf.math.rsqrt(variance + 1e-3)
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        return self.offset + (x - mean) / tf.sqrt(variance + 1e-3)


def test_moments_are_means_and_variances(proven):
    inputs = keras.Input((7, 6, 3))
    source = proven(keras.Model(inputs, Moments()(layers.Conv2D(4, 2)(inputs)))).source
    assert "torch.var(x, dim=(2, 3), correction=0, keepdim=True) + 0.001" in source
    assert "torch.var(x, dim=(0, 2, 3), correction=0) + 0.001" in source
    assert "self.scale[:, None, None]" in source and "detach" not in source


class Tower(layers.Layer):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.steps = [layers.Dense(units), layers.Dense(units)]

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


def test_layers_that_keras_counts_have_their_names_in_another_process(tmp_path):
    for _ in range(2):  # as in a notebook: the last is tower_1, which no config says
        inputs = keras.Input((7,))
        inner = keras.Model(inputs, layers.Dense(2)(Tower(3)(inputs)))
    model = keras.Model(inputs, inner(inputs))
    names = [layer.name for layer in [*model.layers, *inner.layers]]
    record = original.describe(model, np.zeros((1, 7), "float32"))
    original.write(model, record, tmp_path)
    keras.backend.clear_session()  # which counts anew, as another process does
    rebuilt = original.build(tmp_path, record)
    assert [layer.name for layer in [*rebuilt.layers, *rebuilt.layers[-1].layers]] == names
