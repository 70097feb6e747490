"""Signals in a layer's ``call``: windows, frames and Fourier transforms of TensorFlow's, on tracers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from diglot.frontends.keras_tracing.sizes import Size, Sizes
from diglot.frontends.keras_tracing.tensor import Tracer, as_torch, torch_dtype
from diglot.frontends.keras_tracing.tf_control import plain, refused


def _window(function: Callable) -> Callable:
    def window(
        window_length: Any, periodic: bool = True, dtype: Any = "float32", name: Any = None
    ) -> Any:
        length = int(known) if (known := plain(window_length)) is not None else 0
        if not length:
            raise refused(f"tf.signal.{function.__name__}", "its length is a dynamic size")
        periodic = bool(periodic) and length % 2 == 0  # TensorFlow's are, of an even length only
        return Tracer(function(length, periodic=periodic, dtype=torch_dtype(dtype)))

    return window


def _frame(
    signal: Any,
    frame_length: Any,
    frame_step: Any,
    pad_end: bool = False,
    pad_value: Any = 0,
    axis: int = -1,
    name: Any = None,
) -> Any:
    sizes = [plain(n) for n in (frame_length, frame_step)]
    value = as_torch(signal)
    if any(n is None for n in sizes) or axis not in (-1, value.dim() - 1):
        return NotImplemented
    length, step = (int(n) for n in sizes)  # type: ignore[arg-type]
    if pad_end:
        fill = plain(pad_value)
        if fill is None or length < step:
            return NotImplemented
        samples = value.shape[-1]
        # A frame begins at every step, however little of the signal is left.
        missing = length - step + -(-samples // step) * step - samples
        value = F.pad(value, (0, missing), value=float(fill))
    return Tracer(value.unfold(-1, length, step))


def _stft(
    signals: Any,
    frame_length: Any,
    frame_step: Any,
    fft_length: Any = None,
    window_fn: Any = "hann",
    pad_end: bool = False,
    name: Any = None,
) -> Any:
    """Frames of the signal, each times the window, transformed."""
    framed = _frame(signals, frame_length, frame_step, pad_end)
    if framed is NotImplemented:
        return framed
    frames, length = framed.value, framed.shape[-1]
    if window_fn == "hann" or getattr(window_fn, "__name__", "") == "hann_window":
        window_fn = SHORT["hann_window"]
    if window_fn is not None:
        frames = frames * as_torch(window_fn(length, dtype="float32"))
    size = 2 ** math.ceil(math.log2(length)) if fft_length is None else int(plain(fft_length))  # type: ignore[arg-type]
    return Tracer(torch.fft.rfft(frames, n=size))


def _transform(function: Callable) -> Callable:
    """A transform along the last axis. What is shorter than the length is filled up with zeros, as in PyTorch.

    The graph of TensorFlow's function computes how many from the sizes.
    """

    def transform(input_tensor: Any, fft_length: Any = None, name: Any = None) -> Any:
        return Tracer(function(as_torch(input_tensor), n=_length(fft_length)))

    return transform


def _length(given: Any) -> Any:
    """The one length of a list of one, or None."""
    if given is None:
        return None
    if isinstance(given, Sizes):
        given = given[0]
    elif isinstance(given, (list, tuple)):
        (given,) = given
    if isinstance(given, Size):
        return given.number
    known = plain(given)
    if known is None:
        raise refused("tf.signal", "the length of its transform depends on the data")
    return int(known.reshape(()))


#: By the public names of TensorFlow's functions.
SHORT: dict[str, Callable] = {
    "hann_window": _window(torch.hann_window),
    "hamming_window": _window(torch.hamming_window),
    "frame": _frame,
    "stft": _stft,
    "rfft": _transform(torch.fft.rfft),
    "irfft": _transform(torch.fft.irfft),
}
