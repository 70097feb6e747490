"""Diglot: one neural network in two languages, PyTorch and Keras 3, with a proof that they are the same function.

>>> import diglot
>>> t = diglot.translate(model, example_inputs)      # doctest: +SKIP
>>> diglot.prove(t).verdict                           # doctest: +SKIP
'proven'

Importing this module imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "translate": "diglot.translating",
    "load": "diglot.translation",
    "Translation": "diglot.translation",
    "prove": "diglot.parity.prove",
    "diverge": "diglot.parity.diverge",
    "DiglotError": "diglot.errors",
    "BadInput": "diglot.errors",
    "Unsupported": "diglot.errors",
    "UsageError": "diglot.errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from diglot.errors import BadInput, DiglotError, Unsupported, UsageError
    from diglot.parity.diverge import diverge
    from diglot.parity.prove import prove
    from diglot.translating import translate
    from diglot.translation import Translation, load


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'diglot' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
