"""Activations: the functions of ``keras.activations`` and the layers made of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.keras_layers.records import LayerCall, Sample, Weight, bare, layer


def _softmax(x: torch.Tensor) -> torch.Tensor:
    return F.softmax(x, dim=-1)


#: Name in keras.activations -> torch function, torch module.
_STOCK: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[[], nn.Module]]] = {
    "relu": (F.relu, nn.ReLU),
    "relu6": (F.relu6, nn.ReLU6),
    "gelu": (F.gelu, nn.GELU),
    "sigmoid": (torch.sigmoid, nn.Sigmoid),
    "tanh": (torch.tanh, nn.Tanh),
    "silu": (F.silu, nn.SiLU),
    "elu": (F.elu, nn.ELU),
    "selu": (F.selu, nn.SELU),
    "celu": (F.celu, nn.CELU),
    "mish": (F.mish, nn.Mish),
    "softplus": (F.softplus, nn.Softplus),
    "softsign": (F.softsign, nn.Softsign),
    "softmax": (_softmax, functools.partial(nn.Softmax, dim=-1)),
    "log_softmax": (
        lambda x: F.log_softmax(x, dim=-1),
        functools.partial(nn.LogSoftmax, dim=-1),
    ),
    "log_sigmoid": (F.logsigmoid, nn.LogSigmoid),
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.2),
        functools.partial(nn.LeakyReLU, 0.2),
    ),
    "hard_sigmoid": (F.hardsigmoid, nn.Hardsigmoid),
    "hard_silu": (F.hardswish, nn.Hardswish),
    "hard_tanh": (F.hardtanh, nn.Hardtanh),
    "hard_shrink": (F.hardshrink, nn.Hardshrink),
    "soft_shrink": (F.softshrink, nn.Softshrink),
    "tanh_shrink": (F.tanhshrink, nn.Tanhshrink),
}


@functools.cache
def _by_function() -> dict[int, str]:
    import keras

    return {id(getattr(keras.activations, name)): name for name in _STOCK}


def is_linear(function: Any) -> bool:
    """Tell whether an activation does nothing."""
    import keras

    return function is None or function is keras.activations.linear


def name_of(function: Any) -> str | None:
    """Return the name of a function of Keras's that PyTorch has, too; None for any other."""
    return _by_function().get(id(function))


