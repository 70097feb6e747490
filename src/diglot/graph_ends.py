"""Where a TensorFlow graph that the user names begins and ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphEnds:
    """What is read of a graph: a signature of a SavedModel, or the tensors that go in and out of a frozen graph."""

    signature: str | None = None
    feeds: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()


WHOLE = GraphEnds()
