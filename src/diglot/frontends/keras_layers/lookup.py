"""``IntegerLookup``: numbers by their place in a vocabulary."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, layer


class IntegerLookup(nn.Module):
    """The place of each number in a vocabulary; ``unknown`` for a number that is not in it."""

    vocabulary: torch.Tensor  # in order
    places: torch.Tensor

    def __init__(self, vocabulary: np.ndarray, places: np.ndarray, unknown: int) -> None:
        super().__init__()
        self.register_buffer("vocabulary", torch.from_numpy(vocabulary))
        self.register_buffer("places", torch.from_numpy(places))
        self.unknown = unknown

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nearest = torch.bucketize(x, self.vocabulary).clamp(max=len(self.vocabulary) - 1)
        return torch.where(self.vocabulary[nearest] == x, self.places[nearest], self.unknown)


class InverseLookup(nn.Module):
    """The number at each place of a vocabulary."""

    vocabulary: torch.Tensor

    def __init__(self, vocabulary: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("vocabulary", torch.from_numpy(vocabulary))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.vocabulary[x]


def _known(own: Any) -> np.ndarray:
    return np.asarray(own.get_vocabulary(include_special_tokens=False), np.int64)


def _make(own: Any) -> nn.Module:
    if own.invert:
        return InverseLookup(np.asarray(own.get_vocabulary(), np.int64))
    known, first = _known(own), own._token_start_index()
    order = np.argsort(known, kind="stable")
    keys, places = known[order], order + first
    if own.mask_token is not None:
        at = int(np.searchsorted(keys, own.mask_token))
        keys, places = np.insert(keys, at, own.mask_token), np.insert(places, at, 0)
    return IntegerLookup(keys, places, own._oov_start_index() if own.num_oov_indices else -1)


def _refused(own: Any) -> str | None:
    if own.num_oov_indices > 1:
        return "it spreads unknown numbers over several places: look ids up in Python (layer.get_vocabulary())"
    if own.output_mode == "tf_idf":
        return (
            "it weighs by how rare each number is: look ids up in Python (layer.get_vocabulary())"
        )
    if not len(_known(own)):
        return "it has no vocabulary yet: give it one, or adapt it to data"
    return None


def _run(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    from keras.src.utils.numerical_utils import encode_categorical_inputs

    own = run.layer
    places = run.module(x.long())
    if own.output_mode == "int":
        return places
    depth = own.max_tokens if own.pad_to_max_tokens else len(own.get_vocabulary())
    return run.apply(
        encode_categorical_inputs, places, output_mode=own.output_mode, depth=depth, dtype="float32"
    )


def _sample(shape: str = "int[3,4]<9", **options: Any) -> Sample:
    vocabulary = [7, 1, 4, 3]
    return Sample(
        lambda keras: keras.layers.IntegerLookup(vocabulary=vocabulary, **options), (shape,)
    )


layer(
    "IntegerLookup",
    make=_make,
    call=_run,
    refuse=_refused,
    samples=(
        _sample(),
        _sample(mask_token=0),
        _sample(output_mode="multi_hot"),
        _sample(output_mode="count", max_tokens=8, pad_to_max_tokens=True),
        _sample(invert=True, shape="int[3,4]<5"),
    ),
)
