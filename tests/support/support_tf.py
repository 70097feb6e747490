"""What the tests of the TensorFlow frontend share."""

from __future__ import annotations

import numpy as np
import torch

from diglot.codegen.weights import WeightMap
from diglot.frontends.capture import capture


def as_array(value):
    return value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)


def agrees(mirror, expected, inputs=None, tolerance=2e-5):
    """The mirror gives what TensorFlow gave (an array, or a dict of them)."""
    mirror.module.eval()
    with torch.no_grad():
        got = mirror.module(*(inputs or mirror.example_inputs))
    if not isinstance(expected, dict):
        got, expected = {"": got}, {"": expected}
    if not isinstance(got, dict):
        got = {next(iter(expected)): got}
    assert set(got) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(
            as_array(got[key]), as_array(value), rtol=tolerance, atol=tolerance
        )


def captures(mirror):
    """The mirror goes through ``torch.export`` into a hub, with a batch of any size; returns the hub."""
    hub, _ = capture(mirror.module, mirror.example_inputs, mirror.dynamic)
    return hub


def weights_return(mirror, values):
    """Every weight of the source comes back from the mirror's state, bit for bit."""
    state = {k: v.detach().numpy() for k, v in mirror.module.state_dict().items()}
    made = WeightMap(entries=mirror.entries).apply(state)
    for name, array in values.items():
        np.testing.assert_array_equal(made[name], array)


def layers(mirror):
    """The leaves of the mirror: name -> class name."""
    return {
        n: type(m).__name__
        for n, m in mirror.module.named_modules()
        if n and type(m).__module__.startswith("torch.nn.modules") and not list(m.children())
    }
