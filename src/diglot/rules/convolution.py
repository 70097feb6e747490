"""Convolutions. PyTorch pads both sides alike; Keras's "same" pads by the input's size when it
strides.
"""

from __future__ import annotations

import ast
import dataclasses
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.ir.windows import is_same
from diglot.rules.arguments import (
    Numbers,
    brief,
    is_same_padding,
    numbers,
    pad_spatial,
    spatial_rank,
    unless,
)
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


@dataclasses.dataclass
class _Window:
    """The numbers of one convolution, in the target's terms."""

    rank: int
    kernel: Numbers
    stride: Numbers
    dilation: Numbers
    groups: int
    channels: int
    filters: int
    padding: str = "valid"
    before: Numbers = ()  # zeros to add by hand, when padding is "valid"
    after: Numbers = ()
    every: Numbers = ()  # take every n-th result: a stride that Keras does not offer here
    grouped: bool = (
        False  # a convolution in groups, as it was in Keras before, whatever their number
    )

    @property
    def depthwise(self) -> bool:
        """One filter (or several) for each channel, in one or two dimensions: Keras has a layer for
        that.
        """
        return 1 < self.groups == self.channels and self.rank < 3 and not self.grouped


def _was_grouped(op: OpCall, shape: Numbers) -> bool:
    """Tell whether Keras had the weight in this shape, that of a convolution in groups of one channel."""
    hub = op.writer.program.hub
    known = hub.parameters.get(op["weight"])
    return known is not None and hub.stored_shapes.get(known.name) == tuple(shape)


def _was_same(op: OpCall, w: _Window, pads: Numbers) -> bool:
    """Tell whether Keras, where the program comes from, had such padding: at sizes that it is for only."""
    sizes = op.logical_shape("input")[2:]
    windows = [d * (k - 1) + 1 for d, k in zip(w.dilation, w.kernel, strict=True)]
    axes = zip(sizes, windows, w.stride, pads, pads, strict=True)
    known = bool(op.writer.program.hub.stored_shapes) and any(pads)
    return known and all(is_same(*axis) for axis in axes)


def _window(op: OpCall) -> _Window:
    """Read the arguments. Raises a refusal for an input without a batch axis or sizes only known at
    run time.
    """
    filters, _, *kernel = op.logical_shape("weight")
    rank = len(kernel)
    spatial_rank(op, "input", rank)
    w = _Window(
        rank,
        tuple(kernel),
        numbers(op, "stride", rank),
        numbers(op, "dilation", rank),
        op["groups"],
        op.logical_shape("input")[1],
        filters,
        grouped=_was_grouped(op, (*kernel, 1, filters)),
    )
    total = tuple(d * (k - 1) for d, k in zip(w.dilation, w.kernel, strict=True))
    if op["padding"] == "same":
        w.padding = "same" if any(total) else "valid"
    elif op["padding"] != "valid":
        pads = numbers(op, "padding", rank)
        if is_same_padding(w.kernel, w.stride, pads, w.dilation) or _was_same(op, w, pads):
            w.padding = "same"
        elif any(pads):
            w.before = w.after = pads
    dilated = any(d > 1 for d in w.dilation)
    uneven = w.depthwise and len(set(w.stride)) > 1
    if any(s > 1 for s in w.stride) and (dilated or uneven):
        w.every, w.stride = w.stride, (1,) * rank
    return w


def _construct(op: OpCall, w: _Window) -> tuple[ast.expr, dict[str, Any]]:
    """Return the Keras layer and its weights."""
    has_bias = op["bias"] is not None
    common = {
        "strides": unless(brief(w.stride), None if _strides_vary(op) else 1),
        "padding": unless(w.padding, "valid"),
        "dilation_rate": unless(brief(w.dilation), 1),
    }
    spatial = list(range(2, 2 + w.rank))
    if w.depthwise:
        multiplier = w.filters // w.channels
        construct = call(
            f"layers.DepthwiseConv{w.rank}D",
            brief(w.kernel),
            **common,
            depth_multiplier=unless(multiplier, 1),
            use_bias=unless(has_bias, True),
        )
        # (channels * multiplier, 1, h, w) -> (h, w, channels, multiplier)
        if multiplier == 1:
            steps: list = [["permute", [*spatial, 0, 1]]]
        else:
            shape = [w.channels, multiplier, *w.kernel]
            steps = [["reshape", shape], ["permute", [*spatial, 0, 1]]]
    else:
        construct = call(
            f"layers.Conv{w.rank}D",
            w.filters,
            brief(w.kernel),
            **common,
            groups=unless(w.groups, 1),
            use_bias=unless(has_bias, True),
        )
        steps = [["permute", [*spatial, 1, 0]]]
    weights: dict[str, Any] = {"kernel": (op["weight"], steps)}
    if has_bias:
        weights["bias"] = (op["bias"], [])
    return construct, weights


