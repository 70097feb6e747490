"""What can be said of a translation of a TensorFlow graph: it computes in float32 alone, so nothing is proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from diglot.errors import WorkerFailed
from diglot.parity.plan import first_line
from diglot.parity.proof import Check, Proof
from diglot.parity.tolerances import FLOAT32, relative
from diglot.runtime.nests import follow

_WHY = "a TensorFlow graph computes in the float32 that it was saved in, and without its gradients"


def compare_graph(translation: Any, directory: Path, keras: Any, seed: int) -> Proof:
    """Run the program here, and the graph in its file in the worker ``keras``, on the same inputs in float32.

    The verdict is "unproven" where they agree to 1e-4, and "differs" where they do not.
    """
    from diglot import torch_program

    weight_map, info = translation.weight_map, translation.info
    module = torch_program.build(directory / "model.py", directory / torch_program.WEIGHTS).eval()
    arrays = _inputs(info["example_inputs"], seed)
    tensors = [torch.from_numpy(array) for array in arrays]
    with torch.no_grad():
        returned = module(*tensors)
    proof = Proof(tolerance=FLOAT32)
    given = [spec.to_target(array) for spec, array in zip(weight_map.inputs, arrays, strict=True)]
    try:
        named = {f"input:{i}": array for i, array in enumerate(given)}
        reply = keras.call("graph", named, origin=info["original"])
    except WorkerFailed as error:
        proof.reason = f"{_WHY}; TensorFlow did not run it: {first_line(error)}"
        return proof
    outputs = [reply.arrays[f"output:{i}"] for i in range(len(reply.arrays))]
    errors = []
    for spec, theirs in zip(weight_map.outputs, outputs, strict=False):
        ours = follow(returned, tuple(spec.path)).numpy()
        errors.append(relative(theirs, spec.to_target(ours)))
    if len(outputs) != len(weight_map.outputs):
        errors.append(float("inf"))
    worst = max(errors, default=float("inf"))
    check = Check("outputs", "eval", "real", {}, worst, "", len(errors), worst <= FLOAT32)
    check.dtype, check.tolerance = "float32", FLOAT32
    proof.checks = [check]
    proof.verdict = "unproven" if check.ok else "differs"
    proof.reason = f"{_WHY}; the outputs of the two are within {worst:.1e} of each other"
    proof.not_compared = [{"what": what, "why": _WHY} for what in ("gradients", "training steps")]
    return proof


def _inputs(examples: list[dict[str, Any]], seed: int) -> list[np.ndarray]:
    """Random inputs of the examples' shapes, dtypes and ranges, on PyTorch's side."""
    rng = np.random.default_rng(seed)
    made = []
    for example in examples:
        shape, dtype = tuple(example["shape"]), np.dtype(example["dtype"])
        if dtype.kind == "f":
            made.append(rng.normal(size=shape).astype(dtype))
        elif dtype.kind == "b":
            made.append(rng.random(shape) < 0.7)
        else:
            made.append(rng.integers(example["min"], example["max"] + 1, shape).astype(dtype))
    return made
