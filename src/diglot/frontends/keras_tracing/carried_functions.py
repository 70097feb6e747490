"""Functions that a program written by Diglot carries: while it is traced, they are what PyTorch has for them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from diglot.carried import is_carried
from diglot.frontends.keras_tracing.tensor import unwrap, wrap

Tensor = torch.Tensor


class Otherwise(Exception):
    """PyTorch has nothing for these arguments: the carried function itself runs."""


def _resize(modes: Sequence[str], corners: bool) -> Callable:
    def resize(
        x: Tensor,
        size: Sequence[Any],
        scales: Sequence[float] | None = None,
        align_corners: bool = False,
        exact: bool = False,
    ) -> Tensor:
        mode = modes[x.dim() - 3] + ("-exact" if exact else "")
        options: dict[str, Any] = {"align_corners": align_corners} if corners else {}
        if scales is None:
            return F.interpolate(x, list(size), mode=mode, **options)
        made = F.interpolate(x, scale_factor=[_factor(s) for s in scales], mode=mode, **options)
        if list(made.shape[2:]) != list(size):
            raise Otherwise
        return made

    return resize


def _factor(scale: float) -> float:
    """The factor, as short as a person gives it, of which ``scale`` is the inverse."""
    found = (round(1.0 / scale, digits) for digits in range(1, 16))
    return next((f for f in found if f and 1.0 / f == scale), 1.0 / scale)


def _adaptive_pool(kind: str) -> Callable:
    def pool(x: Tensor, size: Sequence[int]) -> Tensor:
        return getattr(F, f"adaptive_{kind}_pool{x.dim() - 2}d")(x, tuple(size))

    return pool


def _pad(mode: str) -> Callable:
    def pad(x: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
        batch, *positions, channels = [tuple(w) for w in widths]
        if {batch, channels} != {(0, 0)} or x.dim() not in (3, 4, 5):
            raise Otherwise
        return F.pad(x, [n for pair in reversed(positions) for n in pair], mode=mode)

    return pad


def _variance(x: Tensor, axis: Any = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    return torch.var(x, axis, correction=correction, keepdim=keepdims)


def _cosine(x: Tensor, y: Tensor, axis: int = 1, epsilon: float = 1e-8) -> Tensor:
    return F.cosine_similarity(x, y, dim=axis, eps=epsilon)


def _norm(x: Tensor, order: float, axis: Any = None, keepdims: bool = False) -> Tensor:
    return torch.linalg.vector_norm(x, order, axis, keepdim=keepdims)


def _top_k(x: Tensor, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    values, indices = torch.topk(x, k, axis, largest)
    return values, indices


def _last_sizes(x: Tensor, axes: Any) -> list[int]:
    """The sizes of the last axes; another choice of axes is none that PyTorch normalises over."""
    chosen = [axes] if isinstance(axes, int) else list(axes)
    sizes = list(x.shape[x.dim() - len(chosen) :])
    if sorted(a % x.dim() for a in chosen) != list(range(x.dim() - len(chosen), x.dim())):
        raise Otherwise
    if not all(isinstance(size, int) for size in sizes):
        raise Otherwise
    return sizes


def _layer_norm(x: Tensor, axes: Any, epsilon: float) -> Tensor:
    return F.layer_norm(x, _last_sizes(x, axes), eps=epsilon)


def _rms_norm(x: Tensor, axes: Any, epsilon: float) -> Tensor:
    return F.rms_norm(x, _last_sizes(x, axes), eps=epsilon)


def _group_norm(x: Tensor, groups: int, epsilon: float) -> Tensor:
    return F.group_norm(x, groups, eps=epsilon)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: Any = None,
    *,
    training: Any,
) -> Tensor:
    if bias is not None and (mask is not None or is_causal):
        raise Otherwise
    if is_causal and mask is not None:
        ahead = torch.arange(query.shape[-2]).unsqueeze(-1) >= torch.arange(key.shape[-2])
        mask, is_causal = mask & ahead, False
    rate = float(dropout.rate) if dropout is not None and training else 0.0
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask if bias is None else bias,
        dropout_p=rate,
        is_causal=is_causal,
        scale=scale,
    )


_ON_IMAGES: dict[str, Callable] = {
    "adaptive_average_pool": _adaptive_pool("avg"),
    "adaptive_max_pool": _adaptive_pool("max"),
    "pixel_shuffle": F.pixel_shuffle,
    "pixel_unshuffle": F.pixel_unshuffle,
    "channel_shuffle": torch.channel_shuffle,
    "resize_nearest": _resize(["nearest"] * 3, corners=False),
    "resize_linear": _resize(["linear", "bilinear", "trilinear"], corners=True),
    "resize_cubic": _resize(["", "bicubic", ""], corners=True),
    "pad_replicate": _pad("replicate"),
    "pad_circular": _pad("circular"),
    "group_normalize": _group_norm,
}
_PLAIN: dict[str, Callable] = {
    "sample_variance": _variance,
    "cosine_similarity": _cosine,
    "vector_norm": _norm,
    "top_k_along": _top_k,
    "layer_normalize": _layer_norm,
    "rms_normalize": _rms_norm,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "threshold": F.threshold,
    "scaled_dot_product_attention": _attention,
}


def _on_images(function: Callable, x: Tensor, *args: Any, **options: Any) -> Tensor:
    """A function of channels-first images, on channels-last ones."""
    last = x.dim() - 1
    made = function(x.permute(0, last, *range(1, last)), *args, **options)
    return made.permute(0, *range(2, last + 1), 1)


def _instead(carried: Callable, training: Any) -> Callable:
    """PyTorch's own, as a function of tracers."""
    name = carried.__name__
    images = name in _ON_IMAGES
    function = functools.partial(_on_images, _ON_IMAGES[name]) if images else _PLAIN[name]
    if function is _attention:
        function = functools.partial(_attention, training=training)

    @functools.wraps(carried)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return wrap(function(*unwrap(list(args)), **unwrap(options)))
        except Otherwise:
            return carried(*args, **options)

    return call


@contextlib.contextmanager
def installed(function: Callable, training: Any) -> Iterator[None]:
    """Let the module of a method call PyTorch's own functions for those that it carries.

    ``training`` is true while the method's layer trains.
    """
    scope = getattr(function, "__globals__", {})
    names = {*_ON_IMAGES, *_PLAIN}.intersection(scope)
    found = {name: scope[name] for name in names if is_carried(scope[name])}
    scope.update({name: _instead(carried, training) for name, carried in found.items()})
    try:
        yield
    finally:
        scope.update(found)
