"""The steps of a Functional model that came from PyTorch: what is reached from what, and where each layer was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from keras import Layer

from diglot.frontends.keras_tracing.automatic import is_automatic
from diglot.frontends.keras_tracing.graph import Step
from diglot.frontends.keras_tracing.lent import only_holds
from diglot.frontends.keras_tracing.original_names import Names


class Flow:
    """Steps by their places; sets of places, as bits, that each is reached from and leads to."""

    def __init__(self, steps: list[Step], results: set[int]) -> None:
        # A layer that only holds a weight is called on something, for Keras, and reads nothing of it.
        self.steps = [
            dataclasses.replace(s, inputs=[]) if only_holds(s.operation) else s for s in steps
        ]
        self.results = results
        self.maker = {t: i for i, step in enumerate(steps) for t in step.outputs}
        self.readers: dict[int, list[int]] = {}
        for i, step in enumerate(self.steps):
            for tensor in step.inputs:
                self.readers.setdefault(tensor, []).append(i)
        self.before = [{self.maker[t] for t in s.inputs if t in self.maker} for s in self.steps]
        self.above = [0] * len(steps)
        self.below = [0] * len(steps)
        for i, sources in enumerate(self.before):
            for j in sources:
                self.above[i] |= self.above[j] | 1 << j
        for i in reversed(range(len(steps))):
            for j in self.before[i]:
                self.below[j] |= self.below[i] | 1 << i

    def between(self, places: Iterable[int]) -> set[int]:
        """Return the places and all on the ways between them."""
        own = above = below = 0
        for i in places:
            own |= 1 << i
            above |= self.above[i]
            below |= self.below[i]
        found = own | above & below
        return {i for i in range(len(self.steps)) if found >> i & 1}

    def uses(self, place: int) -> list[int]:
        """Return where a step is: for a weight, where it is read."""
        step = self.steps[place]
        if not only_holds(step.operation):
            return [place]
        return [i for t in step.outputs for i in self.readers.get(t, ())]

    def inputs(self, members: set[int]) -> list[int]:
        """Return what some steps take from others, in the order in which they do."""
        taken = [t for i in sorted(members) for t in self.steps[i].inputs]
        return [t for t in dict.fromkeys(taken) if self.maker.get(t, -1) not in members]

    def outputs(self, members: set[int]) -> list[int]:
        """Return what some steps make for others."""
        made = [t for i in sorted(members) for t in self.steps[i].outputs]
        return [
            t
            for t in made
            if t in self.results or any(i not in members for i in self.readers.get(t, ()))
        ]


@dataclasses.dataclass(frozen=True)
class Home:
    """The module with a class of its own that held a layer, and the layer's name below it: "" for the module itself."""

    region: str
    name: str


class Homes:
    """Where each step's layer was; None for what was no module, or none that is known."""

    def __init__(self, steps: list[Step], names: Names) -> None:
        self.names = names
        self.said = {p.replace(".", "_"): p for p in names.classes if p}
        self.found = [self._home(step) for step in steps]

    def _home(self, step: Step) -> Home | None:
        operation = step.operation
        if not isinstance(operation, Layer) or hasattr(operation, "get_layer"):
            return None  # a model has its own name, in PyTorch too
        if step.node.arguments.kwargs.get("reverse"):
            return self._reversed(operation)
        entry = self.names.entry(getattr(operation, "value", None))
        if entry is not None:
            region = self.nearest(entry.sources[0])
            return Home(region, below(entry.sources[0], region))
        path = self.names.path(operation, leaf=bool(operation.weights))
        if path is None:
            path = None if operation.weights else self._said(operation)
        if path is None:
            return None
        if path in self.names.classes:
            return Home(path, "")
        region = self.nearest(path)
        return Home(region, below(path, region))

    def _reversed(self, embedding: Layer) -> Home | None:
        """Where the Linear was that an embedding stands for, too."""
        tied = self.names.tied(embedding.embeddings, "")
        found = [name.rpartition(".")[0] for name, kind in tied if kind == "Linear"]
        return (
            Home(self.nearest(found[0]), below(found[0], self.nearest(found[0]))) if found else None
        )

    def _said(self, layer: Layer) -> str | None:
        """The path of a layer without weights, by its name: that of the module around it, and its own."""
        if is_automatic(layer):
            return None
        for end in reversed([i for i, c in enumerate(layer.name) if c == "_"]):
            around = self.said.get(layer.name[:end])
            if around is not None:
                return f"{around}.{layer.name[end + 1 :]}"
        return None

    def nearest(self, path: str) -> str:
        """The innermost module with a class of its own around a path."""
        while path:
            path = path.rpartition(".")[0]
            if path in self.names.classes:
                return path
        return ""

    def around(self, region: str) -> Iterator[str]:
        """Yield a module and those around it, but for the root."""
        while region:
            yield region
            region = self.nearest(region)


def below(path: str, region: str) -> str:
    """The name that leads from a module at ``region`` to one at ``path`` in it."""
    return path[len(region) + 1 :] if region else path


def is_in(path: str, region: str) -> bool:
    """Tell whether a path is that of a module, or of something in it."""
    return not region or path == region or path.startswith(f"{region}.")


__all__ = ["Flow", "Home", "Homes", "below", "is_in"]
