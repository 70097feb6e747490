"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from diglot.carried.batch_norms import MaskedBatchNorm
from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    bare,
    layer,
)

_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def _rank(own: Any) -> int | None:
    """The rank of its input; of the first one of a subclass that takes several. None where nothing says it."""
    said = own.input_spec if isinstance(own.input_spec, (list, tuple)) else [own.input_spec]
    if said and said[0] is not None:
        return said[0].ndim
    shapes = list((getattr(own, "_build_shapes_dict", None) or {}).values())
    while shapes and isinstance(shapes[0], (list, tuple)):
        shapes = list(shapes[0])
    return len(shapes) or None


def _freeze(module: Any, own: Any) -> nn.Module:
    """Give a missing scale or centre the value that changes nothing, and keep it there."""
    if module.weight is not None and not own.scale:
        module.weight = nn.Parameter(torch.ones_like(module.weight), requires_grad=False)
    if module.bias is not None and not own.center:
        module.bias = nn.Parameter(torch.zeros_like(module.bias), requires_grad=False)
    return module


def _batch_norm(own: Any) -> nn.Module:
    kind = _BATCH_NORMS[_rank(own)]
    module = bare(
        kind,
        own.moving_mean.shape[0],
        eps=float(own.epsilon),
        # Keras's momentum says how much is kept, torch's how much is new.
        momentum=round(1.0 - float(own.momentum), 12),
        affine=own.scale or own.center,
    )
    module.num_batches_tracked.zero_()
    return _freeze(module, own) if own.scale or own.center else module


def _batch_norm_weights(own: Any) -> list[Weight]:
    return [
        *([Weight("gamma", "weight")] if own.scale else []),
        *([Weight("beta", "bias")] if own.center else []),
        Weight("moving_mean", "running_mean"),
        Weight("moving_variance", "running_var"),
    ]


def _batch_norm_refused(own: Any) -> str | None:
    if getattr(own, "renorm", False):
        return "its training corrects the statistics of a batch by those of the past (renorm)"
    if own.built and (not isinstance(own.axis, int) or _rank(own) not in _BATCH_NORMS):
        return "PyTorch's batch norm has one axis of channels and at most three spatial ones"
    return None


