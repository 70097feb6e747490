"""Compare a Keras model with its mirror: outputs, gradients, weights there and back, in float64."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from diglot.frontends.keras_model import Mirror, mirror


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Make Keras compute in a float dtype within the block."""
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def array(text: str, rng: np.random.Generator, dtype: str = "float64") -> np.ndarray:
    """Make an array of ``"2,3,5"``, ``"int[2,5]<7"`` or ``"bool[2,5]"``."""
    match = re.fullmatch(r"(int|bool)\[([\d,]+)\](?:<(\d+))?", text)
    if match is None:
        return rng.normal(size=[int(n) for n in text.split(",")]).astype(dtype)
    shape = [int(n) for n in match[2].split(",")]
    if match[1] == "bool":
        made = rng.random(shape) < 0.6
        made[..., 0] = True
        return made
    return rng.integers(0, int(match[3] or 10), shape).astype("int32")


def randomise(model: Any, seed: int = 0) -> None:
    """Give every weight of a Keras model a random value, positive for variances."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" not in variable.dtype:
            continue
        value = rng.normal(size=variable.shape) * 0.3
        if "variance" in variable.path or "gamma" in variable.path:
            value = np.abs(value) + 0.5
        variable.assign(value)


def move_vectors(model: Any, seed: int = 0) -> None:
    """Move every vector and statistic of a Keras model off its initial 1 or 0; matrices stay as initialised.

    Deep networks keep their numbers within bounds this way, which wholly random weights would not.
    """
    import keras

    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" not in variable.dtype or len(variable.shape) != 1:
            continue
        if variable.path.endswith("variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        else:
            variable.assign(variable.numpy() + 0.2 * rng.normal(size=variable.shape))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with what it took from its weights then


def settle_statistics(model: Any, seed: int = 0) -> None:
    """Give batch norms the statistics of random images, moved by a tenth: those of nothing at all let no signal
    through a hundred layers.
    """
    import keras

    rng = np.random.default_rng(seed)
    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    images = rng.random((4, *model.input_shape[1:]), dtype="float32")
    if any(isinstance(x, keras.layers.Rescaling) for x in model.layers):
        images *= 255
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
        for variable in (norm.moving_mean, norm.moving_variance):
            variable.assign(variable.numpy() * rng.uniform(0.9, 1.1, variable.shape))


def as_torch(value: Any) -> torch.Tensor:
    array = np.asarray(value)
    return torch.from_numpy(array.astype("int64") if array.dtype == "int32" else array)


def call(module: torch.nn.Module, made: Mirror, values: list[np.ndarray]) -> Any:
    """Call a mirror's module on arrays in the order of its inputs."""
    tensors = [as_torch(v) for v in values]
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor.requires_grad_(True)
    if isinstance(made.example_inputs, dict):
        return module(**dict(zip(made.names, tensors, strict=True)))
    return module(*tensors)


def flat(value: Any) -> list[Any]:
    import keras

    return keras.tree.flatten(value)


def largest_gap(ours: Any, theirs: Any) -> float:
    """The largest difference of two structures of outputs, relative to the largest value."""
    gap = 0.0
    first, second = flat(ours), flat(theirs)
    assert len(first) == len(second), (len(first), len(second))
    for a, b in zip(first, second, strict=True):
        a = a.detach().numpy() if isinstance(a, torch.Tensor) else np.asarray(a)
        b = np.asarray(b)
        assert a.shape == b.shape, (a.shape, b.shape)
        if a.size:
            scale = max(1.0, float(np.max(np.abs(b))))
            gap = max(gap, float(np.max(np.abs(a.astype("float64") - b.astype("float64")))) / scale)
    return gap


def check_weights(model: Any, made: Mirror) -> None:
    """Every entry gives the Keras weight bit for bit from the mirror's state, and finds it by its path."""
    from diglot.codegen.weights import WeightMap, resolve

    state = {k: v.detach().numpy() for k, v in made.module.state_dict().items()}
    for entry in made.entries:
        kept = np.asarray(resolve(model, entry.target))
        given = entry.to_target([state[n] for n in entry.sources])
        assert np.array_equal(given, kept), entry.target
    targets = {e.target: np.asarray(resolve(model, e.target)) for e in made.entries}
    back = WeightMap(made.entries).invert(targets, state)
    for name, value in back.items():
        assert np.array_equal(value, state[name]), name


def check(
    model: Any,
    values: list[np.ndarray],
    keras_inputs: Any,
    random: bool = False,
    tolerance: float = 1e-9,
) -> Mirror:
    """Compare outputs in both modes, gradients by weights and inputs, and weights; return the mirror."""
    import tensorflow as tf

    made = mirror(model, keras_inputs)
    check_weights(model, made)
    for training in [False] if random else [False, True]:
        made.module.train(training)
        with tf.GradientTape() as tape:
            theirs = model(keras_inputs, training=training)
            loss = sum(
                tf.reduce_sum(tf.cast(t, "float64") * tf.cos(tf.cast(t, "float64")))
                for t in flat(theirs)
                if "float" in str(t.dtype)
            )
        weights = model.trainable_variables
        gradients = tape.gradient(loss, [w.value for w in weights]) if weights else []
        ours = call(made.module, made, values)
        gap = largest_gap(ours, [t.numpy() for t in flat(theirs)])
        assert gap < tolerance, f"training={training}: outputs differ by {gap}"
        check_gradients(made, ours, weights, gradients, model, tolerance)
    made.module.eval()
    return made


def check_gradients(
    made: Mirror, ours: Any, weights: list[Any], gradients: list[Any], model: Any, tolerance: float
) -> None:
    import tensorflow as tf

    from diglot.codegen.weights import resolve

    if not weights:
        return
    made.module.zero_grad()
    sum((t * torch.cos(t)).sum() for t in flat(ours) if t.is_floating_point()).backward()
    named = dict(made.module.named_parameters())
    by_id = {
        id(w): tf.convert_to_tensor(g).numpy()
        for w, g in zip(weights, gradients, strict=True)
        if g is not None
    }
    seen = 0
    for entry in made.entries:
        wanted = by_id.get(id(resolve(model, entry.target)))
        if wanted is None:
            continue
        grads = [
            named[n].grad.numpy() if named[n].grad is not None else np.zeros(tuple(named[n].shape))
            for n in entry.sources
        ]
        gap = largest_gap([entry.gradient_to_target(grads)], [wanted])
        assert gap < tolerance * 100, f"{entry.target}: gradients differ by {gap}"
        seen += 1
    assert seen == len(by_id), "a weight with a gradient has no entry"
