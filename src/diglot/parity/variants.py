"""The usual mistakes of a port, as changes to what PyTorch computes.

Each variant makes PyTorch's functions behave as a mistaken translation would. Where a module run
under a variant gives what the translation gives, the mistake is found, and not merely guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from diglot.parity.sides import FORWARD, Sides

Change = Callable[[Any, list[Any], dict[str, Any]], tuple[Any, list[Any], dict[str, Any]] | None]

_EPS_OF = {F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm}
_LINEAR = {F.linear}
_CONVS = {torch.conv1d, torch.conv2d, torch.conv3d, F.conv1d, F.conv2d, F.conv3d}
_POOLS = {F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d}
_FILLS = {torch.Tensor.masked_fill, torch.Tensor.masked_fill_, torch.masked_fill}
_SPREADS = {torch.std, torch.var, torch.Tensor.std, torch.Tensor.var}
_ACTIVATIONS = {F.relu, F.gelu, F.silu, torch.relu, torch.tanh, torch.sigmoid, torch.Tensor.relu}
_SCALINGS = {
    torch.Tensor.div,
    torch.Tensor.__truediv__,
    torch.div,
    torch.Tensor.mul,
    torch.Tensor.__mul__,
    torch.mul,
}
_SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax}


class Variant(TorchFunctionMode):
    """Applies `change` to every call of a function of PyTorch that it is for."""

    def __init__(self, change: Change) -> None:
        """`change(func, args, kwargs)` gives the call to make instead, or None to leave it."""
        super().__init__()
        self.change = change
        self.used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make the changed call."""
        changed = self.change(func, list(args), dict(kwargs or {}))
        if changed is None:
            return func(*args, **(kwargs or {}))
        self.used = True
        func, new_args, new_kwargs = changed
        return func(*new_args, **new_kwargs)


def variants(sides: Sides = FORWARD) -> Iterator[tuple[str, Change]]:
    """Every mistake known, with the words for it; the likeliest first. In a translation to PyTorch
    a variant does to the program what would make it its source."""
    keras, missing = sides.keras, sides.missing
    for eps in (1e-3, 1e-5, 1e-6, 1e-12, 1e-7, 1e-8, 0.0):
        yield f"another eps: {keras} computes with {eps:g}", _with_eps(eps)
    yield "the other GELU: one side uses the erf form, the other the tanh approximation", _gelu
    yield f"the bias {missing}", _without_bias
    yield "the weight is transposed", _transposed
    yield (
        'padding: "same" of TensorFlow pads one side more than the other when it strides, '
        "PyTorch's padding is symmetric",
        _same_padding,
    )
    yield f"padding: {keras} pads both sides the same, {sides.torch} one side more", _even_pad
    yield "padding: one side more than the other, but the wrong one", _swapped_pad
    yield "the mask is swapped: True keeps on one side and drops on the other", _swapped_mask
    yield f"the mask is ignored in {keras}", _without_mask
    yield "causal masking is on on one side only", _swapped_causal
    yield "std or var: biased on one side, unbiased on the other", _swapped_spread
    yield "batch norm: batch statistics on one side, running ones on the other", _swapped_norm_mode
    yield "average pooling counts the padding on one side only", _swapped_count
    yield "resizing: align_corners differs", _swapped_corners
    yield f"the attention scores are not scaled in {keras}", _unscaled
    yield f"the activation {missing}", _without_activation
    yield f"a multiplication or division by a constant {missing}", _without_scale
    for slope in (0.01, 0.2, 0.3):
        yield f"leaky ReLU: the slope of {keras} is {slope:g}", _with_slope(slope)
    for axis in (1, 2, 0):
        yield f"softmax over another axis ({axis} in {keras})", _softmax_over(axis)


def _named(func: Any, args: list[Any], kwargs: dict[str, Any], name: str, place: int) -> Any:
    """The value of one argument, by name or place; None where it is left out."""
    if name in kwargs:
        return kwargs[name]
    return args[place] if len(args) > place else None


def _replaced(
    args: list[Any], kwargs: dict[str, Any], name: str, place: int, value: Any
) -> tuple[list[Any], dict[str, Any]]:
    if name not in kwargs and len(args) > place:
        return [*args[:place], value, *args[place + 1 :]], kwargs
    return args, {**kwargs, name: value}


