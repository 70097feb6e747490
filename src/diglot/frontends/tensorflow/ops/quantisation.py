"""Numbers rounded to the steps of a few bits, as networks are trained for 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.ops.registry import Call, Refused, Sample, op
from diglot.graph_nodes import quantised_range
from diglot.literals import intended


def _steps(call: Call, low: float, high: float) -> tuple[float, float, float]:
    """One step, and the range as TensorFlow shifts it, so that zero is one of the steps."""
    return quantised_range(
        low, high, int(call.attrs.get("num_bits", 8)), bool(call.attrs.get("narrow_range"))
    )


def _rounded(x: torch.Tensor, scale: Any) -> torch.Tensor:
    """To whole steps, with the gradient of what is not rounded."""
    return x + (torch.round(x / scale) * scale - x).detach()


@op(
    "FakeQuantWithMinMaxArgs",
    samples=(
        Sample(
            lambda r, x: r.FakeQuantWithMinMaxArgs(
                inputs=r.Cast(x=x, DstT="float32"), min=-1.5, max=2.0
            ),
            ("2,3,50",),
        ),
        Sample(
            lambda r, x: r.FakeQuantWithMinMaxArgs(
                inputs=r.Cast(x=x, DstT="float32"), min=-1, max=1, num_bits=4, narrow_range=True
            ),
            ("2,3,50",),
        ),
    ),
)
def fake_quant_args(call: Call, x: Any) -> Any:
    low, high = (intended(np.float32(call.attrs.get(k, d))) for k, d in (("min", -6), ("max", 6)))
    scale, low, high = _steps(call, low, high)
    return _rounded(call.tensor(x).clamp(low, high), scale)


@op(
    "FakeQuantWithMinMaxVars",
    samples=(
        Sample(
            lambda r, x: r.FakeQuantWithMinMaxVars(
                inputs=r.Cast(x=x, DstT="float32"), min=-1.5, max=2.0
            ),
            ("2,3,50",),
        ),
    ),
)
def fake_quant_vars(call: Call, x: Any, low: Any, high: Any) -> Any:
    numbers = [values.number(v) for v in (low, high)]
    if any(n is None for n in numbers):
        raise Refused("the bounds of its range are no constants: freeze the graph")
    scale, first, last = _steps(call, *numbers)
    return _rounded(call.tensor(x).clamp(first, last), scale)


@op(
    "FakeQuantWithMinMaxVarsPerChannel",
    samples=(
        Sample(
            lambda r, x: r.FakeQuantWithMinMaxVarsPerChannel(
                inputs=r.Cast(x=x, DstT="float32"), min=[-1.5, -1.0, -0.5], max=[2.0, 1.0, 0.5]
            ),
            ("2,50,3",),
        ),
    ),
)
def fake_quant_channels(call: Call, x: Any, low: Any, high: Any) -> Any:
    x, arrays = call.tensor(x), [values.array_of(v) for v in (low, high)]
    if any(a is None for a in arrays):
        raise Refused("the bounds of its ranges are no constants: freeze the graph")
    bounds = [[intended(n) for n in np.ravel(a)] for a in arrays]  # type: ignore[arg-type]
    steps = [_steps(call, *pair) for pair in zip(*bounds, strict=True)]
    scale, first, last = (
        torch.tensor(column, dtype=x.dtype, device=x.device) for column in zip(*steps, strict=True)
    )
    return _rounded(torch.minimum(torch.maximum(x, first), last), scale)
