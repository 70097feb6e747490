"""Which modules are single ops of the hub: torch.nn's own layers."""

from __future__ import annotations

from torch import nn

#: Containers of torch.nn that are written out as code; every other torch.nn module is a leaf.
_COMPOSITES = (
    nn.Sequential,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


def is_leaf(module: nn.Module) -> bool:
    """Tell whether a module is one of torch.nn's own layers (exactly, not a subclass)."""
    return is_leaf_class(type(module))


def is_leaf_class(cls: type) -> bool:
    """Tell whether a class is one of torch.nn's own layers."""
    name = cls.__module__
    own = name.startswith("torch.nn.") or name.startswith("torch.ao.")
    return own and cls not in _COMPOSITES