def _with_eps(eps: float) -> Change:
    def change(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if func not in _EPS_OF:
            return None
        bound = inspect.signature(func).bind(*args, **kwargs)
        bound.arguments["eps"] = eps
        return func, list(bound.args), bound.kwargs

    return change


def _gelu(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func is not F.gelu:
        return None
    other = "none" if kwargs.get("approximate") == "tanh" else "tanh"
    return func, args[:1], {**kwargs, "approximate": other}


def _without_bias(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func not in _LINEAR and func not in _CONVS:
        return None
    return func, *_replaced(args, kwargs, "bias", 2, None)


def _transposed(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func not in _LINEAR and func not in _CONVS:
        return None
    weight = _named(func, args, kwargs, "weight", 1)
    axes = (0, 1) if func in _LINEAR else (-2, -1)
    if weight.shape[axes[0]] != weight.shape[axes[1]]:
        return None
    return func, *_replaced(args, kwargs, "weight", 1, weight.transpose(*axes))


def _tuple(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (int(value),) * rank


def _same_padding(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Replace padding by TensorFlow's "same": the odd element goes to the end."""
    if func in _CONVS:
        x, weight = args[0], _named(func, args, kwargs, "weight", 1)
        kernel, place = tuple(weight.shape[2:]), 4
        stride = _named(func, args, kwargs, "stride", 3)
        dilation = _tuple(_named(func, args, kwargs, "dilation", 5) or 1, len(kernel))
        value = 0.0
    elif func in _POOLS:
        x = args[0]
        kernel = _tuple(_named(func, args, kwargs, "kernel_size", 1), x.ndim - 2)
        stride = _named(func, args, kwargs, "stride", 2) or kernel
        dilation, place = (1,) * len(kernel), 3
        value = float("-inf") if "max" in func.__name__ else 0.0
    else:
        return None
    steps = _tuple(stride or 1, len(kernel))
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[2:], kernel, steps, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        pads = [total // 2, total - total // 2, *pads]
    padded = F.pad(x, pads, value=value)
    return func, *_replaced([padded, *args[1:]], kwargs, "padding", place, 0)


def _even_pad(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return _repad(func, args, kwargs, lambda low, high: ((low + high + 1) // 2,) * 2)


def _swapped_pad(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return _repad(func, args, kwargs, lambda low, high: (high, low))


def _repad(func: Any, args: list[Any], kwargs: dict[str, Any], change: Any) -> Any:
    if func is not F.pad:
        return None
    pads = list(_named(func, args, kwargs, "pad", 1))
    pairs = [change(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
    return func, *_replaced(args, kwargs, "pad", 1, [size for pair in pairs for size in pair])


def _swapped_mask(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func in _FILLS:
        return func, *_replaced(args, kwargs, "mask", 1, ~_named(func, args, kwargs, "mask", 1))
    if func is torch.where and len(args) == 3:
        return func, [args[0], args[2], args[1]], kwargs
    if func is F.scaled_dot_product_attention:
        mask = _named(func, args, kwargs, "attn_mask", 3)
        if mask is not None and mask.dtype == torch.bool:
            return func, *_replaced(args, kwargs, "attn_mask", 3, ~mask)
    if func is F.multi_head_attention_forward:
        for name in ("key_padding_mask", "attn_mask"):
            mask = kwargs.get(name)
            if mask is not None and mask.dtype == torch.bool:
                kwargs = {**kwargs, name: ~mask}
        return func, args, kwargs
    return None


def _without_mask(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func in _FILLS:
        return (lambda x, *rest, **more: x), args, kwargs
    if func is F.scaled_dot_product_attention:
        return func, *_replaced(args, kwargs, "attn_mask", 3, None)
    if func is F.multi_head_attention_forward:
        return func, args, {**kwargs, "key_padding_mask": None, "attn_mask": None}
    return None


def _swapped_causal(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func is not F.scaled_dot_product_attention:
        return None
    causal = bool(_named(func, args, kwargs, "is_causal", 5))
    return func, *_replaced(args, kwargs, "is_causal", 5, not causal)


def _swapped_spread(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func not in _SPREADS:
        return None
    unbiased = kwargs.pop("unbiased", None)
    if len(args) > 2 and isinstance(args[2], bool):
        unbiased = args.pop(2)
    correction = kwargs.pop("correction", 1 if unbiased is None else int(unbiased))
    return func, args, {**kwargs, "correction": 1 - correction}


def _swapped_norm_mode(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func is not F.batch_norm:
        return None
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.arguments["training"] = not bound.arguments.get("training", False)
    for name in ("running_mean", "running_var"):
        if bound.arguments.get(name) is not None:
            bound.arguments[name] = bound.arguments[name].clone()
    return func, list(bound.args), bound.kwargs


def _swapped_count(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func not in _POOLS or "avg" not in func.__name__:
        return None
    counted = _named(func, args, kwargs, "count_include_pad", 5)
    other = counted is False
    return func, *_replaced(args, kwargs, "count_include_pad", 5, other)


def _swapped_corners(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func is not F.interpolate:
        return None
    bound = inspect.signature(func).bind(*args, **kwargs)
    bound.arguments["align_corners"] = not bound.arguments.get("align_corners")
    return func, list(bound.args), bound.kwargs


def _unscaled(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func is not F.scaled_dot_product_attention:
        return None
    return func, args, {**kwargs, "scale": 1.0}


def _without_activation(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if func not in _ACTIVATIONS:
        return None
    return (lambda x, *rest, **more: x), args, kwargs


def _without_scale(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    scaling = func in _SCALINGS and len(args) > 1 and isinstance(args[1], (int, float))
    return ((lambda x, *rest, **more: x), args, kwargs) if scaling else None


def _with_slope(slope: float) -> Change:
    def change(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if func is not F.leaky_relu:
            return None
        return func, *_replaced(args, kwargs, "negative_slope", 1, slope)

    return change


def _softmax_over(axis: int) -> Change:
    def change(func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if func not in _SOFTMAX or args[0].ndim <= axis:
            return None
        return func, *_replaced(args, kwargs, "dim", 1, axis)

    return change
