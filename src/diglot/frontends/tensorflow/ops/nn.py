"""Products and convolutions with weights that are computed, and what else neural networks use.

Weights that are variables or constants become layers; see ``recognise/``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from diglot.frontends.tensorflow import geometry, values
from diglot.frontends.tensorflow.ops.registry import Call, Sample, op
from diglot.literals import intended


@op(
    "MatMul",
    samples=(
        Sample(lambda r, x, y: r.MatMul(a=x, b=y), ("2,3", "3,5")),
        Sample(
            lambda r, x, y: r.MatMul(a=x, b=y, transpose_a=True, transpose_b=True), ("3,2", "5,3")
        ),
    ),
)
def matmul(call: Call, x: Any, y: Any) -> Any:
    x, y = call.tensor(x), call.tensor(y)
    x = x.transpose(0, 1) if call.attrs.get("transpose_a") else x
    y = y.transpose(0, 1) if call.attrs.get("transpose_b") else y
    return x @ y


@op(
    "BatchMatMulV2",
    "BatchMatMul",
    samples=(
        Sample(lambda r, x, y: r.BatchMatMulV2(x=x, y=y), ("2,4,3,5", "2,4,5,7")),
        Sample(
            lambda r, x, y: r.BatchMatMulV2(x=x, y=y, adj_x=True, adj_y=True), ("2,5,3", "2,7,5")
        ),
    ),
)
@op("BatchMatMulV3")
def batch_matmul(call: Call, x: Any, y: Any) -> Any:
    x, y = call.tensor(x), call.tensor(y)
    x = x.transpose(-2, -1) if call.attrs.get("adj_x") else x
    y = y.transpose(-2, -1) if call.attrs.get("adj_y") else y
    return x @ y


@op(
    "Einsum",
    samples=(
        Sample(
            lambda r, x, y: r.Einsum(inputs=[x, y], equation="abc,cde->abde"), ("2,3,5", "5,4,7")
        ),
        Sample(
            lambda r, x, y: r.Einsum(inputs=[x, y], equation="...bc,...dc->...bd"),
            ("2,3,5", "2,7,5"),
        ),
    ),
)
def einsum(call: Call, *xs: Any) -> Any:
    return torch.einsum(call.attrs["equation"], *[call.tensor(x) for x in xs])


_IMAGE = "2,7,9,3"


def _conv(call: Call, x: Any, weight: Any, dims: int) -> Any:
    x, weight = call.tensor(x), call.tensor(weight)
    strides, dilations = geometry.conv_steps(call.attrs, dims)
    kernel = [int(k) for k in weight.shape[:dims]]
    channels = x.shape[1 if geometry.channels_first(call.attrs) else -1]
    groups = channels // weight.shape[dims]
    weight = weight.permute(dims + 1, dims, *range(dims))
    return geometry.convolve(
        x,
        call.attrs,
        kernel,
        lambda image, padding: geometry.CONVOLUTIONS[dims](
            image, weight, None, strides, padding, dilations, groups
        ),
    )


@op(
    "Conv2D",
    samples=(
        Sample(
            lambda r, x, w: r.Conv2D(input=x, filter=w, strides=[1, 2, 2, 1], padding="SAME"),
            ("2,8,9,3", "3,2,3,4"),
        ),
        Sample(
            lambda r, x, w: r.Conv2D(
                input=x, filter=w, strides=[1, 1, 1, 1], padding="VALID", dilations=[1, 2, 1, 1]
            ),
            (_IMAGE, "3,2,3,4"),
        ),
        Sample(
            lambda r, x, w: r.Conv2D(
                input=x,
                filter=w,
                strides=[1, 1, 1, 1],
                padding="EXPLICIT",
                explicit_paddings=[0, 0, 1, 0, 0, 2, 0, 0],
            ),
            (_IMAGE, "3,2,3,4"),
        ),
    ),
)
def conv2d(call: Call, x: Any, weight: Any) -> Any:
    return _conv(call, x, weight, 2)


@op(
    "Conv3D",
    samples=(
        Sample(
            lambda r, x, w: r.Conv3D(input=x, filter=w, strides=[1, 2, 1, 1, 1], padding="SAME"),
            ("2,4,5,6,3", "3,2,3,3,4"),
        ),
    ),
)
def conv3d(call: Call, x: Any, weight: Any) -> Any:
    return _conv(call, x, weight, 3)


@op(
    "DepthwiseConv2dNative",
    samples=(
        Sample(
            lambda r, x, w: r.DepthwiseConv2dNative(
                input=x, filter=w, strides=[1, 2, 2, 1], padding="SAME"
            ),
            ("2,8,9,3", "3,3,3,2"),
        ),
    ),
)
def depthwise(call: Call, x: Any, weight: Any) -> Any:
    x, weight = call.tensor(x), call.tensor(weight)
    strides, dilations = geometry.conv_steps(call.attrs, 2)
    high, wide, channels, times = weight.shape
    weight = weight.permute(2, 3, 0, 1).reshape(channels * times, 1, high, wide)
    return geometry.convolve(
        x,
        call.attrs,
        [int(high), int(wide)],
        lambda image, padding: F.conv2d(image, weight, None, strides, padding, dilations, channels),
    )


def transposed(
    image: torch.Tensor, attrs: dict, kernel: list[int], sizes: list[Any], run: Any
) -> torch.Tensor:
    """A transposed convolution of NCHW to spatial ``sizes``: all that the windows reach, cut to size."""
    strides, dilations = geometry.conv_steps(attrs, len(kernel))
    windows = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pairs = geometry.paddings(attrs, sizes, windows, strides)
    full = run(image)
    for axis, ((before, _), size) in enumerate(zip(pairs, sizes, strict=True), start=2):
        reach = full.shape[axis]
        short = size + before - reach
        if (isinstance(short, int) and short > 0) or not isinstance(short, int):
            padding = [0, 0] * (full.dim() - axis - 1) + [0, torch.sym_max(short, 0)]
            full = F.pad(full, padding)
        if not (isinstance(before, int) and before == 0 and values.same_size(reach, size)):
            full = geometry.cut(full, axis, before, before + size)
    return full


@op(
    "Conv2DBackpropInput",
    samples=(
        Sample(
            lambda r, x, w: r.Conv2DBackpropInput(
                input_sizes=[2, 8, 10, 4],
                filter=w,
                out_backprop=x,
                strides=[1, 2, 2, 1],
                padding="SAME",
            ),
            ("2,4,5,3", "3,3,4,3"),
            fixed=True,
        ),
        Sample(
            lambda r, x, w: r.Conv2DBackpropInput(
                input_sizes=[2, 10, 11, 4],
                filter=w,
                out_backprop=x,
                strides=[1, 2, 2, 1],
                padding="VALID",
            ),
            ("2,4,5,3", "3,3,4,3"),
            fixed=True,
        ),
        Sample(
            lambda r, x, w: r.Conv2DBackpropInput(
                input_sizes=[2, 8, 10, 4],
                filter=w,
                out_backprop=x,
                strides=[1, 2, 2, 1],
                padding="SAME",
            ),
            ("2,4,5,3", "1,1,4,3"),
            fixed=True,
        ),
    ),
)
def conv2d_transpose(call: Call, sizes: Any, weight: Any, x: Any) -> Any:
    return _conv_transpose(call, sizes, weight, x, 2)


@op(
    "Conv3DBackpropInputV2",
    samples=(
        Sample(
            lambda r, x, w: r.Conv3DBackpropInputV2(
                input_sizes=[2, 6, 8, 5, 4],
                filter=w,
                out_backprop=x,
                strides=[1, 2, 2, 1, 1],
                padding="SAME",
            ),
            ("2,3,4,5,3", "3,2,3,4,3"),
            fixed=True,
        ),
    ),
)
def conv3d_transpose(call: Call, sizes: Any, weight: Any, x: Any) -> Any:
    return _conv_transpose(call, sizes, weight, x, 3)


def _conv_transpose(call: Call, sizes: Any, weight: Any, x: Any, dims: int) -> Any:
    x, weight = call.tensor(x), call.tensor(weight)
    strides, dilations = geometry.conv_steps(call.attrs, dims)
    kernel = [int(k) for k in weight.shape[:dims]]
    target = geometry.spatial_of(call.attrs, values.ints(sizes))
    weight = weight.permute(dims + 1, dims, *range(dims))
    image = geometry.inward(x, call.attrs)
    convolve = geometry.TRANSPOSED[dims]
    done = transposed(
        image,
        call.attrs,
        kernel,
        target,
        lambda i: convolve(i, weight, stride=strides, dilation=dilations),
    )
    return geometry.outward(done, call.attrs)


def batch_norm(
    call: Call, x: Any, scale: Any, offset: Any, mean: Any, variance: Any
) -> tuple[Any, ...]:
    """``FusedBatchNorm``: with the statistics given, or (training) with those of the batch."""
    x = call.tensor(x)
    training = bool(call.attrs.get("is_training", True))
    epsilon = intended(np.float32(call.attrs.get("epsilon", 1e-4)))
    scale, offset = call.tensor(scale), call.tensor(offset)
    image = geometry.inward(x, call.attrs)
    if training:
        dims = [0, *range(2, image.dim())]
        var, mu = torch.var_mean(image, dims, correction=0)
        done = F.batch_norm(image, None, None, scale, offset, True, 0.0, epsilon)
    else:
        mu, var = call.tensor(mean), call.tensor(variance)
        done = F.batch_norm(image, mu, var, scale, offset, False, 0.0, epsilon)
    return (geometry.outward(done, call.attrs), mu, var, mu, var, var)


@op(
    "FusedBatchNormV3",
    "FusedBatchNormV2",
    "FusedBatchNorm",
    samples=(
        Sample(
            lambda r, x, g, b, m, v: r.FusedBatchNormV3(
                x=r.Cast(x=x, DstT="float32"),
                scale=r.Cast(x=g, DstT="float32"),
                offset=r.Cast(x=b, DstT="float32"),
                mean=r.Cast(x=m, DstT="float32"),
                variance=r.Cast(x=v, DstT="float32"),
                epsilon=1e-3,
                is_training=False,
            )[0],
            (_IMAGE, "3", "3", "3", "+3"),
        ),
        Sample(
            lambda r, x, g, b: r.FusedBatchNormV3(
                x=r.Cast(x=x, DstT="float32"),
                scale=r.Cast(x=g, DstT="float32"),
                offset=r.Cast(x=b, DstT="float32"),
                mean=np.zeros(0, np.float32),
                variance=np.zeros(0, np.float32),
                epsilon=1e-3,
                is_training=True,
            )[0],
            (_IMAGE, "3", "3"),
        ),
    ),
)
def fused_batch_norm(call: Call, *arguments: Any) -> Any:
    return batch_norm(call, *arguments)


@op("L2Loss", samples=(Sample(lambda r, x: r.L2Loss(t=x), ("2,3",)),))
def l2_loss(call: Call, x: Any) -> Any:
    return call.tensor(x).square().sum() / 2


@op(
    "SoftmaxCrossEntropyWithLogits",
    samples=(
        Sample(
            lambda r, x, y: r.SoftmaxCrossEntropyWithLogits(features=x, labels=r.Softmax(logits=y))[
                0
            ],
            ("2,3", "2,3"),
        ),
    ),
)
def softmax_cross_entropy(call: Call, x: Any, labels: Any) -> Any:
    x, labels = call.tensor(x), call.tensor(labels)
    return -(labels * F.log_softmax(x, -1)).sum(-1), F.softmax(x, -1) - labels


@op(
    "SparseSoftmaxCrossEntropyWithLogits",
    samples=(
        Sample(
            lambda r, x, y: r.SparseSoftmaxCrossEntropyWithLogits(features=x, labels=y)[0],
            ("2,3", "int64[2]<3"),
        ),
    ),
)
def sparse_softmax_cross_entropy(call: Call, x: Any, labels: Any) -> Any:
    x, labels = call.tensor(x), call.tensor(labels)
    gradient = F.softmax(x, -1) - F.one_hot(labels, x.shape[-1]).to(x.dtype)
    return F.cross_entropy(x, labels, reduction="none"), gradient


@op(
    "LRN",
    samples=(
        Sample(
            lambda r, x: r.LRN(
                input=r.Cast(x=x, DstT="float32"), depth_radius=2, bias=1.0, alpha=0.5, beta=0.5
            ),
            ("2,3,4,7",),
        ),
    ),
)
def local_response_norm(call: Call, x: Any) -> Any:
    x = call.tensor(x)
    radius = int(call.attrs["depth_radius"])
    alpha, beta, bias = (intended(np.float32(call.attrs[k])) for k in ("alpha", "beta", "bias"))
    size = 2 * radius + 1
    done = F.local_response_norm(x.permute(0, 3, 1, 2), size, alpha * size, beta, bias)
    return done.permute(0, 2, 3, 1)


@op("Cross", samples=(Sample(lambda r, x, y: r.Cross(a=x, b=y), ("2,3", "2,3"), fixed=True),))
def cross(call: Call, x: Any, y: Any) -> Any:
    return torch.linalg.cross(call.tensor(x), call.tensor(y), dim=-1)
