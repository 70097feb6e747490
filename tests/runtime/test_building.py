"""Building with fewer traces: the same model as Keras builds by itself."""

import keras
import pytest
from keras import layers

from diglot.runtime.building import traced_once


class Block(layers.Layer):
    traces = 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(3)
        self.norm = layers.LayerNormalization()

    def call(self, x):
        Block.traces += 1
        return self.norm(x + self.dense(x))


class Encoder(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [Block() for _ in range(2)]

    def call(self, x, scale=None):
        for block in self.blocks:
            x = block(x)
        return x


class Outer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = Encoder()
        self.head = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)])

    def call(self, x):
        return self.head(self.encoder(x, scale=x))


def build():
    keras.utils.clear_session()
    Block.traces = 0
    inputs = keras.Input((None, 3))
    return keras.Model(inputs, Outer()(inputs))


def described(model):
    """All that Keras knows about the layers and the variables after building."""
    return {
        "config": model.get_config(),
        "variables": [(v.path, tuple(v.shape), v.trainable) for v in model.variables],
        "layers": [
            (layer.path, layer.built, layer._tracker.locked, layer.get_build_config())
            for layer in model._flatten_layers()
        ],
    }


def test_the_model_is_the_same_and_made_with_fewer_traces():
    usual = described(build())
    usual_traces = Block.traces
    with traced_once():
        quick = described(build())
    assert quick == usual
    assert Block.traces == 2 * 2 < usual_traces


def test_keras_is_itself_again_also_after_an_error():
    before = layers.Layer._maybe_build, layers.Layer.__call__
    with pytest.raises(ZeroDivisionError), traced_once():
        raise ZeroDivisionError
    assert (layers.Layer._maybe_build, layers.Layer.__call__) == before
