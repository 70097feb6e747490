"""Sizes of which a model takes multiples alone: a network that halves its images twice and doubles them again.

What was halved and doubled is joined to what was not, which is an error where the size was no multiple of 4. PyTorch's
tracing notes that both are of one size and takes it for a decision of the model's: the program would hold for the
example's size alone. It holds for every size that the model itself takes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram

from diglot.frontends.guards import Axis, Fixing, asks_for_sizes, fixing_guards

_STEPS = (2, 4, 8, 16, 32, 64, 128)
_TRIED = (1, 2, 3, 5)


def multiples(
    program: ExportedProgram, model: nn.Module, structure: str, names: list[str], values: list[Any]
) -> dict[Axis, int]:
    """Return of what the sizes of dynamic axes have to be multiples, for those alone that guards would fix.

    Empty where the guards say something else, where the model's own code asks for sizes, or where the model does
    take sizes for which they do not hold.
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
            fits = _fails_elsewhere(model, structure, examples, fixing, step)
            return dict.fromkeys(axes, step) if fits else {}
    return {}


def _fails_elsewhere(
    model: nn.Module,
    structure: str,
    examples: dict[str, Any],
    fixing: Sequence[Fixing],
    step: int,
) -> bool:
    """Tell whether a model takes larger multiples of ``step`` and fails where the guards do, by shapes alone."""
    axes = sorted({axis for guard in fixing for axis in guard.axes})

    def takes(by: int, among: list[Axis]) -> bool:
        given = dict(examples)
        for name, axis in among:
            rows = torch.arange(given[name].shape[axis] + by) % given[name].shape[axis]
            given[name] = given[name].index_select(axis, rows)
        return _runs(model, structure, given)

    def holds(by: int, axis: Axis) -> bool:
        size = examples[axis[0]].shape[axis[1]] + by
        about = [guard for guard in fixing if axis in guard.axes]
        return all(guard.variables == 1 and guard.holds([[size]]) for guard in about)

    between = sorted({2**i for i in range(step.bit_length() - 1)} | {step // 2 + 1, step - 1})
    return (
        takes(0, axes)
        and takes(step, axes)
        and not any(not holds(by, a) and takes(by, [a]) for by in between for a in axes)
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
