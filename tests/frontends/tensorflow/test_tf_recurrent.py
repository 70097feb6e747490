"""Loops over time: the recurrent layers of Keras, as TensorFlow writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support_tf import agrees, captures, layers, weights_return

from diglot.errors import Unsupported
from diglot.frontends.tensorflow_graph import mirror_of, module_of, read_saved_model

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


def text_model():
    k = keras.layers
    x = tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = k.Embedding(20, 8, mask_zero=True, name="embedding")(x)
    x = k.Bidirectional(k.LSTM(6, return_sequences=True, name="lstm"), name="both")(x)
    x = k.GRU(5, return_sequences=True, go_backwards=True, name="gru")(x)
    x = k.SimpleRNN(4, name="last")(x)
    return keras.Model(tokens, k.Dense(3, name="head")(x), name="text")


def test_text_model_with_masks(tmp_path):
    model = text_model()
    rng = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.4)
    model.export(str(tmp_path / "model"), verbose=False)
    mirror = mirror_of(read_saved_model(tmp_path / "model"))
    assert layers(mirror) == {
        "embedding": "Embedding",
        "both.forward_lstm": "LSTM",
        "both.backward_lstm": "LSTM",
        "gru": "GRU",
        "last": "RNN",
        "head": "Linear",
    }
    for length in (4, 7):
        ids = torch.randint(0, 4, (3, length), generator=torch.Generator().manual_seed(length))
        agrees(mirror, model(ids.numpy()), [ids])
    weights_return(mirror, {w.path: w.numpy() for w in model.weights if "seed" not in w.path})
    captures(mirror)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize(
    "options", [{"use_bias": False}, {"return_state": True}, {"return_sequences": True}]
)
def test_layer(kind, options):
    layer = getattr(keras.layers, kind)(4, bias_initializer="random_normal", **options)
    layer.build((None, None, 3))
    x = torch.randn(2, 5, 3)
    mirror = module_of(lambda x: tf.stack(layer(x)) if "return_state" in options else layer(x), [x])
    expected = layer(x.numpy())
    agrees(mirror, tf.stack(expected) if "return_state" in options else expected, [x])
    assert set(layers(mirror).values()) == {kind.replace("Simple", "")}


def test_a_cell_of_another_kind_is_not_taken_for_one():
    """A loop that differs in one number from an LSTM's is no LSTM: unrolled, with a fixed length."""
    layer = keras.layers.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True)
    layer.build((None, 5, 3))
    x = torch.randn(2, 5, 3)
    mirror = module_of(layer, [x])
    assert "LSTM" not in layers(mirror).values()
    agrees(mirror, layer(x.numpy()), [x])


def test_a_cell_of_another_kind_with_a_dynamic_length():
    layer = keras.layers.LSTM(4, activation="softsign")
    specs = [tf.TensorSpec([None, None, 3], tf.float32)]
    concrete = tf.function(layer).get_concrete_function(*specs)
    from diglot.frontends.tensorflow_graph import read_concrete

    with pytest.raises(Unsupported, match=r"tf\.while_loop.*dynamic size"):
        mirror_of(read_concrete(concrete))
