"""What a model does as a list of steps, some of them gathered in blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(eq=False)
class Step:
    """One call. Tensors are said by numbers; of each there is one."""

    inputs: list[int]
    outputs: list[int]
    symbol: str  # equal for calls that become the same statement but for numbers and names
    shared: bool  # whether its layer is called elsewhere, too

    @property
    def name(self) -> str:
        """What the author, or the framework, calls it."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """The class's name, as Keras has it."""
        raise NotImplementedError

    @property
    def lines(self) -> float:
        """About how many lines it is written in: an attribute, and a part of a statement."""
        raise NotImplementedError

    @property
    def is_named(self) -> bool:
        """Whether its name is the author's."""
        raise NotImplementedError

    @property
    def is_activation(self) -> bool:
        """Whether it is an activation: one tensor in, one out, no weights."""
        raise NotImplementedError


@dataclasses.dataclass(eq=False)
class Family:
    """Blocks that are instances of one class."""

    number: int
    blocks: list[Block] = dataclasses.field(default_factory=list)

    @property
    def symbol(self) -> str:
        return f"block {self.number}"


@dataclasses.dataclass(eq=False)
class Block:
    """A run of steps as one: ``inputs`` are the tensors that it takes, ``outputs`` the one that it gives.

    Without a family it is a chain: one step after the other, as in ``nn.Sequential``. ``optional`` are the ids of
    steps that others of the family may lack; ``prefix`` is what the names of its layers begin with.
    """

    family: Family | None
    steps: list[Item]
    inputs: list[int]
    outputs: list[int]
    prefix: str = ""
    optional: set[int] = dataclasses.field(default_factory=set)

    shared = False
    is_activation = False
    name = ""
    kind = "Block"

    @property
    def symbol(self) -> str:
        return (
            self.family.symbol if self.family is not None else repr([s.symbol for s in self.steps])
        )

    @property
    def lines(self) -> float:
        return 1.5


Item = Step | Block


def flat(item: Item) -> Iterator[Step]:
    """Yield the steps of an item, those of inner blocks included."""
    if isinstance(item, Block):
        for inner in item.steps:
            yield from flat(inner)
    else:
        yield item
