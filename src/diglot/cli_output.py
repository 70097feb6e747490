"""What every command prints with: results on stdout, of which ``--json`` makes one object, and prose on
stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def stderr() -> Console:
    """Where prose and progress go."""
    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Where results go."""
    return Console(highlight=False)


@contextmanager
def only_json(as_json: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that prints a result as JSON, or does nothing without ``--json``.

    While this is entered with ``--json``, whatever else writes to stdout (the user's model file,
    a library in C) goes to stderr instead, so that stdout holds one JSON object.
    """
    if not as_json:
        yield lambda result: None
        return
    results: list[Mapping[str, Any]] = []
    outer, real = sys.stdout, _real_stdout()
    saved = os.dup(1) if real else None
    sys.stdout = sys.stderr
    if saved is not None:
        outer.flush()
        os.dup2(2, 1)
    try:
        yield results.append
    finally:
        sys.stdout = outer
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)
    for result in results[-1:]:
        print(json.dumps(result, default=str, allow_nan=True))


def _real_stdout() -> bool:
    try:
        return sys.stdout.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False
