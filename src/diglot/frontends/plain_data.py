"""``weight.data``, which ``torch.export`` cannot follow, as ``weight.detach()``, which it can.

Both are the tensor without its gradient, over the same memory: ``self.weight.data *= self.mask`` writes to the weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_GET, _SET = torch.Tensor.data.__get__, torch.Tensor.data.__set__  # type: ignore[attr-defined]


class AsDetached(TorchFunctionMode):
    """While it is entered, what is read as ``data`` is detached, and what is set as ``data`` is copied."""

    def __init__(self) -> None:
        super().__init__()
        self._handed: dict[
            int, torch.Tensor
        ] = {}  # what was read last, by the tensor it was read of

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch's."""
        if func == _GET:
            made = args[0].detach()
            self._handed[id(args[0])] = made
            return made
        if func == _SET:
            if args[1] is not self._handed.get(id(args[0])):  # as after `weight.data *= mask`
                args[0].detach().copy_(args[1])
            return None
        return func(*args, **(kwargs or {}))
