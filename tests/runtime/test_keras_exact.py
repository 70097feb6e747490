"""Computing in float64, whatever was computed before in the same process."""

import keras
import pytest

from diglot.runtime.keras_exact import set_width


@pytest.fixture(autouse=True)
def restored():
    """Leave Keras in float32."""
    yield
    set_width("float32")


@pytest.mark.parametrize("width", ["float64", "float32"])
def test_a_policy_in_use_follows(width):
    """A layer made under one width fixes Keras's default policy; the next width still counts."""
    set_width("float32" if width == "float64" else "float64")
    keras.layers.Dense(2)
    set_width(width)
    layer = keras.layers.Dense(3)
    layer.build((None, 5))
    assert layer.kernel.dtype == width
    assert layer.compute_dtype == width
