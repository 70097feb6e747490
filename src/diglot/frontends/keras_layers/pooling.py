"""Pooling: windows, global and adaptive."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    channels_first,
    layer,
    on_channels_first,
)
from diglot.frontends.keras_layers.windows import of_known_sizes, own_padding, spatial_sizes
from diglot.frontends.same_padding import pad_same
from diglot.ir.windows import total

_POOLS = {
    "max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "average": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
}


def _plain(value: Any) -> Any:
    return value[0] if len(set(value)) == 1 else tuple(value)


def _rank(own: Any) -> int:
    return len(own.pool_size)


def _at_the_end_only(own: Any) -> bool:
    """Whether "same" adds at most one element, at the end: what ``ceil_mode`` means, and what is not counted."""
    sizes = spatial_sizes(own, _rank(own))
    for size, window, stride in zip(sizes, own.pool_size, own.strides, strict=True):
        if size is not None and (stride > 1 or window == 1) and total(size, window, stride) <= 1:
            continue
        if window == stride == 2 or window == 1:
            continue
        return False
    return True


def _pool(own: Any) -> nn.Module:
    average = own.pool_mode == "average"
    options: dict[str, Any] = {"stride": _plain(own.strides)}
    if own.padding == "same":
        padding = own_padding(
            spatial_sizes(own, _rank(own)), list(own.pool_size), list(own.strides)
        )
        if padding is not None and all(
            2 * p <= k for p, k in zip(padding, own.pool_size, strict=True)
        ):
            if any(padding):
                options["padding"] = _plain(padding)
                if average:
                    options["count_include_pad"] = False
        elif _at_the_end_only(own):
            options["ceil_mode"] = True
    return _POOLS[own.pool_mode][_rank(own) - 1](_plain(own.pool_size), **options)


def _pads_itself(module: Any) -> bool:
    padding = module.padding if isinstance(module.padding, tuple) else (module.padding,)
    return module.ceil_mode or any(padding)


def _pooled(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    """Pool an NCHW tensor."""
    own, windows, strides = run.layer, list(run.layer.pool_size), list(run.layer.strides)
    if own.padding != "same":
        return run.module(x)
    of_known_sizes(x, spatial_sizes(own, _rank(own)), windows, strides)
    if _pads_itself(run.module):
        return run.module(x)
    if own.pool_mode == "max":
        return run.module(pad_same(x, windows, strides, value=-torch.inf))
    padded = pad_same(x, windows, strides)
    if padded is x:
        return run.module(x)
    # What "same" adds is not counted in the average.
    return run.module(padded) / run.module(pad_same(torch.ones_like(x), windows, strides))


def _run(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return on_channels_first(run.layer, x, lambda v: _pooled(run, v))


_SHAPES = ("2,9,4", "2,9,8,4", "2,6,5,7,4")
for _dim in (1, 2, 3):
    for _kind in ("Max", "Average"):
        _name = f"{_kind}Pooling{_dim}D"
        layer(
            _name,
            make=_pool,
            call=_run,
            samples=tuple(
                Sample(
                    lambda keras, n=_name, o=_options: getattr(keras.layers, n)(**o),
                    (_SHAPES[_dim - 1],),
                    single=_dim == 3,
                )
                for _options in (
                    {"pool_size": 2},
                    {"pool_size": 2, "padding": "same"},
                    {"pool_size": 3, "strides": 2, "padding": "same"},
                    {"pool_size": 3, "strides": 1, "padding": "same"},
                    {"pool_size": 3, "strides": 1},
                    {"pool_size": 4, "strides": 3, "padding": "same"},
                )
            ),
        )


# --- global ----------------------------------------------------------------------------------------------


def _spatial_axes(own: Any, x: torch.Tensor) -> list[int]:
    first = 2 if channels_first(own) else 1
    return list(range(first, first + x.dim() - 2))


def _global_average(
    run: LayerCall, inputs: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    axes = _spatial_axes(run.layer, inputs)
    if mask is None:
        return inputs.mean(dim=axes, keepdim=run.layer.keepdims)
    weights = mask.to(inputs.dtype).unsqueeze(2 if axes == [1] else 1)
    total = (inputs * weights).sum(dim=axes, keepdim=run.layer.keepdims)
    return total / weights.sum(dim=axes, keepdim=run.layer.keepdims)


def _global_max(run: LayerCall, inputs: torch.Tensor) -> torch.Tensor:
    return inputs.amax(dim=_spatial_axes(run.layer, inputs), keepdim=run.layer.keepdims)


for _dim in (1, 2, 3):
    for _kind, _function in (("Max", _global_max), ("Average", _global_average)):
        _name = f"Global{_kind}Pooling{_dim}D"
        layer(
            _name,
            call=_function,
            samples=(
                Sample(lambda keras, n=_name: getattr(keras.layers, n)(), (_SHAPES[_dim - 1],)),
                Sample(
                    lambda keras, n=_name: getattr(keras.layers, n)(
                        keepdims=True, data_format="channels_first"
                    ),
                    (_SHAPES[_dim - 1],),
                ),
            ),
        )


# --- adaptive --------------------------------------------------------------------------------------------

_ADAPTIVE = {
    "Average": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    "Max": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
}


def _adaptive(run: LayerCall, x: torch.Tensor) -> torch.Tensor:
    return on_channels_first(run.layer, x, run.module)


for _dim in (1, 2, 3):
    for _kind, _modules in _ADAPTIVE.items():
        _name = f"Adaptive{_kind}Pooling{_dim}D"
        layer(
            _name,
            make=lambda own, m=_modules[_dim - 1]: m(_plain(tuple(own.output_size))),
            call=_adaptive,
            samples=(
                Sample(
                    lambda keras, n=_name: getattr(keras.layers, n)(3),
                    (_SHAPES[_dim - 1],),
                    single=True,
                ),
            ),
        )