def _function(op: OpCall, w: _Window, x: ast.expr) -> ast.expr:
    """``ops.conv`` with a weight that is no layer's own."""
    spatial = range(2, 2 + w.rank)
    kernel = E("ops.transpose(w, axes)", w=op.expr("weight"), axes=to_ast((*spatial, 1, 0)))
    made = op.ops(
        "conv",
        x,
        kernel,
        strides=unless(brief(w.stride), 1),
        padding=unless(w.padding, "valid"),
        dilation_rate=unless(brief(w.dilation), 1),
    )
    return E("y + bias", y=made, bias=op.expr("bias")) if op["bias"] is not None else made


def _every(x: ast.expr, steps: Numbers) -> ast.expr:
    """``x[:, ::2, ::2]``."""
    slices: list[ast.expr] = [ast.Slice(None, None, None)]
    slices += [ast.Slice(None, None, to_ast(s) if s > 1 else None) for s in steps]
    return ast.Subscript(x, ast.Tuple(slices, ast.Load()), ast.Load())


def _strides_vary(op: OpCall) -> bool:
    return op.fake("weight").dim() == 4 and op.writer.program.strides_vary(op.writer, op.node)


def _padded(op: OpCall, w: _Window) -> ast.expr | None:
    """One spelling for a layer that strides in some instances of its class and not in others."""
    size, stride = w.kernel[0], w.stride[0]
    square = len(set(w.kernel)) == len(set(w.stride)) == 1 and size % 2 == 1 and size > 1
    even = stride == 1 or w.before == w.after == ((size - 1) // 2,) * w.rank
    plain = w.rank == 2 and set(w.dilation) == {1} and not w.every
    one_each = w.depthwise and w.filters == w.channels
    if w.groups != 1 and not one_each:
        return None
    if not (square and even and plain and op.writer.program.strides_vary(op.writer, op.node)):
        return None
    if w.padding != "same" and not w.before:
        return None
    if op.writer.in_graph:
        return None  # a function pads in a line of its own
    has_bias = op["bias"] is not None
    helper = op.helper("padded_depthwise_conv2d" if one_each else "padded_conv2d")
    sizes = [size] if one_each else [w.filters, size]
    construct = call(helper, *sizes, strides=stride, use_bias=unless(has_bias, True))
    inner = "layers.1." if stride > 1 else ""
    turned = ["permute", [2, 3, 0, 1] if one_each else [2, 3, 1, 0]]
    weights: dict[str, Any] = {f"{inner}kernel": (op["weight"], [turned])}
    if has_bias:
        weights[f"{inner}bias"] = (op["bias"], [])
    return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))


def _convolution(op: OpCall) -> ast.expr:
    w = _window(op)
    is_layer = op.is_layer("weight", "bias")
    if w.padding == "same" and _strides_vary(op) and op.writer.in_graph:
        # As those blocks have it that stride: one function pads for all.
        w.before = w.after = numbers(op, "padding", w.rank)
        w.padding = "valid"
    padded = _padded(op, w) if is_layer else None
    if padded is not None:
        return padded
    x = op.expr("input")
    if w.before and is_layer:
        pad = call(f"layers.ZeroPadding{w.rank}D", brief(w.before))
        x = E("pad(x)", pad=op.layer(pad, suffix="pad"), x=x)
    elif w.before:
        x = pad_spatial(x, w.before, w.after)
    if is_layer:
        construct, weights = _construct(op, w)
        made = E("layer(x)", layer=op.layer(construct, weights, stands=not w.every), x=x)
    else:
        made = _function(op, w, x)
    return _every(made, w.every) if w.every else made


# --- transposed ----------------------------------------------------------------------------------


