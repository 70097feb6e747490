"""``diglot diverge``: two models that the user names, each in a process of its framework, layer by layer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, UsageError
from diglot.inputs import parse_inputs

if TYPE_CHECKING:
    from rich.console import Console

    from diglot.console import Steps

_ZOO = "zoo:"


def diverge_sources(
    source: str, target: str | None, inputs: tuple[str, ...], console: Console
) -> dict[str, Any]:
    """Find where the PyTorch model `source` and the Keras model `target` part; zoo:NAME names both
    models of a pair, in the sizes of its fast setting, with the same weights.

    Gives the fields of `Divergence`, exit_code and timings. Raises UsageError and BadInput.
    """
    from diglot.console import Steps
    from diglot.runtime import start_worker

    parse_inputs(inputs)
    if (target is None) != source.startswith(_ZOO):
        raise UsageError(
            "This does not name two models.",
            expected="a PyTorch source and a Keras one, or zoo:NAME alone",
            received=" and ".join(filter(None, (source, target))),
        )
    steps = Steps(console)
    # Keras imports in its own process while PyTorch does in this one.
    with contextlib.closing(start_worker()) as worker, contextlib.ExitStack() as stack:
        if target is None:
            opened = stack.enter_context(_zoo_pair(source.removeprefix(_ZOO), inputs, steps))
        else:
            opened = (*_torch_source(source, inputs, steps), target)
        model, examples, keras_source = opened
        with steps.step("Building the Keras model", "Built the Keras model"):
            worker.call("open", source=keras_source)
        with steps.step("Comparing", "Compared both, each in its own process"):
            from diglot.parity.diverge import find_divergence

            found = find_divergence(model, examples, worker.observe)
    code = EXIT_DIFFERS if found else EXIT_PROVEN
    return {"exit_code": code, **found.to_dict(), "timings": steps.timings}


def _torch_source(source: str, inputs: tuple[str, ...], steps: Steps) -> tuple[Any, Any]:
    """The PyTorch model and its example inputs."""
    from diglot.sources import load_source

    with steps.step("Reading the PyTorch model", "Read the PyTorch model"):
        loaded = load_source(source, inputs)
    return loaded.model, loaded.example_inputs


@contextlib.contextmanager
def _zoo_pair(name: str, inputs: tuple[str, ...], steps: Steps) -> Iterator[tuple[Any, Any, str]]:
    """The PyTorch model of a pair, inputs, and a folder that holds the Keras model with its weights."""
    if inputs:
        raise UsageError("A pair of the zoo brings its own inputs.", hint="leave --input out")
    with steps.step("Building the PyTorch model", "Built the PyTorch model"):
        import numpy as np
        import torch

        from diglot.zoo import find_pair
        from diglot.zoo.proving import HandWritten

        pair = find_pair(name)
        setting = pair.setting("fast")
        torch.manual_seed(setting.recipe.seed)
        model = pair.torch().build_model(**setting.model)
        arrays = pair.example(setting.model, np.random.default_rng(setting.recipe.seed))
    with tempfile.TemporaryDirectory(prefix="diglot-") as folder:
        with steps.step("Carrying its weights to the Keras model", "Carried its weights"):
            HandWritten(pair, setting, Path(folder), model)
        yield model, {key: torch.from_numpy(array) for key, array in arrays.items()}, folder
