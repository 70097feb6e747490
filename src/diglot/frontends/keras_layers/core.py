"""Dense layers, embeddings, and layers that do nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, Weight, bare, layer

_TRANSPOSED = (("permute", (1, 0)),)


def _dense(dense: Any) -> nn.Module:
    inputs, units = dense._kernel.shape
    return bare(nn.Linear, inputs, units, bias=dense.use_bias)


def _dense_weights(dense: Any) -> list[Weight]:
    bias = [Weight("bias", "bias")] if dense.use_bias else []
    return [Weight("kernel", "weight", _TRANSPOSED), *bias]


def _run_then_activate(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return run.activate(run.module(x))


layer(
    "Dense",
    make=_dense,
    call=_run_then_activate,
    weights=_dense_weights,
    activates=True,
    samples=(
        Sample(lambda keras: keras.layers.Dense(5)),
        Sample(lambda keras: keras.layers.Dense(5, activation="relu"), ("2,3,4,6",)),
        Sample(
            lambda keras: keras.layers.Dense(4, use_bias=False, activation="softmax"), ("2,3,6",)
        ),
        Sample(
            lambda keras: keras.layers.Dense(4, activation=keras.layers.LeakyReLU()),
            ("2,3",),
            tolerance=1e-7,
        ),
    ),
)


def _embedding(embedding: Any) -> nn.Module:
    return bare(nn.Embedding, *embedding._embeddings.shape)


def run_embedding(run: LayerCall, inputs: torch.Tensor) -> torch.Tensor:
    """Look up the rows of a table; Keras's ids may be of any integer type, those of torch are int64."""
    return run.module(inputs.to(torch.int64))


layer(
    "Embedding",
    make=_embedding,
    call=run_embedding,
    weights=lambda embedding: [Weight("embeddings", "weight")],
    samples=(
        Sample(lambda keras: keras.layers.Embedding(9, 5), ("int[2,4]<9",)),
        Sample(lambda keras: keras.layers.Embedding(9, 5, mask_zero=True), ("int[2,4]<9",)),
    ),
)


def _nothing(run: LayerCall, *values: Any, **_: Any) -> Any:
    return values[0]


layer(
    "Identity",
    make=lambda _: nn.Identity(),
    samples=(Sample(lambda keras: keras.layers.Identity()),),
)
layer("InputLayer", call=_nothing)
layer(
    "ActivityRegularization",
    call=_nothing,
    samples=(Sample(lambda keras: keras.layers.ActivityRegularization(l1=0.1)),),
)


def _run_masking(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    kept = (x != run.layer.mask_value).any(dim=-1, keepdim=True)
    return x * kept.to(x.dtype)


layer(
    "Masking",
    call=_run_masking,
    samples=(Sample(lambda keras: keras.layers.Masking(0.0), ("2,5,3",)),),
)
