"""Functions whose name Keras 3 kept, and whose meaning it changed."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("diglot")
def hard_sigmoid(x: Any) -> Any:
    """Return ``x / 5 + 1/2`` cut off at 0 and 1, as Keras 2 has it; Keras 3 takes ``x / 6 + 1/2``.

    ``x``: any shape, floating point. Source: keras/activations.py of Keras 2.15.
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


FUNCTIONS = {"hard_sigmoid": hard_sigmoid}
