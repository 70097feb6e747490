"""Whole Keras models and their mirrors: Functional, Sequential, nested, shared and the author's own classes."""

from __future__ import annotations

import keras
import mirrors
import numpy as np
import pytest
import torch
from keras import layers, ops

import diglot
from diglot.errors import DataDependent, Unsupported
from diglot.frontends.keras_model import mirror


@pytest.fixture(autouse=True)
def in_double():
    with mirrors.precision("float64"):
        yield


def floats(*shape):
    return np.random.default_rng(3).normal(size=shape)


def ids(*shape, below=9):
    return np.random.default_rng(3).integers(0, below, shape).astype("int32")


def check(model, *values, exported=True, **options):
    given = values[0] if len(values) == 1 else list(values)
    if not model.built:
        model(given)
    mirrors.randomise(model)
    made = mirrors.check(model, list(values), given, **options)
    if exported:
        export(made)
    return made


def export(made):
    made.module.train()
    inputs = made.example_inputs
    args, kwargs = (inputs if isinstance(inputs, tuple) else (inputs,)), {}
    if isinstance(inputs, dict):
        args, kwargs = (), inputs
    return torch.export.export(made.module, args, kwargs, strict=False)


def image_model():
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(2.0)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem.conv")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Activation("relu")(x)
    shortcut = x
    x = layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x)
    x = layers.Add()([x, shortcut])
    x = ops.concatenate([x, shortcut * 2], axis=-1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="small_net")


def test_a_functional_model_keeps_its_layers_names():
    made = check(image_model(), floats(2, 16, 16, 3), tolerance=1e-6)
    assert type(made.module).__name__ == "SmallNet"
    assert {"stem_conv.weight", "stem_bn.running_mean", "head.bias"} <= set(
        made.module.state_dict()
    )
    assert {e.target for e in made.entries} >= {"stem.conv.kernel", "head.kernel"}


def test_a_sequential_model_with_automatic_names_has_indices():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="tanh"),
            layers.Dropout(0.0),
            layers.Dense(2, activation="softmax"),
        ]
    )
    made = check(model, floats(2, 8, 8, 1))
    assert isinstance(made.module, torch.nn.Sequential)
    assert [type(m).__name__ for m in made.module] == (
        "Conv2d ReLU MaxPool2d Flatten Linear Tanh Dropout Linear Softmax".split()
    )


def test_a_sequential_model_with_names_keeps_them():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")]
    )
    made = check(model, floats(2, 4))
    assert set(made.module.state_dict()) == {"a.weight", "a.bias", "b.weight", "b.bias"}


class Block(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.LayerNormalization()
        self.hidden = [layers.Dense(width, activation="gelu") for _ in range(2)]
        self.drop = layers.Dropout(0.0)

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        self.frozen = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.out = layers.Dense(shape[-1])
        self.norm.build(shape)
        width = shape[-1]
        for dense in self.hidden:
            dense.build((*shape[:-1], width))
            width = dense.units
        self.out.build((*shape[:-1], width))
        self.built = True

    def call(self, x, training=None):
        y = self.norm(x)
        for dense in self.hidden:
            y = dense(y)
        y = self.drop(y, training=training)
        return x * self.scale + self.out(y) * ops.softmax(self.scale) + self.frozen


class Net(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.embed = layers.Embedding(9, 6)
        self.blocks = [Block(7) for _ in range(3)]

    def call(self, tokens, training=None):
        x = self.embed(tokens)
        batch, length = ops.shape(tokens)[0], ops.shape(tokens)[1]
        x = x + ops.reshape(ops.cast(ops.arange(length), x.dtype), (1, length, 1)) / 10
        for block in self.blocks:
            x = block(x, training=training)
        x = ops.reshape(x, (batch, length, 6))
        return {
            "logits": ops.matmul(x, ops.transpose(self.embed.embeddings)),
            "mean": ops.mean(x, axis=1),
        }


def test_a_subclassed_model_runs_its_own_call():
    made = check(Net(), ids(2, 5), tolerance=1e-6)
    names = set(made.module.state_dict())
    assert {
        "embed.weight",
        "blocks.2.scale",
        "blocks.0.hidden.1.weight",
        "blocks.1.frozen",
    } <= names
    assert made.names == ["tokens"]
    assert type(made.module.blocks[0]) is type(made.module.blocks[1])
    assert type(made.module.blocks[0]).source_class is Block
    assert "frozen" in dict(made.module.blocks[0].named_buffers())


def test_lengths_stay_dynamic():
    model = Net()
    model(ids(2, 5))
    made = mirror(model, ids(2, 5))
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        made.module, (made.example_inputs,), dynamic_shapes=(sizes,), strict=False
    )
    longer = ids(3, 11)
    theirs = model(longer)["logits"].numpy()
    ours = program.module()(torch.from_numpy(longer.astype("int64")))["logits"].detach().numpy()
    assert np.allclose(ours, theirs, atol=1e-6)


def test_nested_models_shared_layers_and_several_inputs():
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    shared = layers.Dense(5, name="shared")
    inner_in = keras.Input((5,))
    inner = keras.Model(inner_in, layers.Dense(4, name="output")(inner_in), name="inner")
    tower = keras.Sequential([layers.Dense(4), layers.BatchNormalization()], name="tower")
    a, b = shared(left), shared(right)
    joined = layers.Concatenate()([inner(a), inner(b), tower(a - b)])
    model = keras.Model([left, right], [joined, b])
    made = check(model, floats(4, 6), floats(4, 6) + 1)
    assert made.names == ["left", "right"]
    assert {"inner.output.weight", "tower.0.weight", "tower.1.running_var"} <= set(
        made.module.state_dict()
    )
    assert "inner.output.kernel" in {e.target for e in made.entries}


def test_inputs_by_name():
    inputs = {
        "ids": keras.Input((5,), dtype="int32", name="ids"),
        "gate": keras.Input((4,), name="gate"),
    }
    x = layers.Embedding(9, 4)(inputs["ids"])
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x) * inputs["gate"])
    made = mirror(model)
    assert set(made.example_inputs) == {"ids", "gate"}
    theirs = model({k: v.numpy() for k, v in made.example_inputs.items()})
    assert np.allclose(made.module(**made.example_inputs).detach().numpy(), theirs, atol=1e-6)


