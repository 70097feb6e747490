"""The proof of a pair: the same prover as for a translation, on two models written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.output import write_whole
from diglot.parity.proof import Proof
from diglot.zoo.pair import Pair, Setting

if TYPE_CHECKING:
    from torch import nn

_FOOTER = '''

_hand_written = build_model


def build_model(weights=None):
    """The model in the sizes of the zoo's setting; ``weights`` is the path of a weight file."""
    model = _hand_written(**{sizes!r})
    if weights is not None:
        model.load_weights(weights)
    return model
'''


class HandWritten:
    """A pair, in the sizes of one setting, as the prover takes a translation: a folder with model.py,
    its weights and weight_map.json, and the live PyTorch model."""

    def __init__(self, pair: Pair, setting: Setting, directory: Path, model: nn.Module) -> None:
        """Write the files. Raises BadInput where the weight map does not fit the Keras model."""
        from diglot.runtime import materialise
        from diglot.training.torch_loop import state_of

        sizes = dict(setting.model)
        state = state_of(model)
        self.directory = directory
        self.source_model = model
        self.weight_map = pair.weight_map(state, sizes)
        inputs = pair.example(sizes, np.random.default_rng(0))
        self.info = describe(pair, self.weight_map, inputs, setting)
        self.source = pair.keras_source() + _FOOTER.replace("{sizes!r}", repr(sizes))
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / "model.py", self.source)
        write_whole(directory / "translation.json", json.dumps(self.info, indent=1) + "\n")
        self.weight_map.save(directory / "weight_map.json")
        materialise(directory, self.weight_map.apply(state))


def describe(
    pair: Pair, weight_map: WeightMap, inputs: Mapping[str, np.ndarray], setting: Setting
) -> dict[str, Any]:
    """What the prover must know of inputs and dynamic sizes, as in translation.json."""
    dynamic: dict[str, dict[str, Any]] = {}
    for spec in weight_map.inputs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str) and size not in dynamic:
                low, high = pair.limits(setting.model).get(size, (1, None))
                dynamic[size] = {
                    "name": size,
                    "input": spec.name,
                    "axis": axis,
                    "example": inputs[str(spec.name)].shape[axis],
                    "min": low,
                    "max": high,
                }
    return {
        "name": pair.name,
        "dynamic": dynamic,
        "example_inputs": [_about(spec, inputs[str(spec.name)]) for spec in weight_map.inputs],
    }


def _about(spec: TensorSpec, array: np.ndarray) -> dict[str, Any]:
    plain = array.astype(float)
    first = array[(0,) * array.ndim] if array.dtype.kind == "b" else None
    return {
        "name": spec.name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "min": float(plain.min()),
        "max": float(plain.max()),
        **({} if first is None else {"first": bool(first)}),
    }


def prove_pair(
    pair: Pair, setting: Setting, directory: Path, tell: Callable[[str], None] | None = None
) -> Proof:
    """Prove that a pair's two models, in the sizes of `setting`, are the same function.

    Writes proof.json into `directory`, beside what was proved. Raises BadInput where the two do not
    belong together at all.
    """
    import torch

    from diglot.parity.prove import prove

    torch.manual_seed(setting.recipe.seed)
    model = pair.torch().build_model(**setting.model)
    proof = prove(HandWritten(pair, setting, directory, model), progress=tell)
    write_whole(directory / "proof.json", proof.to_json())
    return proof
