"""Gradients of a Keras model, one way for each Keras backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# (inputs) -> (loss, what else to hand through); both made of backend tensors
Forward = Callable[[Sequence[Any]], tuple[Any, Any]]


def value_and_gradients(
    model: Any, forward: Forward, inputs: Sequence[np.ndarray], variables: Sequence[Any]
) -> tuple[Any, list[np.ndarray], list[np.ndarray | None]]:
    """Run `forward` once, and differentiate its loss.

    Gives what else `forward` returned, the gradient of every variable (zeros where the loss does
    not depend on it), and of every input (None for an input that is not float). The model's
    non-trainable variables hold their new values afterwards, as after an ordinary call.
    """
    import keras

    engines = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return engines[keras.backend.backend()](model, forward, inputs, variables)


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def _tensorflow(
    model: Any, forward: Forward, inputs: Sequence[np.ndarray], variables: Sequence[Any]
) -> tuple[Any, list[np.ndarray], list[np.ndarray | None]]:
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(array) for array in inputs]
    floats = [tensor for tensor, array in zip(tensors, inputs, strict=True) if _is_float(array)]
    with tf.GradientTape() as tape:
        tape.watch(floats)
        loss, rest = forward(tensors)
    targets = [variable.value for variable in variables]
    gradients = tape.gradient(
        loss, targets + floats, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # The gradient of an embedding comes as slices.
    dense = [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]
    of_inputs = iter(dense[len(targets) :])
    return (
        rest,
        dense[: len(targets)],
        [next(of_inputs) if _is_float(array) else None for array in inputs],
    )


def _jax(
    model: Any, forward: Forward, inputs: Sequence[np.ndarray], variables: Sequence[Any]
) -> tuple[Any, list[np.ndarray], list[np.ndarray | None]]:
    import jax
    import keras

    places = [i for i, array in enumerate(inputs) if _is_float(array)]
    others = [v for v in model.variables if all(v is not w for w in variables)]

    def loss_of(values: list[Any], floats: list[Any]) -> tuple[Any, tuple[Any, list[Any]]]:
        full: list[Any] = list(inputs)
        for place, tensor in zip(places, floats, strict=True):
            full[place] = tensor
        mapping = [*zip(variables, values, strict=True), *((v, v.value) for v in others)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            loss, rest = forward([keras.ops.convert_to_tensor(item) for item in full])
        states = [scope.get_current_value(variable) for variable in others]
        return loss, (rest, states)

    differentiate = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
    floats = [jax.numpy.asarray(inputs[place]) for place in places]
    (_, (rest, states)), (by_variable, by_input) = differentiate(
        [variable.value for variable in variables], floats
    )
    for variable, state in zip(others, states, strict=True):
        variable.assign(state)
    found = dict(zip(places, by_input, strict=True))
    return (
        rest,
        [np.asarray(gradient) for gradient in by_variable],
        [np.asarray(found[i]) if i in found else None for i in range(len(inputs))],
    )


def _torch(
    model: Any, forward: Forward, inputs: Sequence[np.ndarray], variables: Sequence[Any]
) -> tuple[Any, list[np.ndarray], list[np.ndarray | None]]:
    import keras
    import torch

    device = keras.src.backend.torch.core.get_device()
    tensors = [torch.as_tensor(array, device=device) for array in inputs]
    floats = [tensor.requires_grad_() for tensor in tensors if tensor.is_floating_point()]
    loss, rest = forward(tensors)
    targets = [variable.value for variable in variables]
    gradients = torch.autograd.grad(loss, targets + floats, allow_unused=True)
    dense = [
        np.zeros(tuple(target.shape), np.asarray(keras.ops.convert_to_numpy(target)).dtype)
        if gradient is None
        else gradient.detach().cpu().numpy()
        for gradient, target in zip(gradients, targets + floats, strict=True)
    ]
    of_inputs = iter(dense[len(targets) :])
    return (
        rest,
        dense[: len(targets)],
        [next(of_inputs) if tensor.is_floating_point() else None for tensor in tensors],
    )
