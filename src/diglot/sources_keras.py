"""Keras models that the user names, loaded, with example inputs and dynamic sizes.

net.py:make, package.module:make      a function that returns a Keras model or (model, inputs)
"""

from __future__ import annotations

from typing import Any

from diglot.errors import BadInput
from diglot.factories import Factory
from diglot.sources import own_examples

FORMS = "file.py:factory, package.module:factory, model.keras or model.h5"


def make_keras(spec: str) -> tuple[Any, Any]:
    """What a factory (``file.py:function`` or ``module:function``) makes: a Keras model, and example
    inputs or None. Raises BadInput for whatever else it makes."""
    import keras

    module, made = Factory.parse(spec, FORMS).make(keras.layers.Layer)
    pair = isinstance(made, (tuple, list)) and len(made) == 2
    model, examples = made if pair else (made, None)
    if not isinstance(model, keras.layers.Layer):
        raise BadInput(
            f"{spec} made no Keras model.",
            expected="a keras.Model, or (keras.Model, example_inputs)",
            received=type(made).__name__,
        )
    return model, own_examples(module) if examples is None else examples
