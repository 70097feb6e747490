"""Run hand-written twins on weights and inputs from npz files, in a process without PyTorch.

python run_twin.py reads jobs from stdin, one JSON array a line, and answers each with a line, "done" or an error:

    ["TWIN.py", "ARRAYS.npz", "OUTPUT.npz", {"keyword": of build_model}]

ARRAYS holds `weight:NAME` for every entry of the PyTorch state_dict, and `input:0`, `input:1`, …
as the twin takes them. OUTPUT receives `output`, and `reloaded`: the output after saving the
model as .keras and loading it again.
"""

import importlib.util
import json
import sys
import traceback
from pathlib import Path

import keras
import numpy as np

# PyTorch's name -> Keras's, and the axes to permute for the ranks where they differ.
SUFFIXES = {
    "BatchNormalization": {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
    "Embedding": {"weight": "embeddings"},
}
KERNEL = {"weight": "kernel", "bias": "bias"}
PERMUTATIONS = {2: (1, 0), 4: (2, 3, 1, 0)}


def walk(layer, path: list[str]):
    """The layer that `path` names; a number indexes a list or a Sequential."""
    for part in path:
        if isinstance(layer, keras.Sequential):
            layer = layer.layers[int(part)]
        elif part.isdigit():
            layer = layer[int(part)]
        else:
            layer = getattr(layer, part)
    if isinstance(layer, keras.Sequential):  # padding and its convolution
        layer = layer.layers[-1]
    return layer


def assign(root, name: str, value: np.ndarray) -> None:
    """Put the PyTorch weight `name` where the twin keeps it."""
    *path, last = name.split(".")
    layer = walk(root, path)
    kind = type(layer).__name__
    if kind not in ("Dense", "Conv2D", "Conv2DTranspose", *SUFFIXES):
        getattr(layer, last).assign(value)
        return
    if kind != "Embedding" and value.ndim in PERMUTATIONS:
        value = value.transpose(PERMUTATIONS[value.ndim])
    getattr(layer, SUFFIXES.get(kind, KERNEL)[last]).assign(value)


def run(twin: str, arrays: str, output: str, options: dict) -> None:
    """Do one job, as in a new process: nothing that an earlier twin registered is known."""
    keras.saving.get_custom_objects().clear()
    keras.backend.clear_session()
    spec = importlib.util.spec_from_file_location("twin", twin)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.build_model(**options)
    root = next(layer for layer in model.layers if layer.weights)

    data = np.load(arrays)
    names = [key.removeprefix("weight:") for key in data if key.startswith("weight:")]
    for name in names:
        assign(root, name, data[f"weight:{name}"])
    inputs = [data[f"input:{i}"] for i in range(sum(key.startswith("input:") for key in data))]
    inputs = inputs if len(inputs) > 1 else inputs[0]

    kept = Path(output).with_suffix(".keras")
    model.save(kept)
    again = keras.models.load_model(kept)
    assert len(model.weights) == len(names), (len(model.weights), len(names))
    np.savez(output, output=model(inputs), reloaded=again(inputs))


def main() -> None:
    assert "torch" not in sys.modules
    for line in sys.stdin:
        try:
            run(*json.loads(line))
        except Exception:
            print(json.dumps(traceback.format_exc()), flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    main()
