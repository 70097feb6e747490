"""Lines of a listing behind the ops of a captured program, where the source is no Python that ran.

What runs by :func:`at_line` has a frame of its own among those that ``torch.export`` notes; :func:`note` reads it off.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import fx

FILE = "a listing"
_FRAME = re.compile(rf' *File "{FILE}", line (\d+), in \w+(?:\n|$)')


def at_line(line: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a frame of the listing's line ``line`` (from 1; 0: of no line)."""
    return _frame(line)(function, arguments) if line else function(*arguments)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


@functools.lru_cache(maxsize=4096)
def _frame(line: int) -> Callable[..., Any]:
    # The body is the line after that of ``def``.
    code = _call.__code__.replace(co_filename=FILE, co_firstlineno=line - 1)
    return FunctionType(code, {})


def note(graph: fx.Graph) -> None:
    """Move the lines from the stack traces of a graph's nodes, which are an author's, into ``node.meta["listed"]``."""
    for node in graph.nodes:
        trace = node.meta.get("stack_trace") or ""
        found = _FRAME.findall(trace)
        if found:
            node.meta["listed"] = int(found[-1])
            node.meta["stack_trace"] = _FRAME.sub("", trace)


__all__ = ["FILE", "at_line", "note"]
