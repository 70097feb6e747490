"""Random norm weights, biases and statistics for the models of this folder."""

import functools

import torch
from torch import nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Move every vector and every running statistic of `model` off its initial 1 or 0, in place.

    A freshly built norm layer has scale 1, shift 0, mean 0 and variance 1: a translation that
    forgets one of them would still agree. Weights of rank two and more are left as initialised.
    Integer tensors (batch counters) and constant tables of higher rank are left alone too.

    Returns the model, for chaining.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or tensor.ndim > 1:
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return model


def seeded(factory):
    """Decorator for a factory of (model, example_inputs): fixed seed, vectors randomised."""

    @functools.wraps(factory)
    def build():
        torch.manual_seed(0)
        model, example_inputs = factory()
        return randomise(model), example_inputs

    return build
