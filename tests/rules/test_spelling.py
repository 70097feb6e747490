"""Every sample of every rule, written in PyTorch again: the same outputs, gradients and weights, in float64.

The samples are PyTorch already, so what is tested is the other page alone: how each op is spelled, which layers own
which weights, and that these keep their names.
"""

import numpy as np
import pytest
import samples
import torch

from diglot.codegen.pipeline import to_torch
from diglot.errors import Unsupported
from diglot.frontends.capture import capture
from diglot.parity.torch_modes import copy_model


@pytest.mark.parametrize("batch", samples.batches(of_torch=True))
def test_same_function(batch, tmp_path):
    wrong = _run(batch, tmp_path)
    assert not wrong, "\n".join(f"{case}\n    {what}" for case, what in wrong.items())


def _run(batch, folder):
    try:
        return _compare(batch, folder)
    except Unsupported as error:
        if len(batch) == 1:
            return {str(batch[0]): "; ".join(f"{p.op}: {p.hint}" for p in error.problems)}
    except Exception as error:
        if len(batch) == 1:
            return {str(batch[0]): f"{type(error).__name__}: {str(error)[:800]}"}
    half = len(batch) // 2
    return {**_run(batch[:half], folder), **_run(batch[half:], folder)}


def _built(source, folder):
    """The program's model with its constants in float64, as a proof builds it."""
    torch.set_default_dtype(torch.float64)
    try:
        return samples._module_of(source, folder).build_model()
    finally:
        torch.set_default_dtype(torch.float32)


def _compare(batch, folder):
    with samples.exported(batch, folder) as (model, inputs, narrow):
        hub, _ = capture(model, narrow, None, "torch")
    written = to_torch(hub, model)
    made = _built(written.source, folder)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    arrays = {n: v.detach().numpy() for n, v in state.items()}
    weights = {
        entry.target: torch.from_numpy(
            np.array(entry.to_target([arrays[s] for s in entry.sources]))
        )
        for entry in written.program.weights.entries()
    }
    missing = made.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    lacking = [k for k in missing.missing_keys if not k.endswith("num_batches_tracked")]
    assert not lacking, lacking
    expected, theirs, _ = samples._torch_side(copy_model(model, torch.float64), inputs)
    outputs, gradients, _ = samples._torch_side(copy_model(made.eval(), torch.float64), inputs)
    wrong = {}
    for path, value in [*expected.items(), *theirs.items()]:
        found = outputs[path] if path in outputs else gradients[path]
        gap = samples.gap(
            np.asarray(value.detach() if torch.is_tensor(value) else value),
            np.asarray(found.detach() if torch.is_tensor(found) else found),
        )
        if gap > samples.TOLERANCE:
            index = samples._index(path)
            shown = samples._class_of(written.source, index)
            wrong[str(batch[index])] = f"{path}: {gap:.1e}\n{shown}"
    return wrong
