"""The builders of keras.applications, each with random weights and statistics, for a small image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mirrors

#: Builders that refuse an image of this size, with one that they take.
SIZES = {"InceptionV3": (96, 128, 3), "InceptionResNetV2": (96, 128, 3), "Xception": (96, 128, 3)}
SIZE = (64, 96, 3)


def builders() -> list[str]:
    """Return the names of all builders."""
    import keras

    found = vars(keras.applications).items()
    return sorted(name for name, value in found if name[0].isupper() and callable(value))


def build(name: str) -> Any:
    """Build one, with ten classes; nothing in it is left at a 0 or a 1."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    builder = getattr(keras.applications, name)
    model = builder(weights=None, input_shape=SIZES.get(name, SIZE), classes=10)
    mirrors.move_vectors(model)
    mirrors.settle_statistics(model)
    return model


def _factory(name: str) -> Callable[[], tuple[Any, None]]:
    return lambda: (build(name), None)


MODELS = {name: _factory(name) for name in builders()}