def function_named(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return PyTorch's function for such a name."""
    return _STOCK[name][0]


def activation_module(function: Any) -> nn.Module | None:
    """Return the torch module of an activation function, None for one that has no module (or does nothing)."""
    name = name_of(function)
    return _STOCK[name][1]() if name is not None else None


def activate(run: LayerCall, function: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply an activation (a function of Keras's or the author's, or a layer)."""
    if is_linear(function):
        return x
    name = name_of(function)
    return function_named(name)(x) if name is not None else run.apply(function, x)


# --- layers ----------------------------------------------------------------------------------------------


def _run_activation(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return run.module(x) if run.module is not None else activate(run, run.layer.activation, x)


def _sample(make: Callable[[Any], Any], shape: str = "2,3,5") -> tuple[Sample, ...]:
    return (Sample(make, (shape,), tolerance=1e-7),)


layer(
    "Activation",
    make=lambda a: activation_module(a.activation),
    call=_run_activation,
    samples=(
        Sample(lambda keras: keras.layers.Activation("gelu"), tolerance=1e-6),
        Sample(lambda keras: keras.layers.Activation("squareplus")),
        Sample(lambda keras: keras.layers.Activation(lambda x: keras.ops.tanh(x) * 2)),
    ),
)


def _relu_module(relu: Any) -> nn.Module | None:
    slope, top, threshold = float(relu.negative_slope), relu.max_value, float(relu.threshold)
    if threshold or (top is not None and (slope or top != 6)):
        return None
    if top is not None:
        return nn.ReLU6()
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _relu(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    if run.module is not None:
        return run.module(x)
    own = run.layer
    return general_relu(x, float(own.negative_slope), own.max_value, float(own.threshold))


def general_relu(x: torch.Tensor, slope: float, top: Any, threshold: float) -> torch.Tensor:
    """Keras's relu with all its settings."""
    if threshold:
        below = slope * (x - threshold) if slope else torch.zeros_like(x)
        x = torch.where(x >= threshold, x, below)
    else:
        x = F.leaky_relu(x, slope) if slope else F.relu(x)
    return x if top is None else torch.clamp(x, max=float(top))


layer(
    "ReLU",
    make=_relu_module,
    call=_relu,
    samples=(
        *_sample(lambda keras: keras.layers.ReLU()),
        *_sample(lambda keras: keras.layers.ReLU(6.0)),
        *_sample(lambda keras: keras.layers.ReLU(1.5, 0.1, 0.2)),
        *_sample(lambda keras: keras.layers.ReLU(negative_slope=0.3)),
    ),
)
layer(
    "LeakyReLU",
    make=lambda a: nn.LeakyReLU(float(a.negative_slope)),
    samples=_sample(lambda keras: keras.layers.LeakyReLU()),
)
layer(
    "ELU",
    make=lambda a: nn.ELU(float(a.alpha)),
    samples=_sample(lambda keras: keras.layers.ELU(0.7)),
)


def _softmax_module(softmax: Any) -> nn.Module | None:
    return nn.Softmax(dim=softmax.axis) if isinstance(softmax.axis, int) else None


def _run_softmax(
    run: LayerCall, inputs: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    axis = run.layer.axis
    if mask is None:
        return run.module(inputs) if run.module is not None else _over_axes(inputs, axis)
    kept = mask if mask.dtype == torch.bool else mask > 0.5
    # A large negative number, as in Keras, not -inf: a row that is masked throughout has no sum of zero.
    inputs = torch.where(kept, inputs, -3e4 if inputs.dtype == torch.float16 else -1e9)
    made = run.module(inputs) if run.module is not None else _over_axes(inputs, axis)
    return torch.where(kept, made, 0.0)


def _over_axes(x: torch.Tensor, axes: Any) -> torch.Tensor:
    from diglot.frontends.keras_ops.nn import softmax

    return softmax(x, tuple(axes))


layer(
    "Softmax",
    make=_softmax_module,
    call=_run_softmax,
    samples=(
        *_sample(lambda keras: keras.layers.Softmax()),
        *_sample(lambda keras: keras.layers.Softmax(axis=(1, 2)), "2,3,5"),
        Sample(
            lambda keras: keras.layers.Softmax(),
            ("2,3,5", "bool[2,1,5]"),
            call=lambda layer, x, mask: layer(x, mask=mask),
        ),
    ),
)


def _prelu_weights(prelu: Any) -> list[Weight]:
    return [Weight("alpha", "weight", (("reshape", tuple(prelu.alpha.shape)),))]


def _is_per_channel(prelu: Any) -> bool:
    """Whether there is one slope for each channel, or one for all, which is what nn.PReLU has."""
    return all(size == 1 for size in prelu.alpha.shape[:-1])


class PReLU(nn.Module):
    """A parametric ReLU with a slope for each position."""

    def __init__(self, *size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x) - self.weight * F.relu(-x)


def _prelu(prelu: Any) -> nn.Module:
    if _is_per_channel(prelu):
        return bare(nn.PReLU, prelu.alpha.shape[-1])
    return PReLU(*prelu.alpha.shape)


def _run_prelu(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    if not isinstance(run.module, nn.PReLU) or x.dim() == 2:
        return run.module(x)
    return run.module(x.movedim(-1, 1)).movedim(1, -1)


layer(
    "PReLU",
    make=_prelu,
    call=_run_prelu,
    weights=_prelu_weights,
    samples=(
        Sample(lambda keras: keras.layers.PReLU(), ("2,5",)),
        Sample(lambda keras: keras.layers.PReLU(shared_axes=[1, 2]), ("2,4,3,5",)),
        Sample(lambda keras: keras.layers.PReLU(), ("2,4,5",)),
    ),
)
