"""What a Keras model adds to its loss: regularizers, and ``add_loss`` within a ``call``. No program has these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import Layer

if TYPE_CHECKING:
    from diglot.frontends.keras_tracing.calls import Trace
    from diglot.frontends.keras_tracing.tree import Tree


def of_layers(tree: Tree, model: Layer) -> None:
    """Note the regularizers of a model's layers."""
    for layer in model._flatten_layers():
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        kinds = ["regularizer" for v in own if getattr(v, "regularizer", None) is not None][:1]
        kinds += ["activity_regularizer"] * (layer.activity_regularizer is not None)
        if kinds:
            tree.losses[layer.name] = ", ".join(kinds)


def add(trace: Trace, layer: Layer, *_: Any, **__: Any) -> None:
    """Stand for ``layer.add_loss(…)`` while a model is traced."""
    trace.tree.losses[layer.name] = "add_loss"
