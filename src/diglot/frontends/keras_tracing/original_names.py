"""What modules and weights are called in the PyTorch model that a Keras model was translated from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diglot.ir.weight_entry import WeightEntry

#: Where each axis of PyTorch's tensor is in Keras's; None where it is the same.
Order = tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Boundary:
    """How a model's inputs, by their names, and its outputs, by the paths to them, lay in PyTorch."""

    inputs: list[tuple[str | None, Order]]
    outputs: list[tuple[tuple[str | int, ...], Order]]

    def of(
        self, names: Sequence[str], paths: Sequence[Sequence[str | int]]
    ) -> tuple[list[Order], list[Order]]:
        """The orders of inputs and outputs of these names and paths; by place where they are others.

        Keras sorts what it is given by name, so that there the first may be PyTorch's second.
        """
        return _aligned(self.inputs, names), _aligned(self.outputs, [tuple(p) for p in paths])


def _aligned(known: Sequence[tuple[Any, Order]], wanted: Sequence[Any]) -> list[Order]:
    by_name = dict(known)
    if len(by_name) == len(known) and set(by_name) == set(wanted):
        return [by_name[each] for each in wanted]
    return [order for _, order in known]


class Names:
    """Of a Keras model's layers and variables, by identity.

    ``layers``: pairs of a layer and its module's path. ``variables``: pairs of a variable and the entry that made it.
    ``shares``: the PyTorch arrays, by name, that such an entry adds up; Keras holds their sum. ``ties``: second names
    of weights as a weight map has them. ``boundary``: how inputs and outputs lay there. ``classes``: those of modules
    that Keras has no layers for, by path.
    """

    def __init__(
        self,
        layers: list[tuple[Any, str]],
        variables: list[tuple[Any, WeightEntry]],
        shares: Mapping[str, np.ndarray],
        ties: Sequence[Mapping[str, str]],
        boundary: Boundary | None = None,
        classes: Mapping[str, str] | None = None,
    ) -> None:
        self._keep = (layers, variables)  # so that no id is given twice
        self._paths = {id(layer): path for layer, path in layers}
        self._entries = {id(variable): entry for variable, entry in variables}
        self.shares = shares
        self.ties = ties
        self.boundary = boundary
        self.classes = dict(classes or {})

    def entry(self, variable: Any) -> WeightEntry | None:
        """The entry that a variable was made by."""
        return self._entries.get(id(variable))

    def path(self, layer: Any, leaf: bool) -> str | None:
        """The path of a layer's module; of a ``leaf``, else that of the module which holds all its weights."""
        known = self._paths.get(id(layer))
        if known is not None or not leaf:
            return known
        sources = [s for v in layer.weights if (e := self.entry(v)) for s in e.sources]
        owners = sorted({source.rpartition(".")[0] for source in sources})
        # nn.MultiheadAttention has a layer of its own for its output
        whole = all(o == owners[0] or o.startswith(f"{owners[0]}.") for o in owners)
        return owners[0] if owners and whole and (owners[0] or len(owners) == 1) else None

    def around(self, layers: Sequence[Any]) -> str | None:
        """The path of the module that holds those of some layers, and nothing above it; None where it is not known."""
        known = [self.path(layer, leaf=True) for layer in layers]
        if not known or None in known:
            return None
        owners = [str(path).split(".") for path in known]
        first, last = min(owners), max(owners)
        pairs = itertools.takewhile(lambda p: p[0] == p[1], zip(first, last, strict=False))
        common = [part for part, _ in pairs] if first != last else first[:-1]
        return ".".join(common) or None

    def below(self, layer: Any, leaf: bool, path: str) -> tuple[str, ...] | None:
        """The names that lead from the module at ``path`` down to a layer's; None where they do not."""
        known = self.path(layer, leaf)
        prefix = f"{path}." if path else ""
        if not known or not known.startswith(prefix):
            return None
        return tuple(known[len(prefix) :].split("."))

    def tied(self, variable: Any, name: str) -> list[tuple[str, str]]:
        """The other names of a variable's weight, which the mirror calls ``name``, and the classes of their modules."""
        entry = self.entry(variable)
        if entry is None or entry.combine is not None:
            return []
        found = [tie for tie in self.ties if tie["to"] == entry.sources[0]]
        known = [(t["name"], t["class"]) for t in found]
        known += [(t["to"], t["to_class"]) for t in found[:1]]
        return [(other, kind) for other, kind in known if other != name]

    def current(self, variable: Any, wanted: WeightEntry) -> list[np.ndarray] | None:
        """The arrays that a variable's value was added up from, in the order of ``wanted``'s sources."""
        entry = self.entry(variable)
        if entry is None or entry.combine != "sum" or wanted.combine != "sum":
            return None
        found = [self.shares[name] for name in entry.sources if name in self.shares]
        same = entry.steps == wanted.steps and [a.shape for a in found] == list(
            wanted.source_shapes
        )
        return found if same else None
