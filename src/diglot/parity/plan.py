"""What to compare, in which order: sizes and inputs that the source takes, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.errors import BadInput
from diglot.parity.checks import Gap
from diglot.parity.inputs import VARIANTS, Sizes, choose_sizes, fallback_sizes, make_inputs

if TYPE_CHECKING:
    from diglot.parity.prover import Prover

# What a model raises for sizes or values that it was not made for.
MODEL_ERRORS = (
    RuntimeError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AssertionError,
    ArithmeticError,
)

LIGHT = 1e11
"""Up to this many operations everything is compared with everything."""
MOVING = 500
"""What it costs to hand over and compare one weight's gradient, in operations."""


@dataclass
class Case:
    """One situation to compare in."""

    weights: str
    training: bool
    sizes: Sizes
    inputs: list[np.ndarray]
    seed: int

    @property
    def mode(self) -> str:
        """ "eval" or "train"."""
        return "train" if self.training else "eval"

    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs as the worker takes them."""
        return {f"input:{i}": array for i, array in enumerate(self.inputs)}

    def options(self) -> dict[str, Any]:
        """Mode and seed, as both sides take them."""
        return {"training": self.training, "seed": self.seed}

    def elements(self) -> int:
        """How many numbers go in."""
        return sum(array.size for array in self.inputs)


@dataclass
class Settled:
    """Sizes that the source accepts, with inputs, what it makes of them with its real weights in
    evaluation mode, and how many operations that takes."""

    sizes: Sizes
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    operations: int

    def elements(self) -> int:
        """How many numbers go in."""
        return sum(array.size for array in self.inputs)

    def is_empty(self) -> bool:
        """Whether nothing comes out that could be compared."""
        return not any(array.size for array in self.outputs)


@dataclass(frozen=True)
class Part:
    """One weight set in one mode: sizes (by number) in the order to try, and how many to do."""

    weights: str
    training: bool
    order: list[int]
    count: int


@dataclass
class Failure:
    """A comparison beyond the tolerance."""

    gap: Gap
    case: Case | None = None


def settle(prover: Prover, wanted: list[Sizes] | None) -> list[Settled]:
    """Size sets that the source accepts, each with inputs."""
    settled: list[Settled] = []
    why = ""
    for number, sizes in enumerate(wanted or choose_sizes(prover.info)):
        candidates = [sizes] if wanted else [sizes, *fallback_sizes(prover.info, sizes)]
        for candidate in candidates:
            item, why = _try_sizes(prover, candidate, prover.seed + number)
            if item is None:
                if prover.to_torch:
                    _ask_later(prover, candidate, why)
                continue
            if candidate != candidates[-1] and item.is_empty():
                continue  # a crop that leaves nothing of the shortest: it shows nothing
            if candidate not in [other.sizes for other in settled]:
                settled.append(item)
            break
        else:
            if not prover.to_torch:
                prover.skip(f"sizes {sizes}", f"PyTorch refuses them: {why}")
    if not settled and not prover.refused:
        raise BadInput(
            "The source model could be run with none of the sizes tried.",
            received=why,
            hint="name sizes that it takes: prove(t, sizes=[{...}])",
        )
    return settled


def _ask_later(prover: Prover, sizes: Sizes, why: str) -> None:
    """Keep sizes that a generated program refuses, for its source to be asked."""
    arrays = make_inputs(prover.weight_map.inputs, prover.examples, sizes, prover.seed)
    case = Case("real", False, sizes, arrays, prover.seed)
    if sizes not in [other.sizes for other, _ in prover.refused]:
        prover.refused.append((case, why))


def _try_sizes(prover: Prover, sizes: Sizes, seed: int) -> tuple[Settled | None, str]:
    """Inputs of these sizes that give finite outputs, if there are any; or None and why."""
    backup, why = None, ""
    order = [prover.variant, *(v for v in range(VARIANTS) if v != prover.variant)]
    for variant in order:
        try:
            inputs = make_inputs(prover.weight_map.inputs, prover.examples, sizes, seed, variant)
            item = Settled(sizes, inputs, *prover.model.counted(inputs))
        except MODEL_ERRORS as error:
            why = f"{type(error).__name__}: {first_line(error)}"
            continue
        if all(np.isfinite(array).all() for array in item.outputs if array.dtype.kind == "f"):
            prover.variant = variant
            return item, ""
        backup = backup or item
    return backup, why


def parts(prover: Prover, settled: list[Settled]) -> list[Part]:
    """What to compare: all weights, modes and sizes with each other; for a heavy model every
    weight set in every mode and every size at least once, but not all combinations."""
    return [part for part in _parts(prover, settled) if not (part.training and prover.one_mode)]


def _parts(prover: Prover, settled: list[Settled]) -> list[Part]:
    sizes = list(range(len(settled)))
    if prover.thorough or (prover.thorough is None and _work(prover, settled) <= LIGHT):
        return [
            Part(weights, training, sizes, len(sizes))
            for weights in ("real", "random")
            for training in (False, True)
        ]
    # The smallest first; where a size is refused (batch norm cannot train on one value) the
    # next takes its place.
    small = sorted(sizes, key=lambda i: settled[i].elements())
    return [
        Part("real", False, small, 1),
        Part("real", True, small[1:] + small[:1], 1),
        Part("random", False, small[::-1], 1),
        Part("random", True, small, 1),
    ]


def _work(prover: Prover, settled: list[Settled]) -> float:
    """A rough count of the operations of comparing everything, gradients included: the same
    on every machine, so that a proof can be repeated."""
    weights = sum(array.size for array in prover.real.values())
    operations = sum(item.operations for item in settled)
    return 4 * (3 * operations + MOVING * weights * len(settled))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, without the trace that a worker adds."""
    return next(iter(str(error).splitlines()), type(error).__name__)
