"""A Keras optimizer that goes on in PyTorch: trained in Keras, then ten steps in both, in float64."""

from __future__ import annotations

import keras
import mirrors
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers
from keras.optimizers import schedules

import diglot
from diglot.errors import BadInput, UsageError

#: All numbers have few bits: Keras computes with settings that are rounded to 32.
BETAS = {"beta_1": 0.875, "beta_2": 0.96875, "epsilon": 2**-10}
RHO = {"rho": 0.875, "epsilon": 2**-10}
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.125),
    "momentum": lambda: keras.optimizers.SGD(0.0625, momentum=0.875),
    "nesterov": lambda: keras.optimizers.SGD(
        0.0625, momentum=0.875, nesterov=True, weight_decay=0.03125
    ),
    "scheduled": lambda: keras.optimizers.SGD(
        schedules.PiecewiseConstantDecay([5, 15, 17], [0.125, 0.25, 0.0625, 0.125]), momentum=0.75
    ),
    "adam": lambda: keras.optimizers.Adam(0.03125, **BETAS),
    "amsgrad": lambda: keras.optimizers.Adam(0.03125, **BETAS, amsgrad=True, global_clipnorm=0.25),
    "warm": lambda: keras.optimizers.Adam(
        schedules.PiecewiseConstantDecay([4, 14], [0.015625, 0.03125, 0.0625]), **BETAS
    ),
    "adamw": lambda: keras.optimizers.AdamW(0.03125, **BETAS, weight_decay=0.125, clipnorm=0.125),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.015625, **RHO, clipvalue=0.03125),
    "centered": lambda: keras.optimizers.RMSprop(0.015625, **RHO, momentum=0.75, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.125, initial_accumulator_value=0.125),
    "adadelta": lambda: keras.optimizers.Adadelta(0.5, **RHO),
    "nadam": lambda: keras.optimizers.Nadam(0.03125, **BETAS),
}


@pytest.fixture(autouse=True, scope="module")
def double():
    with mirrors.precision("float64"):
        yield


@pytest.fixture(scope="module")
def pair(double):
    """A Keras model, its translation, and the weights that both begin with."""
    model = classifier()
    return model, diglot.translate(model, to="torch", io_layout="same"), model.get_weights()


def classifier():
    inputs = keras.Input((9, 7))
    x = layers.Conv1D(6, 3, activation="tanh")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.LSTM(5)(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def batches():
    rng = np.random.default_rng(3)
    return rng.normal(size=(30, 8, 9, 7)), rng.integers(0, 3, (30, 8))


def keras_steps(model, gradients, rows, labels):
    for images, targets in zip(rows, labels, strict=True):
        model.optimizer.apply(gradients(images, targets), model.trainable_weights)


@pytest.fixture(scope="module")
def keras_gradients(pair):
    """A function of images and labels, traced once for all optimizers: ``fit`` would trace it for each."""
    model, _, _ = pair
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def gradients(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        return tape.gradient(value, [weight.value for weight in model.trainable_weights])

    return gradients


def torch_steps(network, optimizer, rows, labels):
    network.train()
    for images, targets in zip(rows, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(
            network(torch.from_numpy(images)), torch.from_numpy(targets)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def apart(translation, model):
    """How far the weights are; PyTorch's running variance is that of a sample, which is a false friend."""
    wanted = translation.weight_map.variables(model)
    wanted = {n: v for n, v in wanted.items() if not n.endswith("moving_variance")}
    found = translation.weight_map.apply(translation.state(translation.model))
    return max(float(np.abs(found[n] - v.numpy()).max()) for n, v in wanted.items())


@pytest.mark.parametrize(("name", "before"), [*((n, 12) for n in OPTIMIZERS), ("adam", 0)])
def test_the_next_ten_steps_are_the_same(name, before, pair, keras_gradients):
    model, translation, weights = pair
    model.set_weights(weights)
    model.compile(OPTIMIZERS[name]())
    if name == "adamw":
        model.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
    rows, labels = batches()
    keras_steps(model, keras_gradients, rows[:before], labels[:before])
    translation.pull()
    start = apart(translation, model)
    torch_steps(translation.model, translation.optimizer(), rows[20:], labels[20:])
    assert start == 0 and apart(translation, model) > 1e-4
    keras_steps(model, keras_gradients, rows[20:], labels[20:])
    # Nadam's own 0.96 has 32 bits in Keras.
    assert apart(translation, model) < (1e-6 if name == "nadam" else 1e-10)


def test_a_rate_that_is_set_in_pytorch_holds(pair):
    model, translation, _ = pair
    model.compile(keras.optimizers.SGD(0.125, momentum=0.875), "mse")
    optimizer = translation.optimizer()
    optimizer.param_groups[0]["lr"] = 0.0
    rows, labels = batches()
    before = {n: v.clone() for n, v in translation.model.named_parameters()}
    torch_steps(translation.model, optimizer, rows[:2], labels[:2])
    assert all(torch.equal(v, before[n]) for n, v in translation.model.named_parameters())


def test_what_has_no_equal_is_named():
    model = classifier()
    model.layers[-1].kernel.constraint = keras.constraints.UnitNorm()
    model.compile(keras.optimizers.Lion(use_ema=True), "mse")
    translation = diglot.translate(model, to="torch")
    with pytest.raises(BadInput, match=r"(?s)Lion.*use_ema=True.*constraint UnitNorm"):
        translation.optimizer()


def test_without_an_optimizer():
    model = classifier()
    translation = diglot.translate(model, to="torch")
    with pytest.raises(UsageError, match="not compiled"):
        translation.optimizer()
    assert isinstance(translation.optimizer(keras.optimizers.Adam()), torch.optim.AdamW)
    with pytest.raises(UsageError, match="from Keras to PyTorch"):
        diglot.translate(torch.nn.Linear(3, 2), torch.randn(4, 3)).optimizer()
