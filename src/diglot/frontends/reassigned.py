"""Buffers that ``forward`` binds anew: ``self.mean = 0.9 * self.mean + 0.1 * x.mean(0)``.

``torch.export`` writes what the model's own buffers are bound to at the end into them, and forgets the buffers of the
modules within it. Here these are written to as well, when the ``forward`` of the module that has them returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_buffer_registration_hook


@contextlib.contextmanager
def written(model: nn.Module) -> Iterator[None]:
    """While it is entered, a call of the model changes the buffers of its parts as it does outside of an export."""
    parts = [module for module in model.modules() if module is not model]
    first: dict[tuple[nn.Module, str], torch.Tensor] = {}

    def note(module: nn.Module, name: str, value: Any) -> None:
        held = module._buffers.get(name)
        if module in known and isinstance(held, torch.Tensor) and isinstance(value, torch.Tensor):
            first.setdefault((module, name), held)

    def write(module: nn.Module, *_: Any) -> None:
        for owner, name in [key for key in first if module in (key[0], model)]:
            held, value = first.pop((owner, name)), owner._buffers[name]
            owner._buffers[name] = held
            if value is not held and value is not None:
                held.copy_(value)

    known = set(parts)
    handles = [register_module_buffer_registration_hook(note)]
    handles += [module.register_forward_hook(write) for module in (*parts, model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["written"]
