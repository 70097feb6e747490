"""Where several calls in the code of a module are one layer of Keras's: found by what they compute.

The layer's weights say which ops are its own; from these the search goes up to values that may be its inputs. Each
choice is run on random numbers beside the layer itself, and what has the layer's values is its output.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from diglot.frontends.keras_tracing.original_layer import OriginalLayer, agree, draw_inputs
from diglot.frontends.marks import CallRecord
from diglot.frontends.subgraphs import Part, part_of, stores_of
from diglot.ir.hub import Hub, is_mark
from diglot.ir.kept_layer import KeptLayer

_DEPTH, _CHOICES = 16, 48


class Search:
    """Looks for one layer in a hub."""

    def __init__(
        self, hub: Hub, records: Mapping[int, CallRecord], layer: KeptLayer, original: OriginalLayer
    ) -> None:
        self.hub, self.records, self.layer, self.original = hub, records, layer, original
        names = {parameter.name: node for node, parameter in hub.parameters.items()}
        self.weights = {names[name] for name in (*layer.sources, *layer.constants)}
        self.core = {
            user
            for weight in self.weights
            for user in weight.users
            if user.op == "call_function" and not is_mark(user)
        }
        # Statistics that training changes; whether as the layer does, the comparison tells.
        self.stores = stores_of(hub, self.weights)
        self.order = {node: place for place, node in enumerate(hub.graph.nodes)}

    def run(self) -> tuple[KeptLayer, Part] | None:
        """The layer with the order of its axes, and its part of the graph; None where there is none."""
        own = self._below(self.core)
        for inputs, perms in itertools.islice(self._inputs(), _CHOICES):
            known = self._computed(inputs)
            if not known >= self.core:
                continue
            made = [n for n in own if n in known and _is_tensor(n)]
            part = part_of(self.hub, inputs, made, self.stores)
            found = self._matched(part, perms, own) if part is not None else None
            if found is not None:
                return found
        return None

    # --- what goes in ----------------------------------------------------------------------------------------

    def _inputs(self) -> Iterator[tuple[list[fx.Node], list[Any]]]:
        """Yield values that may be the layer's inputs, the nearest first, with the permutations to Keras's axes."""
        above = self._above()
        ranks = list(self.layer.ranks)
        for way in range(3):
            choices = []
            for place, (_, argument, _) in enumerate(self.layer.inputs):
                perm = _moved(ranks[place], way, max(ranks))
                if way and perm is None:
                    break
                fit = [n for n in above if self._fits(n, argument, place, perm)]
                real = [n for n in fit if not _is_integer(n)]  # else ids
                choices.append([(node, perm) for node in real or fit])
            else:
                for chosen in itertools.product(*choices):
                    yield [node for node, _ in chosen], [perm for _, perm in chosen]

    def _above(self) -> list[fx.Node]:
        """The values that the layer's ops follow from, the nearest first."""
        start = [n for node in self.core for n in node.all_input_nodes]
        found = [
            n
            for n in self._reached(start, lambda n: n.all_input_nodes if self._is_glue(n) else ())
            if n not in self.hub.parameters
        ]
        own = {n for n in found if is_mark(n) and self._is_glue(n)} | set(self._below(self.core))
        return [n for n in found if _is_tensor(n) and n not in own and n not in self.hub.constants]

    def _fits(self, node: fx.Node, argument: str, place: int, perm: Any) -> bool:
        value = node.meta["val"]
        is_mask = "mask" in argument
        if value.dim() != self.layer.ranks[place] or is_mask != (value.dtype is torch.bool):
            return False
        wanted = self.original.built_for(argument, place)
        if wanted is None:
            return True
        shape = [value.shape[axis] for axis in (perm or range(value.dim()))]
        return len(wanted) == len(shape) and all(
            w is None or not isinstance(s, int) or w == s
            for w, s in zip(wanted[1:], shape[1:], strict=True)
        )

    # --- what comes of it -------------------------------------------------------------------------------------

    def _is_glue(self, node: fx.Node) -> bool:
        """Whether a node may be of the layer: an op without others' weights, in the same module."""
        if node.op != "call_function":
            return False
        if is_mark(node):
            path = self.records[int(node.args[1].split("|")[0])].path
            return path == self.layer.source or path.startswith(f"{self.layer.source}.")
        read = [n for n in node.all_input_nodes if n in self.hub.parameters]
        return all(n in self.weights or self._is_beside(n) for n in read)

    def _is_beside(self, weight: fx.Node) -> bool:
        """Whether a weight is one that the layer's module has and Keras's layer has not, or a table of the program's:
        it is never trained.
        """
        parameter = self.hub.parameters[weight]
        its_own = parameter.name.startswith(f"{self.layer.source}.") or not parameter.persistent
        return its_own and not parameter.trainable

    def _computed(self, inputs: list[fx.Node]) -> set[fx.Node]:
        """What follows from some values alone, and the layer's weights."""
        given, known = set(inputs), set(inputs)
        for node in self.order:
            if node in given or not self._is_glue(node):
                continue
            if all(
                n in known or n in self.hub.parameters or n in self.hub.constants or _is_size(n)
                for n in node.all_input_nodes
            ):
                known.add(node)
        return known - given

    def _below(self, core: set[fx.Node]) -> list[fx.Node]:
        """The ops of the layer and what follows from them, in order."""
        found = self._reached(list(core), lambda n: [u for u in n.users if self._is_glue(u)])
        return sorted(found, key=self.order.__getitem__)

    def _reached(
        self, start: Sequence[fx.Node], following: Callable[[fx.Node], Iterable[fx.Node]]
    ) -> list[fx.Node]:
        """What is reached from some nodes, the nearest first: all in the layer's own module, and a few steps beyond."""
        found: dict[fx.Node, None] = {}
        level = list(start)
        for _ in range(_DEPTH):
            beyond: list[fx.Node] = []
            while level:
                node = level.pop(0)
                if node in found:
                    continue
                found[node] = None
                (level if self._is_inside(node) else beyond).extend(following(node))
            level = beyond
        return list(found)

    def _is_inside(self, node: fx.Node) -> bool:
        stack = (node.meta.get("nn_module_stack") or {}).values()
        return any(path == self.layer.source for path, _ in stack)

    def _matched(
        self, part: Part, perms: list[Any], own: Sequence[fx.Node]
    ) -> tuple[KeptLayer, Part] | None:
        """The nodes with the values that the layer gives."""
        layer = dataclasses.replace(
            self.layer,
            inputs=[("", a, p) for (_, a, _), p in zip(self.layer.inputs, perms, strict=True)],
        )
        inputs, state = draw_inputs(self.hub, part, layer)
        wanted = self.original.of(layer).given(inputs, state)
        if wanted is None:
            return None
        got = part.evaluate(self.hub, inputs, state)
        choices = [
            [
                (node, perm)
                for node, found in zip(part.outputs, got, strict=True)
                for perm in _orders(value.dim(), max(self.layer.ranks))
                if agree(value, found, perm)
            ]
            for value in wanted
        ]
        around = [[each for each in same if not self._is_inside(each[0])] for same in choices]
        nearest = [glue or same for glue, same in zip(around, choices, strict=True)]
        for chosen in itertools.chain(_chosen(nearest), _chosen(choices)):
            outputs = [node for node, _ in chosen]
            orders = [
                (path, perm) for (path, _), (_, perm) in zip(layer.outputs, chosen, strict=True)
            ]
            layer = dataclasses.replace(layer, outputs=orders)
            made = part_of(self.hub, part.inputs, outputs, self.stores)
            if made is None or not self._nothing_leaks(made, own):
                continue
            if self.original.of(layer).computes(self.hub, made):
                return layer, made
        return None

    def _nothing_leaks(self, part: Part, own: Sequence[fx.Node]) -> bool:
        """Whether nobody reads what is between the layer's ops and its outputs."""
        outputs = set(part.outputs)
        read: set[fx.Node] = set()
        pending = [n for n in self.order if n.op == "output"]
        while pending:
            node = pending.pop()
            if node not in read and node not in outputs:
                read.add(node)
                pending += node.all_input_nodes
        return not read & set(part.nodes) & set(own)


def _chosen(choices: list[list[tuple[fx.Node, Any]]]) -> Iterator[list[tuple[fx.Node, Any]]]:
    """Yield one node for each output: the last that has its value, then others where two outputs have the same."""
    if all(choices):
        yield [same[-1] for same in choices]
        for end in (-1, 0):
            taken: list[fx.Node] = []
            chosen = []
            for same in choices:
                free = [each for each in same if each[0] not in taken] or same
                chosen.append(free[end])
                taken.append(free[end][0])
            yield chosen


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _is_integer(node: fx.Node) -> bool:
    dtype = node.meta["val"].dtype
    return not dtype.is_floating_point and dtype is not torch.bool


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def _moved(rank: int, way: int, largest: int) -> tuple[int, ...] | None:
    """A permutation that moves the channels behind: none, from axis 1, or from behind a sequence's steps."""
    place = {0: None, 1: 1, 2: 2 if rank == largest else 1}[way]
    if place is None or rank < place + 2:
        return None
    return (*range(place), *range(place + 1, rank), place)


def _orders(rank: int, largest: int) -> list[Any]:
    return list(dict.fromkeys(_moved(rank, way, largest) for way in range(3)))[::-1]
