"""Every record of a Keras layer: the mirror is the layer, in both modes, with its gradients and weights."""

from __future__ import annotations

import keras
import mirrors
import numpy as np
import pytest

from diglot.frontends import keras_layers

keras_layers.load()
RECORDS = {**keras_layers.TABLE, **keras_layers.CARRIED}
BY_NAME = {n: r.samples for n, r in RECORDS.items()} | keras_layers.OWN_CALL
SAMPLES = [(name, index) for name in sorted(BY_NAME) for index in range(len(BY_NAME[name]))]


@pytest.mark.parametrize(("name", "index"), SAMPLES, ids=lambda v: str(v))
def test_a_layer_and_its_mirror_are_one_function(name, index):
    sample = BY_NAME[name][index]
    rng = np.random.default_rng(1)
    dtype = "float32" if sample.single else "float64"
    with mirrors.precision(dtype):
        layer = sample.make(keras)
        values = [mirrors.array(text, rng, dtype) for text in sample.inputs]
        inputs = [
            keras.Input(v.shape[1:], dtype=str(v.dtype), name=f"in_{i}")
            for i, v in enumerate(values)
        ]
        if sample.call is not None:
            outputs = sample.call(layer, *inputs)
        else:
            outputs = layer(inputs[0] if len(inputs) == 1 else inputs)
        model = keras.Model(inputs, outputs)
        if not name.startswith("Normalization"):
            mirrors.randomise(model)
        given = values[0] if len(values) == 1 else values
        mirrors.check(
            model,
            values,
            given,
            random=sample.random,
            tolerance=2e-5 if sample.single else sample.tolerance,
        )


def test_every_layer_of_keras_is_translated_or_refused_with_a_reason():
    classes = {v for v in vars(keras.layers).values() if isinstance(v, type)}
    names = (*keras_layers.TABLE, *keras_layers.REFUSED, *keras_layers.OWN_CALL)
    assert classes - {getattr(keras.layers, name) for name in names} == set()
    assert all(len(reason) > 20 for reason in keras_layers.REFUSED.values())
    untested = [n for n, r in keras_layers.TABLE.items() if not r.samples]
    assert sorted(untested) == ["InputLayer", "Lambda"]
