"""Fourier transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Sample, op


def _complex(r: Any, x: Any) -> Any:
    wide = "complex64" if x.dtype == "float32" else "complex128"
    return r.Complex(real=x, imag=r.Cos(x=x), Tout=wide)


def _size(r: Any, z: Any) -> Any:
    return r.ComplexAbs(x=z, Tout="float32" if z.dtype == "complex64" else "float64")


def _transform(name: str, function: Callable[..., torch.Tensor], axes: int) -> None:
    """A transform of complex numbers over the last axes."""

    def run(call: Call, x: Any) -> Any:
        return (
            function(call.tensor(x), dim=list(range(-axes, 0)))
            if axes > 1
            else function(call.tensor(x))
        )

    run.__module__ = __name__
    shape = "2,3,4,5"
    op(
        name,
        samples=(
            Sample(
                lambda r, x: _size(r, getattr(r, name)(input=_complex(r, x))), (shape,), fixed=True
            ),
        ),
    )(run)


_transform("FFT", torch.fft.fft, 1)
_transform("IFFT", torch.fft.ifft, 1)
_transform("FFT2D", torch.fft.fft2, 2)
_transform("IFFT2D", torch.fft.ifft2, 2)
_transform("FFT3D", torch.fft.fftn, 3)
_transform("IFFT3D", torch.fft.ifftn, 3)


def _lengths(size: Any, axes: int) -> list[Any]:
    return values.ints(size, "the length of a Fourier transform")[-axes:]


def _real(name: str, function: Callable[..., torch.Tensor], axes: int) -> None:
    """A transform of real numbers; what is longer than the length is cut."""

    def run(call: Call, x: Any, size: Any) -> Any:
        if axes == 1:
            return function(call.tensor(x), n=_lengths(size, 1)[0])
        return function(call.tensor(x), s=_lengths(size, axes), dim=list(range(-axes, 0)))

    def sample(lengths: list[int]) -> Sample:
        def build(r: Any, x: Any) -> Any:
            wide = "complex64" if x.dtype == "float32" else "complex128"
            return _size(r, getattr(r, name)(input=x, fft_length=lengths, Tcomplex=wide))

        return Sample(build, ("2,6,8",), fixed=True)

    run.__module__ = __name__
    op(name, samples=(sample([6, 8][-axes:]),))(run)


_real("RFFT", torch.fft.rfft, 1)
_real("RFFT2D", torch.fft.rfft2, 2)


def _inverse(name: str, function: Callable[..., torch.Tensor], axes: int) -> None:
    """The inverse of a transform of real numbers."""

    def run(call: Call, x: Any, size: Any) -> Any:
        if axes == 1:
            return function(call.tensor(x), n=_lengths(size, 1)[0])
        return function(call.tensor(x), s=_lengths(size, axes), dim=list(range(-axes, 0)))

    lengths = [6, 8][-axes:]

    def build(r: Any, x: Any) -> Any:
        real = "float32" if x.dtype == "float32" else "float64"
        wide = "complex64" if real == "float32" else "complex128"
        forward = getattr(r, name[1:])(input=x, fft_length=lengths, Tcomplex=wide)
        return getattr(r, name)(input=forward, fft_length=lengths, Treal=real)

    run.__module__ = __name__
    op(name, samples=(Sample(build, ("2,6,8",), fixed=True),))(run)


_inverse("IRFFT", torch.fft.irfft, 1)
_inverse("IRFFT2D", torch.fft.irfft2, 2)
