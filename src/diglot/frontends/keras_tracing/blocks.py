"""A Functional model as modules within modules: its repeated parts as blocks, each with a class of its own."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator

from keras import Layer
from keras.src.models.functional import Functional
from torch import nn

from diglot.frontends.keras_tracing.classes import made_class
from diglot.frontends.keras_tracing.graph import Step, steps_of
from diglot.frontends.repeating.items import Block, Family, Item
from diglot.frontends.repeating.naming import family_names, input_names, member_names, scope_names
from diglot.frontends.repeating.repeats import repeats


@dataclasses.dataclass
class Plan:
    """How a Functional model is written: its steps, blocks among them, and what each is called."""

    model: Functional
    steps: list[Item]
    names: dict[int, str]  # of blocks, and of the steps in them, by id
    classes: dict[Family, type[nn.Module]]
    chains: type[nn.Module]
    known: bool = False  # whether the names are those of the model's modules in PyTorch
    is_sequence: bool = False  # whether the whole model is an nn.Sequential

    def members(self, block: Block | None = None) -> Iterator[tuple[str | None, Item]]:
        """Yield ``(name, step)`` for what is right below the model or a block; None for a layer's own name."""
        steps = self.steps if block is None else block.steps
        for place, step in enumerate(steps):
            if isinstance(step, Step) and not isinstance(step.operation, Layer):
                continue
            if block is not None and block.family is None and not self.known:
                yield str(place), step
            else:
                yield self.names.get(id(step)), step

    def class_of(self, block: Block) -> type[nn.Module]:
        """Return the class of a block's module."""
        return self.classes[block.family] if block.family is not None else self.chains


def plan(model: Functional) -> Plan | None:
    """Return how a model is written with classes for what repeats in it; ``None`` where nothing does."""
    steps, families = repeats(steps_of(model), {id(t) for t in model.outputs})
    if not families:
        return None
    said = family_names(families)
    found = scope_names(steps, said, model.name)
    for family in families:
        found.update(member_names(family, said))
    classes = {
        f: made_class(said[f], Functional, nn.Module, parameters_of(input_names(f)))
        for f in families
    }
    chains = made_class("Sequential", Functional, nn.Sequential, parameters_of(["input"]))
    return Plan(model, steps, found, classes, chains)


def parameters_of(names: list[str]) -> tuple[inspect.Parameter, ...]:
    """Return parameters of these names for a module's ``forward``."""
    return tuple(inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names)
