"""What a Keras model does for its training alone, which no program has.

Regularizers, ``add_loss`` within a ``call``, and a ``train_step`` or ``compute_loss`` of the model's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras import Layer

if TYPE_CHECKING:
    from diglot.frontends.keras_tracing.calls import Trace
    from diglot.frontends.keras_tracing.tree import Tree

_OWN = ("train_step", "compute_loss")


def of_layers(tree: Tree, model: Layer) -> None:
    """Note the regularizers of a model's layers, and how it trains where that is not Keras's own way."""
    for layer in model._flatten_layers():
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        kinds = ["regularizer" for v in own if getattr(v, "regularizer", None) is not None][:1]
        kinds += ["activity_regularizer"] * (layer.activity_regularizer is not None)
        if kinds:
            _note(tree, layer, *kinds)
    own = [name for name in _OWN if not _definer(type(model), name).startswith("keras.")]
    if own:
        _note(tree, model, *own)


def add(trace: Trace, layer: Layer, *_: Any, **__: Any) -> None:
    """Stand for ``layer.add_loss(…)`` while a model is traced."""
    _note(trace.tree, layer, "add_loss")


def _note(tree: Tree, layer: Layer, *kinds: str) -> None:
    known = tree.losses[layer.name].split(", ") if layer.name in tree.losses else []
    tree.losses[layer.name] = ", ".join(dict.fromkeys([*known, *kinds]))


def _definer(kind: type, name: str) -> str:
    """The module of the class that a method comes from."""
    found = (each.__module__ for each in kind.__mro__ if name in vars(each))
    return f"{next(found, 'keras')}."
