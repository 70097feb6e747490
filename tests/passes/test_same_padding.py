"""Padding as TensorFlow's "same" has it, before windows that stride: Keras's own argument, whoever wrote it out."""

from __future__ import annotations

import keras
import pytest
import torch
import torch.nn.functional as F
from keras import layers
from torch import nn

import diglot
from diglot.carried.same_padding import pad_same as carried

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


def pad_same(x, window, stride, value=0.0):
    """Another text above, the same function."""
    pads = []
    for axis in range(-1, -1 - len(window), -1):
        total = max(window[axis] - 1 - (x.shape[axis] - 1) % stride[axis], 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


class Padded(nn.Module):
    def __init__(self, pads, stride=2):
        super().__init__()
        self.pads = pads
        self.conv = nn.Conv2d(3, 4, 3, stride=stride)

    def forward(self, x):
        return self.conv(F.pad(x, self.pads))


class Shared(nn.Module):
    """One padding for two convolutions, and one with another value."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, stride=2)
        self.b = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        padded = pad_same(x, (3, 3), (2, 2))
        pooled = F.max_pool2d(pad_same(x[:, :1], (3, 3), (2, 2), -1.0), 3, 2)
        return self.a(padded) + self.b(padded) + pooled.mean()


class Inner(nn.Module):
    """Its author's convolution pads nothing; whoever calls it does, or does not."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, stride=2)

    def forward(self, x):
        return self.conv(x).relu()


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = Inner()
        self.b = Inner()

    def forward(self, x):
        return self.b(self.a(F.pad(x, (0, 1, 0, 1))))


@pytest.mark.parametrize("size", [None, 33], ids=["open", "fixed"])
def test_strides_come_back_as_keras_has_them(size, tmp_path):
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.DepthwiseConv2D(5, strides=2, padding="same")(x)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    diglot.translate(model, to="torch").save(tmp_path)
    back = diglot.translate(tmp_path, to="keras")
    assert back.source.count('padding="same"') == 4
    assert "ops.pad" not in back.source and "ops.shape" not in back.source
    assert diglot.prove(back)


def test_fixed_sizes_of_a_pooling_are_known_in_a_functional_model():
    inputs = keras.Input((17, 20, 3))
    x = layers.AveragePooling2D(3, 2, padding="same")(layers.Conv2D(4, 1)(inputs))
    wide = diglot.translate(keras.Model(inputs, x), to="torch").source
    assert "pad_same" not in wide and "torch.ones_like" in wide  # 20: nothing before, one behind
    inputs = keras.Input((17, 21, 3))
    x = layers.AveragePooling2D(3, 2, padding="same")(layers.Conv2D(4, 1)(inputs))
    made = diglot.translate(keras.Model(inputs, x), to="torch")
    assert "3, stride=2, padding=1, count_include_pad=False" in made.source
    assert diglot.prove(made)


@pytest.mark.parametrize(
    ("pads", "stride", "same"),
    [
        ((0, 1, 0, 1), 2, True),
        ((1, 0, 1, 0), 2, False),  # the odd one first, as nobody's "same" has it
        ((0, 2, 0, 2), 2, False),
        ((1, 1, 1, 1), 1, False),  # as wide on either side: the author's own
        ((0, 1, 0, 1), 3, True),
        ((0, 1, 0, 1), 4, False),  # 20 pixels in steps of 4: "same" adds nothing
    ],
)
def test_only_what_same_adds_at_this_size_is_same(pads, stride, same):
    module = Padded(pads, stride)
    made = diglot.translate(module, torch.randn(2, 3, 20, 26), dynamic={"x": {0: "batch"}})
    assert ('padding="same"' in made.source) is same
    assert ("ops.pad(" in made.source) is not same
    assert diglot.prove(made)


def test_at_open_sizes_a_number_is_not_same():
    made = diglot.translate(
        Padded((0, 1, 0, 1)), torch.randn(2, 3, 20, 26), dynamic={"x": {2: "h", 3: "w"}}
    )
    assert 'padding="same"' not in made.source
    assert diglot.prove(made)


def test_padding_that_two_layers_read_is_a_function():
    made = diglot.translate(
        Shared(), torch.randn(2, 3, 11, 14), dynamic={"x": {0: "b", 2: "h", 3: "w"}}
    )
    assert made.source.count("padded_same(") == 3  # the function and two calls
    assert diglot.prove(made)


def test_a_block_that_is_padded_from_outside_stays_one_class():
    made = diglot.translate(Outer(), torch.randn(2, 3, 20, 26), dynamic={"x": {0: "batch"}})
    assert 'padding="same"' not in made.source and made.source.count("class Inner") == 1
    assert diglot.prove(made)


def test_another_function_of_that_name_is_captured_as_it_is():
    from diglot.frontends import same_padding

    class Own(nn.Module):
        def forward(self, x):
            return pad_same(x, (3, 3), (2, 2))

    names = Own.forward.__globals__
    before = names["pad_same"]
    with same_padding.as_one_op(Own()):
        assert names["pad_same"] is not before and names["carried"] is carried
    assert names["pad_same"] is before

    def other(x, window, stride, value=0.0):
        return F.pad(x, [1, 0] * len(window), value=value)

    names["pad_same"] = other
    try:
        with same_padding.as_one_op(Own()):
            assert names["pad_same"] is other
    finally:
        names["pad_same"] = before
