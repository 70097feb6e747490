"""Round trips: PyTorch -> Keras -> PyTorch, and Keras -> PyTorch -> Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import diglot
from diglot.parity.torch_modes import computing, copy_model


def keras_inputs(translation: Any, inputs: Any) -> Any:
    """A PyTorch model's inputs as its Keras translation is called with them."""
    weight_map = translation.weight_map
    if isinstance(inputs, dict):
        values = list(inputs.values())
    else:
        values = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    arrays = []
    for value, spec in zip(values, weight_map.inputs, strict=True):
        array = value.detach().numpy()
        array = array.astype(np.int32) if array.dtype == np.int64 else array
        arrays.append(spec.to_target(array))
    if weight_map.structure["inputs"] == "dict":
        return dict(zip([s.name for s in weight_map.inputs], arrays, strict=True))
    return arrays[0] if len(arrays) == 1 else arrays


def to_keras_and_back(model: torch.nn.Module, inputs: Any, style: str = "layers") -> Any:
    """The translation back to PyTorch of a model's translation to Keras."""
    there = diglot.translate(model.eval(), inputs, style=style)
    return diglot.translate(there.model, keras_inputs(there, inputs), to="torch")


def outputs(model: torch.nn.Module, inputs: Any) -> list[np.ndarray]:
    """What a PyTorch model gives in float64, in evaluation mode, as flat arrays."""
    exact = copy_model(model.eval(), torch.float64)
    wide = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs
    )
    with torch.no_grad(), computing(torch.float64):
        if isinstance(wide, dict):
            found = exact(**wide)
        else:
            found = exact(*wide) if isinstance(wide, tuple) else exact(wide)
    return [v.numpy() for v in torch.utils._pytree.tree_leaves(found) if torch.is_tensor(v)]


def state_differences(model: torch.nn.Module, back: torch.nn.Module) -> list[str]:
    """What of a model's state dict has not come back: missing, added or reshaped names, values of other bits."""
    before, after = model.state_dict(), back.state_dict()
    found = [f"-{name}" for name in before if name not in after]
    found += [f"+{name}" for name in after if name not in before]
    for name in before.keys() & after.keys():
        if before[name].shape != after[name].shape:
            found.append(f"{name} {list(before[name].shape)} -> {list(after[name].shape)}")
        elif not name.endswith("num_batches_tracked") and not torch.equal(
            before[name], after[name]
        ):
            found.append(f"{name} has other values")
    return found


def largest_gap(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest difference of outputs, relative to the largest value of each; infinite where a shape differs."""
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        return float("inf")
    gaps = [
        float(np.abs(a.astype(float) - b.astype(float)).max() / (np.abs(a).max() + 1e-12))
        for a, b in zip(ours, theirs, strict=True)
        if a.size
    ]
    return max(gaps, default=0.0)