def _run_batch_norm(
    run: LayerCall, inputs: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    frozen = run.forced is False or not run.layer.trainable  # then Keras keeps the statistics
    if mask is not None and not frozen:
        return _run_masked(run, inputs, mask)
    for size in inputs.shape:
        if isinstance(size, torch.SymInt) and free_unbacked_symbols(size):
            torch._check(size > 1)  # as many as the data says; a batch norm needs two
    axis = run.layer.axis % inputs.dim()
    x = inputs.movedim(axis, 1) if axis != 1 else inputs
    module = run.module
    if frozen:
        made = F.batch_norm(
            x,
            module.running_mean,
            module.running_var,
            module.weight,
            module.bias,
            False,
            0.0,
            module.eps,
        )
    elif run.forced is True:
        made = F.batch_norm(
            x,
            module.running_mean,
            module.running_var,
            module.weight,
            module.bias,
            True,
            module.momentum,
            module.eps,
        )
    else:
        made = module(x)
    return made.movedim(1, axis) if axis != 1 else made


_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define(
    "masked_batch_norm(Tensor input, Tensor mask, Tensor? weight, Tensor? bias, Tensor running_mean, "
    "Tensor running_var, float momentum, float eps) -> Tensor"
)


def _masked_op(x: torch.Tensor, mask: Any, weight: Any, bias: Any, *rest: Any) -> torch.Tensor:
    """In evaluation; the program's class knows what it does in training."""
    mean, var, _, eps = rest
    made = (x - mean) * torch.rsqrt(var + eps)
    return made if weight is None else made * weight + bias


_LIBRARY.impl("masked_batch_norm", _masked_op, "CompositeExplicitAutograd")
torch.library.register_fake(
    "diglot::masked_batch_norm", lambda x, *_: torch.empty_like(x), lib=_LIBRARY
)


def _run_masked(run: LayerCall, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    own, module = run.layer, run.module
    if run.forced is True or x.dim() != 3 or own.axis % 3 != 2:
        raise run.refused(
            "its statistics leave masked steps out: that is translated for (batch, steps, features), in the mode "
            "of the model"
        )
    if not torch.compiler.is_exporting():
        return _masked_live(run, x, mask)
    return torch.ops.diglot.masked_batch_norm(
        x,
        mask,
        module.weight,
        module.bias,
        module.running_mean,
        module.running_var,
        module.momentum,
        module.eps,
    )


def _masked_live(run: LayerCall, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What the program's class does with a layer's own tensors: an op could not change the statistics."""
    module = run.module
    with torch.random.fork_rng(devices=[]):
        made = MaskedBatchNorm(x.shape[-1], module.eps, module.momentum, module.affine)
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    own.pop("num_batches_tracked", None)
    return torch.func.functional_call(made.train(run.training()), own, (x, mask))


layer(
    "BatchNormalization",
    make=_batch_norm,
    call=_run_batch_norm,
    weights=_batch_norm_weights,
    refuse=_batch_norm_refused,
    samples=(
        Sample(lambda keras: keras.layers.BatchNormalization(), ("6,5",)),
        Sample(lambda keras: keras.layers.BatchNormalization(momentum=0.8), ("3,4,5",)),
        Sample(lambda keras: keras.layers.BatchNormalization(scale=False), ("3,4,5,2",)),
        Sample(lambda keras: keras.layers.BatchNormalization(center=False), ("3,4,5,2",)),
        Sample(lambda keras: keras.layers.BatchNormalization(axis=1), ("3,4,5,2",)),
        Sample(
            lambda keras: keras.layers.BatchNormalization(momentum=0.8),
            ("3,5,4", "bool[3,5]"),
            lambda own, x, mask: own(x, mask=mask),
            random=True,  # the op is evaluation's; tests/real/test_keras_examples.py trains the program
        ),
        Sample(lambda keras: keras.layers.BatchNormalization(trainable=False), ("3,4,5,2",)),
        Sample(
            lambda keras: keras.layers.BatchNormalization(scale=False, center=False), ("3,2,4,5,2",)
        ),
    ),
)


# --- over the features of one sample ---------------------------------------------------------------------


def _axes(own: Any) -> list[int]:
    axes = own.axis if isinstance(own.axis, (list, tuple)) else [own.axis]
    return [int(a) for a in axes]


def _layer_norm(own: Any) -> nn.Module:
    shape = _normal_shape(own)
    affine = own.scale or own.center
    module = bare(
        nn.LayerNorm,
        shape,
        eps=float(own.epsilon),
        elementwise_affine=affine,
        bias=bool(own.center),
    )
    return _freeze(module, own) if affine and not own.scale else module


def _normal_shape(own: Any) -> tuple[int, ...]:
    for weight in ("gamma", "beta"):
        value = getattr(own, weight, None)
        if value is not None:
            return tuple(value.shape)
    shape = own._build_shapes_dict["input_shape"]
    return tuple(shape[a] for a in _axes(own))


def _layer_norm_weights(own: Any) -> list[Weight]:
    return [
        *([Weight("gamma", "weight")] if own.scale else []),
        *([Weight("beta", "bias")] if own.center else []),
    ]


def _over_last(own: Any, x: torch.Tensor, function: Any) -> torch.Tensor:
    """Run a function of the last axes on the axes that a layer names."""
    axes = [a % x.dim() for a in _axes(own)]
    last = list(range(x.dim() - len(axes), x.dim()))
    return function(x) if axes == last else function(x.movedim(axes, last)).movedim(last, axes)


def _run_layer_norm(run: LayerCall, inputs: torch.Tensor) -> torch.Tensor:
    return _over_last(run.layer, inputs, run.module)


layer(
    "LayerNormalization",
    make=_layer_norm,
    call=_run_layer_norm,
    weights=_layer_norm_weights,
    samples=(
        Sample(lambda keras: keras.layers.LayerNormalization(), ("2,3,5",)),
        Sample(lambda keras: keras.layers.LayerNormalization(axis=[1, 2]), ("2,3,5",)),
        Sample(lambda keras: keras.layers.LayerNormalization(axis=1, center=False), ("2,3,5",)),
        Sample(
            lambda keras: keras.layers.LayerNormalization(scale=False, epsilon=1e-6), ("2,3,5",)
        ),
        Sample(
            lambda keras: keras.layers.LayerNormalization(scale=False, center=False), ("2,3,5",)
        ),
    ),
)


def _rms_norm(own: Any) -> nn.Module:
    return bare(nn.RMSNorm, tuple(own.scale.shape), eps=float(own.epsilon))


layer(
    "RMSNormalization",
    make=_rms_norm,
    call=_run_layer_norm,
    weights=lambda own: [Weight("scale", "weight")],
    samples=(Sample(lambda keras: keras.layers.RMSNormalization(), ("2,3,5",)),),
)


def _group_norm(own: Any) -> nn.Module:
    shape = own._build_shapes_dict["input_shape"]
    channels = shape[own.axis]
    groups = channels if own.groups == -1 else own.groups
    affine = own.scale or own.center
    module = bare(nn.GroupNorm, groups, channels, eps=float(own.epsilon), affine=affine)
    return _freeze(module, own) if affine else module


def _run_group_norm(run: LayerCall, inputs: torch.Tensor) -> torch.Tensor:
    axis = run.layer.axis % inputs.dim()
    return run.module(inputs.movedim(axis, 1)).movedim(1, axis) if axis != 1 else run.module(inputs)


layer(
    "GroupNormalization",
    make=_group_norm,
    call=_run_group_norm,
    weights=_layer_norm_weights,
    samples=(
        Sample(lambda keras: keras.layers.GroupNormalization(2), ("2,3,5,4",)),
        Sample(lambda keras: keras.layers.GroupNormalization(-1, scale=False), ("2,3,4",)),
        Sample(lambda keras: keras.layers.GroupNormalization(2, axis=1), ("2,4,5,3",)),
    ),
)


def _run_unit_norm(run: LayerCall, inputs: torch.Tensor) -> torch.Tensor:
    axes = _axes(run.layer)
    if len(axes) == 1:
        return F.normalize(inputs, dim=axes[0], eps=1e-6)
    squares = inputs.square().sum(dim=axes, keepdim=True)
    return inputs * torch.rsqrt(squares.clamp(min=1e-12))


layer(
    "UnitNormalization",
    call=_run_unit_norm,
    samples=(
        Sample(lambda keras: keras.layers.UnitNormalization(), ("2,3,5",)),
        Sample(lambda keras: keras.layers.UnitNormalization(axis=[1, 2]), ("2,3,5",)),
    ),
)
