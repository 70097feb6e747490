"""What the attention of a trained model looks at: recorded in either framework, kept, and drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diglot.runtime.exchange import read_arrays, write_arrays
from diglot.training import Job, Task
from diglot.training.task import Arrays

_FILE = "attention.safetensors"


@dataclass(frozen=True)
class Attention:
    """The attention of one `kind` for one example: what to call it, its weights (layers, heads, queries,
    keys) from 0 to 1, and the tokens that are the queries and the keys."""

    kind: str
    heading: str
    weights: np.ndarray
    queries: Sequence[str]
    keys: Sequence[str]


def keep_attention(job: Job, found: Sequence[Attention]) -> dict[str, Any]:
    """Write the weights into the folder of a run; gives what `draw_attention_of` must know, for
    "attention" in the run's extras."""
    write_arrays(job.folder / _FILE, {part.kind: part.weights for part in found})
    return {
        part.kind: {"heading": part.heading, "queries": [*part.queries], "keys": [*part.keys]}
        for part in found
    }


def draw_attention_of(runs: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """One picture, attention_KIND, of every kind that a run kept: each head of the first and of the last
    layer, all runs below each other."""
    from diglot.zoo.drawing import draw_attention, title

    kept = {label: run.get("extras", {}).get("attention", {}) for label, run in runs.items()}
    arrays = {label: read_arrays(folder / label / _FILE) for label in kept if kept[label]}
    for kind in dict.fromkeys(kind for parts in kept.values() for kind in parts):
        found = {label: weights[kind] for label, weights in arrays.items() if kind in weights}
        about = next(kept[label][kind] for label in found)
        rows = {
            f"{title(label)}, layer {layer % len(weights) + 1}": weights[layer]
            for layer in (0, -1)
            for label, weights in found.items()
        }
        path = folder / f"attention_{kind}"
        draw_attention(path, rows, about["queries"], about["keys"], about["heading"])


def attention_weights(task: Task, job: Job, model: Any, inputs: Arrays) -> list[np.ndarray]:
    """What the frameworks' own multi-head attentions look at when a live model is called on one
    example, in evaluation mode: (heads, queries, keys) of each, in the order of the calls."""
    if job.framework == "torch":
        from diglot.training.torch_loop import predict

        with _torch_recorded(model) as found:
            predict(model, inputs)
    else:
        from diglot.training.keras_loop import given

        with _keras_recorded() as found:
            # Called eagerly: in predict() the weights would be symbols.
            model(given(task, inputs), training=False)
    return [np.asarray(weights)[0] for weights in found]


@contextlib.contextmanager
def _torch_recorded(model: Any) -> Iterator[list[Any]]:
    """Within the block every nn.MultiheadAttention of a model is asked for the weights of its heads."""
    from torch import nn

    found: list[Any] = []

    def ask(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "need_weights": True, "average_attn_weights": False}

    # nn.TransformerEncoderLayer takes no short cut past its attention where there are hooks.
    handles: list[Any] = []
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            handles.append(module.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(
                module.register_forward_hook(lambda module, args, out: found.append(out[1]))
            )
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _keras_recorded() -> Iterator[list[Any]]:
    """Within the block every MultiHeadAttention is asked for its weights, and still gives its output
    alone."""
    import keras

    layer = keras.layers.MultiHeadAttention
    original = layer.call
    found: list[Any] = []

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = original(self, *args, **{**kwargs, "return_attention_scores": True})
        found.append(weights)
        return output

    layer.call = call
    try:
        yield found
    finally:
        layer.call = original
