"""What a layer's ``call`` is given as ``training``."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn


class Mode:
    """Whether the model trains: true or false when asked, so that an author's ``if training`` is seen as one."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __bool__(self) -> bool:
        return self._module.training

    def __eq__(self, other: object) -> bool:
        return bool(self) == other

    def __hash__(self) -> int:
        return id(self)


def combined(name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What a function of TensorFlow makes of a mode: ``tf.logical_and(training, self.trainable)`` is it, or false.

    ``NotImplemented`` for any other function, or other arguments.
    """
    values = [*args, *(v for k, v in kwargs.items() if k not in ("name", "dtype"))]
    modes = [v for v in values if isinstance(v, Mode)]
    others = [v for v in values if not isinstance(v, Mode)]
    if len(modes) != 1:
        return NotImplemented
    if name in ("identity", "convert_to_tensor", "constant") and not others:
        return modes[0]
    if name == "cast" and "bool" in [getattr(v, "name", v) for v in (*others, kwargs.get("dtype"))]:
        return modes[0]
    if name not in ("logical_and", "logical_or") or len(others) != 1 or np.ndim(others[0]):
        return NotImplemented
    other = bool(others[0])
    return modes[0] if other == (name == "logical_and") else other
