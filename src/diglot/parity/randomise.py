"""Random weights that leave nothing hidden behind a one or a zero, and activations sane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

STATISTICS = ("running_mean", "running_var")
BIASES = ("bias", "beta", "in_proj_bias")


def randomise(
    state: Mapping[str, np.ndarray], parameters: Mapping[str, object], seed: int
) -> dict[str, np.ndarray]:
    """New values (float64) for the float entries of `state`, reproducible from `seed`.

    `parameters` names the entries that are parameters; two names with the same object are one
    weight and get the same values. Matrices and kernels become normal, scaled by fan-in; what
    multiplies (norm weights, layer scales) 1 ± 0.3; biases and running means normal, 0.1 and 0.3
    wide; running variances between 0.5 and 2. Other buffers (tables, masks) keep their values, as
    do rows of a matrix that are zero among others that are not (padding).
    """
    result: dict[str, np.ndarray] = {}
    made: dict[int, np.ndarray] = {}
    for number, (name, array) in enumerate(state.items()):
        if array.dtype.kind != "f":
            continue
        generator = np.random.default_rng([seed, number])
        last = name.rpartition(".")[2]
        if name in parameters:
            key = id(parameters[name])
            if key not in made:
                made[key] = _parameter(last, array, generator)
            result[name] = made[key]
        elif last == "running_mean":
            result[name] = 0.3 * generator.standard_normal(array.shape)
        elif last == "running_var":
            result[name] = generator.uniform(0.5, 2.0, array.shape)
    return result


def _parameter(last: str, array: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    normal = generator.standard_normal(array.shape)
    if last in BIASES or last.startswith("bias"):
        return 0.1 * normal
    extent = tuple(size for size in array.shape if size > 1)
    if array.ndim >= 2 and len(extent) >= 2:
        values = normal / np.sqrt(max(np.prod(array.shape[1:]), 1))
        empty = ~np.any(array.reshape(len(array), -1), axis=1)
        if array.ndim == 2 and empty.any() and not empty.all():
            values[empty] = 0.0
        return values
    scale = float(np.abs(array).mean()) if array.size else 0.0
    factor = 1.0 + 0.3 * (2.0 * generator.random(array.shape) - 1.0)
    # A layer scale of 1e-6 would hide the whole branch that it multiplies.
    return (scale if 0.1 <= scale <= 10.0 else 0.5) * factor


def perturb(
    state: Mapping[str, np.ndarray],
    parameters: Mapping[str, object],
    seed: int,
    amount: float = 1e-2,
) -> Iterator[tuple[str, np.ndarray]]:
    """The parameters of `state`, each moved by about `amount` of its own size (or of 1, if 0), one
    after the other."""
    names = Counter(id(parameter) for parameter in parameters.values())
    made: dict[int, np.ndarray] = {}
    for number, name in enumerate(parameters):
        array, key = state[name], id(parameters[name])
        if key not in made:
            generator = np.random.default_rng([seed, 101, number])
            scale = float(np.abs(array).mean()) if array.size else 0.0
            moved = array + amount * (scale or 1.0) * generator.standard_normal(array.shape)
            if names[key] == 1:
                yield name, moved
                continue
            made[key] = moved  # another name is still to come
        yield name, made[key]
