"""Random numbers: TensorFlow's streams are not torch's, so only their distribution is kept."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Constant, op


def _like(call: Call, sizes: Any, key: str = "dtype") -> tuple[list[Any], torch.dtype]:
    return values.ints(sizes), call.dtype(key)


@op("RandomUniform")
def random_uniform(call: Call, sizes: Any) -> Any:
    shape, dtype = _like(call, sizes)
    return torch.rand(shape, dtype=dtype)


@op("StatelessRandomUniform", "StatelessRandomUniformV2")
def stateless_random_uniform(call: Call, sizes: Any, *_: Any) -> Any:
    return random_uniform(call, sizes)


@op("RandomStandardNormal")
def random_normal(call: Call, sizes: Any) -> Any:
    shape, dtype = _like(call, sizes)
    return torch.randn(shape, dtype=dtype)


@op("StatelessRandomNormal", "StatelessRandomNormalV2")
def stateless_random_normal(call: Call, sizes: Any, *_: Any) -> Any:
    return random_normal(call, sizes)


@op("StatelessRandomGetKeyCounter", "StatelessRandomGetKeyCounterAlg")
def key_counter(call: Call, seed: Any) -> Any:
    return seed, seed, seed


@op("StatelessRandomGetAlg")
def algorithm(call: Call) -> Any:
    import numpy as np

    return Constant(np.asarray(1, np.int32))
