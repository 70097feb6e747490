"""What can be seen to have no translation before a model is captured."""

from __future__ import annotations

import inspect

from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from diglot.errors import Problem, Unsupported

_SPECTRAL = "spectral_norm"
_HINT = (
    "each training step estimates the weight's norm anew and keeps the estimate in place. To keep the weight as it "
    "is now, call torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') (for the old "
    "torch.nn.utils.spectral_norm: remove_spectral_norm(layer)) before translating"
)


def check(model: nn.Module) -> None:
    """Raise :class:`Unsupported`, listing every layer under ``spectral_norm``."""
    found = [path for path, module in model.named_modules() if _is_spectral(module)]
    if found:
        where = _place(model)
        raise Unsupported([Problem(_SPECTRAL, where, path, _HINT) for path in found])


def _is_spectral(module: nn.Module) -> bool:
    old = inspect.getmodule(spectral_norm).SpectralNorm
    lists = getattr(module, "parametrizations", {})
    items = (
        [item for chain in lists.values() for item in chain]
        if isinstance(lists, nn.ModuleDict)
        else []
    )
    return any(isinstance(item, parametrizations._SpectralNorm) for item in items) or any(
        isinstance(hook, old) for hook in module._forward_pre_hooks.values()
    )


def _place(model: nn.Module) -> str:
    """Return ``file:line`` of the model's class."""
    try:
        return f"{inspect.getsourcefile(type(model))}:{inspect.getsourcelines(type(model))[1]}"
    except (OSError, TypeError):
        return ""
