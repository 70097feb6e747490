"""Gradients that PyTorch's batch norm reads wrongly, and the same gradients laid out so that it reads them rightly."""

from __future__ import annotations

from typing import Any

import torch
from torch._prims_common import suggest_memory_format
from torch.overrides import TorchFunctionMode

_BATCH_NORMS = {
    torch.nn.functional.batch_norm,
    torch.batch_norm,
    torch.ops.aten.batch_norm.default,
}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}

#: What a proof says where there were such gradients.
EXPLAINED = {
    "what": "gradients of batch norms on the CPU",
    "why": "PyTorch's batch norm reads some strides of a gradient wrongly where an axis has the size 1 (a batch of one "
    "whose pixels become a sequence); here these gradients were laid out anew. Train with batches of two or more, or "
    "with images in torch.channels_last",
}


def is_misread(gradient: torch.Tensor) -> bool:
    """Tell whether the backward pass of a batch norm takes a gradient's channels to be elsewhere than they are.

    PyTorch 2.13's kernel for the CPU takes a gradient as it is where ``is_contiguous(channels_last)``, and goes through
    it in the order of ``suggest_memory_format``. With an axis of size 1, whose stride says nothing, the two may differ:
    shape (1, 5, 2, 3) in strides (5, 1, 15, 5), shape (2, 5, 3, 1) in strides (15, 1, 5, 1).
    """
    last = _CHANNELS_LAST.get(gradient.dim())
    if last is None or gradient.is_contiguous() or not gradient.is_contiguous(memory_format=last):
        return False
    return suggest_memory_format(gradient) != last


class Relaid(TorchFunctionMode):
    """Every batch norm is given gradients that it reads rightly; ``used`` says whether any had to be laid out anew."""

    def __init__(self) -> None:
        """Nothing was laid out anew yet."""
        super().__init__()
        self.used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make the call; of a batch norm's result, watch the gradient."""
        result = func(*args, **(kwargs or {}))
        if func in _BATCH_NORMS and result.requires_grad:
            result.register_hook(self._laid_out)
        return result

    def _laid_out(self, gradient: torch.Tensor | None) -> torch.Tensor | None:
        # Where only a part of the model is differentiated, autograd hands on what it never computed.
        if gradient is None or not is_misread(gradient):
            return gradient
        self.used = True
        return gradient.contiguous()
