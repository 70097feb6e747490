"""Zeros that Keras puts around an image in a layer of its own are a pooling's own padding."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


@pytest.mark.parametrize("activation", ["relu", "relu6", None])
def test_zeros_before_a_maximum_are_its_padding_where_nothing_is_below_zero(activation):
    inputs = keras.Input((13, 18, 3))
    x = layers.Conv2D(4, 3, activation=activation)(inputs)
    x = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
    translation = diglot.translate(keras.Model(inputs, x), to="torch")
    if activation is None:
        assert "F.pad(" in translation.source
    else:
        assert f"F.max_pool2d(F.{activation}(" in translation.source
        assert "3, stride=2, padding=1)" in translation.source and "pad(" not in translation.source
    assert diglot.prove(translation)