def test_masks_are_carried_through_layers_and_models():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    inner_in = keras.Input((6, 4))
    inner = keras.Model(inner_in, layers.Dense(4)(layers.Dropout(0.0)(inner_in)))
    x = inner(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x))
    values = ids(3, 6)
    values[:, 0] = 1
    values[0, 4:] = 0
    check(model, values)


class Forced(keras.Model):
    """A batch norm that never trains, and a dropout that is always on."""

    def __init__(self, rate):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.drop = layers.Dropout(rate)
        self.drop_maps = layers.SpatialDropout1D(rate)

    def call(self, x, training=None):
        x = self.drop(self.norm(x, training=False), training=True)
        return self.drop_maps(x[:, None], training=True)[:, 0]


def test_a_mode_that_the_author_asks_for_holds():
    check(Forced(0.0), floats(5, 4))
    model = Forced(0.5)
    model(floats(5, 4))
    drawn = mirror(model, floats(5, 4)).module(torch.ones(50, 4, dtype=torch.float64))
    assert 110 < int((drawn == 0).sum()) < 180


def test_a_functional_models_layers_follow_the_models_mode():
    """As in Keras, where the mode that `fit` hands on outweighs the one that a layer was first called with."""
    inputs = keras.Input((4,))
    base_in = keras.Input((4,))
    base = keras.Model(base_in, layers.BatchNormalization()(base_in))
    check(keras.Model(inputs, base(inputs, training=False)), floats(5, 4))


def test_everything_that_cannot_be_translated_is_named_at_once():
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda t: t * 2, name="doubled")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Lambda(lambda t: t, name="same")(x)))
    with pytest.raises(Unsupported) as caught:
        mirror(model)
    assert [p.module for p in caught.value.problems] == ["doubled", "same"]
    made = mirror(model, trusted=True)
    values = floats(2, 4)
    assert np.allclose(made.module(torch.from_numpy(values)).detach().numpy(), model(values))


def test_a_branch_on_values_is_refused_by_its_line():
    class Branching(keras.Model):
        def call(self, x):
            return x if ops.sum(x) > 0 else -x

    model = Branching()
    model.built = True
    with pytest.raises(DataDependent) as caught:
        mirror(model, floats(2, 3)).module(torch.ones(2, 3))
    assert "test_keras_models.py" in caught.value.where


def test_images_for_a_model_that_rescales_them():
    """Example inputs are as large as the model's first layer expects."""
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Flatten()])
    assert 200 < float(mirror(model).example_inputs.max()) <= 255


def test_keras_is_as_before_after_a_mirror_has_run_or_failed():
    from keras.src import backend

    before = (keras.Layer.__call__, backend.numpy, backend.cast, keras.Operation.symbolic_call)
    test_a_branch_on_values_is_refused_by_its_line()
    mirror(image_model()).module(torch.ones(1, 16, 16, 3, dtype=torch.float64))
    assert before == (
        keras.Layer.__call__,
        backend.numpy,
        backend.cast,
        keras.Operation.symbolic_call,
    )
    assert float(ops.sum(ops.ones(3))) == 3


def test_branches_come_one_after_the_other():
    """Keras goes through all branches at once, by depth."""
    left, right = keras.Input((6,)), keras.Input((5,))
    x, y = left, right
    for number in range(2):
        x = keras.layers.Dense(4 + number, name=f"left{number}")(x)
        y = keras.layers.Dense(7 + number, name=f"right{number}")(y)
    model = keras.Model([left, right], keras.layers.Concatenate()([x, y]))
    source = diglot.translate(model, to="torch").source
    places = [source.index(f"self.{name} =") for name in ("left0", "left1", "right0", "right1")]
    assert places == sorted(places)
