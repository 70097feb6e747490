"""Layers around a layer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from diglot.frontends.keras_layers.records import LayerCall, Sample, Weight, bare, layer, own_call

#: Layers that treat the steps of a sequence alike as they are.
_STEPWISE = frozenset(
    "Dense Activation ReLU LeakyReLU ELU Dropout Embedding Identity Rescaling".split()
)


def _has_batch_norm(own: Any) -> bool:
    return any(type(part).__name__ == "BatchNormalization" for part in own._flatten_layers())


def _time_distributed(
    run: LayerCall, inputs: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    inner = run.layer.layer
    takes_mask = inner._call_has_mask_arg and mask is not None
    if type(inner).__name__ in _STEPWISE and not takes_mask:
        return run.apply(inner, inputs)
    if _has_batch_norm(inner):  # each step has statistics of its own
        steps = [
            run.apply(inner, inputs[:, i], **({"mask": mask[:, i]} if takes_mask else {}))
            for i in range(inputs.shape[1])
        ]
        return torch.stack(steps, dim=1)
    options = {"mask": mask.flatten(0, 1)} if takes_mask and mask is not None else {}
    made = run.apply(inner, inputs.flatten(0, 1), **options)
    return made.unflatten(0, (inputs.shape[0], inputs.shape[1]))


def _timed(make: Any, shape: str, **options: Any) -> Sample:
    return Sample(lambda keras: keras.layers.TimeDistributed(make(keras)), (shape,), **options)


layer(
    "TimeDistributed",
    inner="layer",
    call=_time_distributed,
    samples=(
        _timed(lambda keras: keras.layers.Dense(4), "2,5,3"),
        _timed(lambda keras: keras.layers.Conv2D(4, 3), "2,3,5,6,3"),
        _timed(lambda keras: keras.layers.LSTM(4), "2,3,5,4"),
        _timed(lambda keras: keras.layers.BatchNormalization(), "4,3,5"),
        _timed(
            lambda keras: keras.Sequential(
                [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
            ),
            "2,5,3",
        ),
    ),
)


own_call(
    "SpectralNormalization",
    *(
        Sample(
            lambda keras, make=make, options=options: keras.layers.SpectralNormalization(
                make(keras), *options
            ),
            (shape,),
        )
        for make, shape, options in (
            (lambda keras: keras.layers.Dense(4), "2,5", ()),
            (lambda keras: keras.layers.Conv2D(4, 3), "2,5,6,3", (2,)),
        )
    ),
)
own_call("Wrapper Layer InputSpec Input Pipeline")


class UntiedEmbedding(torch.nn.Module):
    """An embedding, and the linear layer that leads back from vectors to the vocabulary."""

    def __init__(self, embedding: torch.nn.Module, reverse: torch.nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.reverse = reverse


def _reversible_module(own: Any) -> torch.nn.Module:
    embedding = bare(torch.nn.Embedding, *own._embeddings.shape)
    if own.tie_weights:
        return embedding
    rows, width = own._embeddings.shape
    return UntiedEmbedding(embedding, bare(torch.nn.Linear, width, rows, bias=False))


def _reversible(run: LayerCall, inputs: torch.Tensor, reverse: bool = False) -> torch.Tensor:
    tied = run.layer.tie_weights
    if not reverse:
        return (run.module if tied else run.part("embedding"))(inputs.to(torch.int64))
    logits = F.linear(inputs, run.module.weight) if tied else run.part("reverse")(inputs)
    cap = run.layer.logit_soft_cap
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _reversible_mask(own: Any, inputs: Any, reverse: bool = False) -> Any:
    return inputs != 0 if own.mask_zero and not reverse else None


def _reversible_weights(own: Any) -> list[Weight]:
    if own.tie_weights:
        return [Weight("embeddings", "weight")]
    reverse = Weight("reverse_embeddings", "reverse.weight", (("permute", (1, 0)),))
    return [Weight("embeddings", "embedding.weight"), reverse]


def _averaged(x: Any) -> Any:
    """What a layer that heeds masks makes of vectors."""
    import keras

    return keras.layers.GlobalAveragePooling1D()(x)


layer(
    "ReversibleEmbedding",
    when=lambda own: own.reverse_dtype is None,
    make=_reversible_module,
    call=_reversible,
    weights=_reversible_weights,
    mask=_reversible_mask,
    samples=(
        Sample(
            lambda keras: keras.layers.ReversibleEmbedding(9, 4),
            ("int[2,5]<9",),
            lambda own, ids: own(own(ids), reverse=True),
        ),
        Sample(
            lambda keras: keras.layers.ReversibleEmbedding(9, 4, tie_weights=False),
            ("int[2,5]<9",),
            lambda own, ids: own(own(ids), reverse=True),
        ),
        Sample(
            lambda keras: keras.layers.ReversibleEmbedding(9, 4, tie_weights=False, mask_zero=True),
            ("int[2,5]<9",),
            lambda own, ids: own(own(ids), reverse=True),
        ),
        Sample(
            lambda keras: keras.layers.ReversibleEmbedding(3, 4, mask_zero=True),
            ("int[2,5]<3",),
            lambda own, ids: own(_averaged(own(ids)), reverse=True),
        ),
    ),
)
