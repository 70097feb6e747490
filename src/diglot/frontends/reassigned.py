"""Buffers that ``forward`` binds anew: ``self.mean = 0.9 * self.mean + 0.1 * x.mean(0)``.

``torch.export`` writes what the model's own buffers are bound to at the end into them, and forgets the buffers of the
modules within it. Here these are written to as well, when the ``forward`` of the module that has them returns. What has
other sizes than the buffer had is forgotten: it is a cache; and so is what nobody reads and no file holds
(:mod:`diglot.passes.functional`).
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
    before = {module: dict(module._buffers) for module in parts}
    writes = _Writes(model, set(parts))
    handles = [register_module_buffer_registration_hook(writes.bound)]
    handles += [module.register_forward_hook(writes.returned) for module in (*parts, model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, buffers in before.items():
            module._buffers.clear()
            module._buffers.update(buffers)


class _Writes:
    """What the parts of a model bind in one call of it."""

    def __init__(self, model: nn.Module, parts: set[nn.Module]) -> None:
        self.model, self.parts = model, parts
        self.first: dict[tuple[nn.Module, str], torch.Tensor] = {}

    def bound(self, module: nn.Module, name: str, value: Any) -> None:
        held = module._buffers.get(name)
        if module in self.parts and isinstance(held, torch.Tensor):
            self.first.setdefault((module, name), held)

    def returned(self, module: nn.Module, *_: Any) -> None:
        for owner, name in [key for key in self.first if module in (key[0], self.model)]:
            held, value = self.first.pop((owner, name)), owner._buffers[name]
            if _fits(held, value):
                owner._buffers[name] = held
                if value is not held:
                    held.copy_(value)


def _fits(held: torch.Tensor, value: Any) -> bool:
    """Whether a value has a buffer's sizes, which are numbers: an open size is not asked."""
    if not isinstance(value, torch.Tensor) or value.dim() != held.dim():
        return False
    pairs = zip(held.shape, value.shape, strict=True)
    return all(type(a) is type(b) is int and a == b for a, b in pairs)


__all__ = ["written"]
