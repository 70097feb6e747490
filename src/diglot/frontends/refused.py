"""What can be seen to have no translation before a model is captured."""

from __future__ import annotations

import inspect

from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from diglot.errors import Problem, Unsupported

_SPECTRAL = "spectral_norm"
_ORTHOGONAL = "orthogonal"
_HINT = (
    "each training step estimates the weight's norm anew and keeps the estimate in place. To keep the weight as it "
    "is now, call torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') (for the old "
    "torch.nn.utils.spectral_norm: remove_spectral_norm(layer)) before translating"
)
_ORTHOGONAL_HINT = (
    "it makes the weight by a matrix exponential, a Cayley map or Householder reflections, which Keras has none of. "
    "To keep the weight as it is now, call torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') before "
    "translating"
)


def check(model: nn.Module) -> None:
    """Raise :class:`Unsupported`, listing every layer under ``spectral_norm`` or ``orthogonal``."""
    where = _place(model)
    found: list[Problem] = []
    for path, module in model.named_modules():
        if _is_spectral(module):
            found.append(Problem(_SPECTRAL, where, path, _HINT))
        elif any(isinstance(item, parametrizations._Orthogonal) for item in _parametrized(module)):
            found.append(Problem(_ORTHOGONAL, where, path, _ORTHOGONAL_HINT))
    if found:
        raise Unsupported(found)


def _parametrized(module: nn.Module) -> list[nn.Module]:
    """Return what makes a layer's weights out of others."""
    lists = getattr(module, "parametrizations", {})
    if not isinstance(lists, nn.ModuleDict):
        return []
    return [item for chain in lists.values() for item in chain]  # type: ignore[union-attr]


def _is_spectral(module: nn.Module) -> bool:
    old = inspect.getmodule(spectral_norm).SpectralNorm
    items = _parametrized(module)
    return any(isinstance(item, parametrizations._SpectralNorm) for item in items) or any(
        isinstance(hook, old) for hook in module._forward_pre_hooks.values()
    )


def _place(model: nn.Module) -> str:
    """Return ``file:line`` of the model's class."""
    try:
        return f"{inspect.getsourcefile(type(model))}:{inspect.getsourcelines(type(model))[1]}"
    except (OSError, TypeError):
        return ""