@dataclasses.dataclass
class _Crop:
    """What to take of a "valid" transposed convolution: cut ``start``, then keep up to
    ``stop`` (from the end), after adding ``extra`` zeros.
    """

    start: Numbers
    stop: Numbers
    extra: Numbers


def _crop(
    kernel: Numbers, stride: Numbers, padding: Numbers, output: Numbers, dilation: Numbers
) -> _Crop:
    """Keras gives (i-1)s + max(span, s) results, PyTorch (i-1)s + span - 2p + output_padding."""
    start, stop, extra = [], [], []
    for k, s, p, o, d in zip(kernel, stride, padding, output, dilation, strict=True):
        span = d * (k - 1) + 1
        surplus = max(span, s) - (span - p + o)  # results behind the last one that PyTorch keeps
        start.append(p)
        stop.append(max(surplus, 0))
        extra.append(max(-surplus, 0))
    return _Crop(tuple(start), tuple(stop), tuple(extra))


def _is_same(kernel: Numbers, stride: Numbers, padding: Numbers, output: Numbers) -> bool:
    """Tell whether Keras's "same" cuts alike: as much on either side, down to size times stride."""
    return all(
        k > s and 2 * p == k - s and o == 0
        for k, s, p, o in zip(kernel, stride, padding, output, strict=True)
    )


def _cut(x: ast.expr, crop: _Crop) -> ast.expr:
    slices: list[ast.expr] = [ast.Slice(None, None, None)]
    for start, stop in zip(crop.start, crop.stop, strict=True):
        low = to_ast(start) if start else None
        slices.append(ast.Slice(low, to_ast(-stop) if stop else None, None))
    if not any(crop.start) and not any(crop.stop):
        return x
    return ast.Subscript(x, ast.Tuple(slices, ast.Load()), ast.Load())


def _transposed(op: OpCall) -> ast.expr:
    _, per_group, *size = op.logical_shape("weight")
    kernel, rank = tuple(size), len(size)
    spatial_rank(op, "input", rank)
    stride, dilation = numbers(op, "stride", rank), numbers(op, "dilation", rank)
    padding, output = numbers(op, "padding", rank), numbers(op, "output_padding", rank)
    if any(d > 1 for d in dilation):
        raise op.refuse("a transposed convolution with dilation: TensorFlow has none on a CPU")
    if op["groups"] != 1:
        raise op.refuse("a transposed convolution in groups: Keras has no such layer")
    crop = _crop(kernel, stride, padding, output, dilation)
    spatial = range(2, 2 + rank)
    strides = unless(brief(stride), 1)
    has_bias = op["bias"] is not None
    # Zeros that output_padding adds behind a "valid" result hold the bias too: then the bias is added by hand.
    if not any(crop.extra) and op.is_layer("weight", "bias"):
        same = _is_same(kernel, stride, padding, output)
        cropped = not same and (any(crop.start) or any(crop.stop))
        construct = call(
            f"layers.Conv{rank}DTranspose",
            per_group,
            brief(kernel),
            strides=strides,
            padding="same" if same else ...,
            use_bias=unless(has_bias, True),
        )
        weights = {"kernel": (op["weight"], [["permute", [*spatial, 1, 0]]])}
        if has_bias:
            weights["bias"] = (op["bias"], [])
        made = E("f(x)", f=op.layer(construct, weights, stands=not cropped), x=op.expr("input"))
        if not cropped:
            return made
        cuts: Any = tuple(zip(crop.start, crop.stop, strict=True))
        cutter = call(f"layers.Cropping{rank}D", cuts[0] if rank == 1 else cuts)
        return E("f(x)", f=op.layer(cutter, suffix="crop", stands=True), x=made)
    weight = E("ops.transpose(w, axes)", w=op.expr("weight"), axes=to_ast((*spatial, 1, 0)))
    made = _cut(op.ops("conv_transpose", op.expr("input"), weight, brief(stride)), crop)
    if any(crop.extra):
        made = pad_spatial(made, (0,) * rank, crop.extra)
    return E("y + bias", y=made, bias=op.expr("bias")) if has_bias else made


# --- samples -------------------------------------------------------------------------------------


