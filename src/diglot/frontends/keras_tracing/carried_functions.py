"""Functions that a program written by Diglot carries: while it is traced, they are what PyTorch has for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional as F

from diglot.carried import is_carried
from diglot.frontends.keras_tracing.tensor import unwrap, wrap


def _on_images(function: Callable) -> Callable:
    """A function of channels-first images, as one of channels-last tracers."""

    def call(x: Any, *args: Any) -> Any:
        image: torch.Tensor = unwrap(x)
        last = image.dim() - 1
        made = function(image.permute(0, last, *range(1, last)), *unwrap(list(args)))
        return wrap(made.permute(0, *range(2, last + 1), 1))

    return call


def _adaptive_average_pool(x: torch.Tensor, size: Any) -> torch.Tensor:
    pools = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
    return pools[x.dim() - 2](x, tuple(size))


_FUNCTIONS: dict[str, Callable] = {
    "adaptive_average_pool": _on_images(_adaptive_average_pool),
    "pixel_shuffle": _on_images(F.pixel_shuffle),
}


@contextlib.contextmanager
def installed(function: Callable) -> Iterator[None]:
    """Let the module of a method call PyTorch's own functions for those that it carries."""
    scope = getattr(function, "__globals__", {})
    found = {n: scope[n] for n in _FUNCTIONS if n in scope and is_carried(scope[n])}
    scope.update({name: _FUNCTIONS[name] for name in found})
    try:
        yield
    finally:
        scope.update(found)
