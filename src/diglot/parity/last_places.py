"""Rounding itself, as a thing to measure with: every operation of a run in PyTorch rounds another way.

Nudged inputs do not show what rounding does behind a function that flattens: a trained classifier's ``sigmoid`` gives
0.99999999, whose distance from 1, and so the gradient, has eight digits, however little its input moves. So each
result of an operation that rounds, forwards and backwards, is moved by a unit in the last place (Monte Carlo
arithmetic: D. S. Parker, 1997).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

#: Exact where its operands are small integers: a mask's ones and zeros stay what they are.
_ARITHMETIC = (
    "add", "sub", "rsub", "mul", "div", "sum", "mean", "cumsum", "mm", "bmm", "addmm",
    "addcmul", "addcdiv",
)  # fmt: skip
_ROUNDS = (
    *_ARITHMETIC, "sigmoid", "tanh", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "erf", "erfc", "erfinv",
    "gelu", "silu", "softplus", "elu", "_softmax", "_log_softmax", "log_sigmoid_forward", "logsumexp", "pow", "sqrt",
    "rsqrt", "reciprocal", "sin", "cos", "tan", "atan", "atan2", "asin", "acos", "sinh", "cosh", "convolution",
    "native_batch_norm", "native_layer_norm", "native_group_norm", "_native_batch_norm_legit", "var", "var_mean", "std",
    "linalg_vector_norm", "norm", "prod", "cumprod", "baddbmm", "addmv", "mv", "dot", "lerp",
    "_scaled_dot_product_flash_attention_for_cpu", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "mkldnn_rnn_layer", "mish", "hardswish",
    "hardsigmoid", "native_dropout", "_fft_r2c", "_fft_c2r", "_fft_c2c",
)  # fmt: skip
_BACKWARD = tuple(f"{name}_backward" for name in _ROUNDS)
_EPSILON = torch.finfo(torch.float64).eps


class LastPlaces(TorchDispatchMode):
    """Within it, what rounds rounds another way. ``seed`` says how."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation, and move what it made."""
        made = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in _ROUNDS or name in _BACKWARD:
            for result in made if isinstance(made, (tuple, list)) else [made]:
                if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
                    self._move(result, integers=name not in _ARITHMETIC)
        return made

    def _move(self, result: torch.Tensor, *, integers: bool) -> None:
        units = torch.randint(-1, 2, result.shape, generator=self.generator, dtype=result.dtype)
        if not integers:
            units = torch.where(result == result.round(), 0, units)
        result.mul_(1.0 + _EPSILON * units)