def _samples(rank: int) -> tuple[Sample, ...]:
    size = {1: "2,4,11", 2: "2,4,9,12", 3: "2,4,5,6,7"}[rank]
    uneven = {1: "5", 2: "(3, 5)", 3: "(3, 1, 2)"}[rank]
    layers = [
        f"nn.Conv{rank}d(4, 6, 3)",
        f"nn.Conv{rank}d(4, 6, 3, stride=2, padding=1)",
        f"nn.Conv{rank}d(4, 6, {uneven}, bias=False)",
        f"nn.Conv{rank}d(4, 6, 3, padding=1)",
        f"nn.Conv{rank}d(4, 6, 2, padding=1)",
        f"nn.Conv{rank}d(4, 6, 2, padding=2, dilation=2, stride=2)",
        f"nn.Conv{rank}d(4, 6, 3, groups=2)",
    ]
    if rank < 3:
        layers += [
            f"nn.Conv{rank}d(4, 4, 3, padding=1, groups=4, bias=False)",
            f"nn.Conv{rank}d(4, 8, 3, stride=2, padding=1, groups=4)",
            f"nn.Conv{rank}d(4, 4, 3, padding=2, dilation=2, groups=4)",
        ]
    if rank == 2:
        layers.append("nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1, groups=4)")
    return tuple(Sample("m(x)", {"x": size}, layer) for layer in layers)


def _same_samples(rank: int) -> tuple[Sample, ...]:
    size = {1: "2,4,11", 2: "2,4,9,12", 3: "2,4,5,6,7"}[rank]
    return (
        Sample("m(x)", {"x": size}, f"nn.Conv{rank}d(4, 6, 3, padding='same')"),
        Sample("m(x)", {"x": size}, f"nn.Conv{rank}d(4, 6, 4, padding='same')"),
        Sample("m(x)", {"x": size}, f"nn.Conv{rank}d(4, 6, 3, padding='valid', stride=2)"),
    )


def _transposed_samples(rank: int) -> tuple[Sample, ...]:
    size = {1: "2,4,7", 2: "2,4,5,6", 3: "2,4,3,4,5"}[rank]
    layers = (
        f"nn.ConvTranspose{rank}d(4, 6, 2, stride=2)",
        f"nn.ConvTranspose{rank}d(4, 6, 3, stride=2, padding=1, output_padding=1)",
        f"nn.ConvTranspose{rank}d(4, 6, 4, stride=2, padding=1, bias=False)",
        f"nn.ConvTranspose{rank}d(4, 6, 3)",
        f"nn.ConvTranspose{rank}d(4, 6, 2, stride=3)",
        f"nn.ConvTranspose{rank}d(4, 6, 3, stride=2, output_padding=1)",
    )
    return tuple(Sample("m(x)", {"x": size}, layer) for layer in layers)


_SAME_NOTE = (
    "PyTorch's padding=1 adds one on every side; Keras's \"same\" adds one side more than the other where the "
    "stride does not fit. With a stride the padding is written out, without one the two agree."
)
_TRANSPOSED_NOTE = (
    'PyTorch cuts `padding` off both ends and adds `output_padding` behind; Keras\'s "valid" keeps everything: '
    "the result is cut. The kernel goes from (in, out, h, w) to (h, w, out, in)."
)


def _rules(rank: int) -> tuple[Rule, ...]:
    fields = {"layout": "spatial", "noun": "conv", "weights": ("weight", "bias")}
    transposed = "default" if rank == 1 else "input"
    return (
        Rule(
            f"aten.conv{rank}d.default",
            _convolution,
            torch=f"nn.Conv{rank}d(in, out, kernel)",
            topic='Conv "same", stride 2',
            note=_SAME_NOTE,
            samples=_samples(rank),
            **fields,
        ),
        Rule(
            f"aten.conv{rank}d.padding",
            _convolution,
            torch=f'nn.Conv{rank}d(in, out, kernel, padding="same")',
            samples=_same_samples(rank),
            **fields,
        ),
        Rule(
            f"aten.conv_transpose{rank}d.{transposed}",
            _transposed,
            torch=f"nn.ConvTranspose{rank}d(in, out, kernel)",
            topic="ConvTranspose",
            note=_TRANSPOSED_NOTE,
            samples=_transposed_samples(rank),
            **fields,
        ),
    )


register(__name__, *_rules(1), *_rules(2), *_rules(3))
