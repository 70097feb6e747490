"""A model of keras.applications becomes a PyTorch program; all of them do in the sweep (``tests/sweep/run.py``)."""

import keras
import mirrors
import pytest

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


def test_a_mobile_net_is_proven():
    """Rescaled images, random weights and statistics."""
    model = keras.applications.MobileNetV3Small(
        weights=None, input_shape=(32, 48, 3), classes=4, alpha=0.35, minimalistic=True
    )
    mirrors.move_vectors(model)
    mirrors.settle_statistics(model)
    translation = diglot.translate(model, to="torch")
    assert "permute" not in translation.source
    assert diglot.prove(translation, thorough=False, steps=1).verdict == "proven"
