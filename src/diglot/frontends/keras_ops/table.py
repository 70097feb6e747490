"""The table of Keras's backend functions and the ops that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diglot.errors import Problem, Unsupported

OPS: dict[str, Callable[..., Any]] = {}
OPERATIONS: dict[str, Callable[..., Any]] = {}

#: Backend functions without a form in a traced torch program, and what to do instead.
REFUSED = {
    "core.convert_to_numpy": "the values are not known while the model is read: use keras.ops",
}


def op(*names: str) -> Callable[[Callable], Callable]:
    """Enter a function under names of Keras's backend (``numpy.sum``); raises ValueError for a second entry."""

    def enter(function: Callable) -> Callable:
        for name in names:
            if name in OPS:
                raise ValueError(f"{name} is entered twice")
            OPS[name] = function
        return function

    return enter


def operation(name: str) -> Callable[[Callable], Callable]:
    """Enter a function under the class name of an op of ``keras.ops``."""

    def enter(function: Callable) -> Callable:
        OPERATIONS[name] = function
        return function

    return enter


def find_refusal(name: str) -> Callable[..., Any] | None:
    """Return a function that raises :class:`Unsupported` for an op that is refused, or ``None``."""
    if name not in REFUSED:
        return None

    def refuse(*_: Any, **__: Any) -> Any:
        from diglot.frontends.keras_tracing.tensor import author_line

        raise Unsupported(
            [Problem(f"keras.ops.{name.partition('.')[2]}", author_line(), "", REFUSED[name])]
        )

    return refuse
