"""Translate and compare within the test's own process: quick, where a whole proof is not needed."""

import keras
import numpy as np
import torch

import diglot


def translated(model, *inputs):
    """Translate; check the outputs at the example's size and, repeated, at twice the batch."""
    model.eval()
    translation = diglot.translate(model, inputs)
    for times in (1, 2):
        given = [torch.cat([x] * times) for x in inputs]
        with torch.no_grad():
            expected = model(*given)
        specs = translation.weight_map.inputs
        fed = [
            (x.permute(s.perm) if s.perm else x).numpy() for x, s in zip(given, specs, strict=True)
        ]
        got = translation.model(fed[0] if len(fed) == 1 else fed, training=False)
        (spec,) = translation.weight_map.outputs
        expected = expected.permute(spec.perm) if spec.perm else expected
        got = keras.ops.convert_to_numpy(got)
        assert np.abs(got - expected.numpy()).max() <= 1e-5 * np.abs(expected.numpy()).max()
    return translation.source
