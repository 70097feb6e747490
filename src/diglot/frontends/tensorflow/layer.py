"""What is recognised as a layer, its weights, and where they live in the tree of modules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from diglot.frontends.tensorflow.graph import Node
from diglot.frontends.tensorflow.tree import Path


@dataclass
class Weight:
    """A weight of a layer: the node (variable or constant) that holds it, and how it is made of the parameters."""

    node: Node
    parameters: tuple[str, ...]
    steps: tuple[tuple, ...] = ()
    combine: str | None = None


@dataclass
class Layer:
    """What a node of op ``Layer`` holds: how to make the module, run it and fill it.

    ``function(call, module, *inputs)`` runs it; ``fixed`` are parameters that no weight of the source is. Layers
    of the same ``kind``, ``options`` and weights are one module.
    """

    kind: type[nn.Module]
    options: dict[str, Any]
    weights: list[Weight]
    function: Callable[..., Any]
    path: Path
    fixed: dict[str, torch.Tensor] = field(default_factory=dict)

    def key(self) -> tuple:
        holders = tuple((w.node, w.parameters, w.steps) for w in self.weights)
        return (self.kind, repr(sorted(self.options.items(), key=str)), holders)


@dataclass
class Home:
    """Where a weight lives in the tree of modules."""

    path: Path
    parameters: tuple[str, ...]
    steps: tuple[tuple, ...] = ()
    combine: str | None = None
