"""Sizes of which a model takes multiples alone: a network that halves its images twice and doubles them again.

What was halved and doubled is joined to what was not, which is an error where the size was no multiple of 4. PyTorch's
tracing notes that both are of one size and takes it for a decision of the model's: the program would hold for the
example's size alone. It holds for every size that the model itself takes.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from diglot.frontends.guards import Axis, asks_for_sizes, fixing_guards

_STEPS = (2, 4, 8, 16, 32, 64, 128)
_TRIED = (1, 2, 3, 5)


def multiples(
    program: ExportedProgram, model: nn.Module, structure: str, names: list[str], values: list[Any]
) -> dict[Axis, int]:
    """Return of what the sizes of dynamic axes have to be multiples, for those alone that guards would fix.

    Empty where the guards say something else, where the model's own code asks for sizes, or where the model does
    take other sizes.
    """
    fixing = fixing_guards(program, names, values)
    examples = dict(zip(names, values, strict=True))
    axes = sorted({axis for guard in fixing for axis in guard.axes})
    if any(axis == 0 for _, axis in axes) or asks_for_sizes(program):
        return {}
    for step in _STEPS:
        if any(examples[name].shape[axis] % step for name, axis in axes):
            break
        sizes = [step * n for n in _TRIED]
        if all(g.holds(itertools.product(sizes, repeat=g.variables)) for g in fixing):
            return (
                dict.fromkeys(axes, step) if _fails(model, structure, examples, axes, step) else {}
            )
    return {}


def _fails(
    model: nn.Module, structure: str, examples: dict[str, Any], axes: list[Axis], step: int
) -> bool:
    """Tell whether a model takes larger multiples of ``step`` and nothing between, by shapes alone."""

    def grown(by: int, among: list[Axis]) -> bool:
        given = dict(examples)
        for name, axis in among:
            rows = torch.arange(given[name].shape[axis] + by) % given[name].shape[axis]
            given[name] = given[name].index_select(axis, rows)
        return _runs(model, structure, given)

    between = [2**i for i in range(step.bit_length() - 1)]
    return (
        grown(0, axes)
        and grown(step, axes)
        and not any(grown(by, [axis]) for by in between for axis in axes)
    )


def _runs(model: nn.Module, structure: str, given: dict[str, Any]) -> bool:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fakes = {n: mode.from_tensor(v) if torch.is_tensor(v) else v for n, v in given.items()}
    try:
        with mode, torch.no_grad():
            model(**fakes) if structure == "dict" else model(*fakes.values())
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return False
    return True
