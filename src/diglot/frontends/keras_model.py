"""A Keras model -> its mirror: a torch module that computes the same, with the same tree, names and weights.

The mirror runs the model's own Python code on torch tensors, layer by layer: a layer that PyTorch has, too, is the
torch module; a model or an author's layer is a module whose ``forward`` runs its ``call``. ``torch.export`` then sees
plain torch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch import nn

from diglot.errors import BadInput
from diglot.ir.weight_entry import WeightEntry

if TYPE_CHECKING:
    from diglot.frontends.keras_tracing.original_names import Boundary, Names


@dataclasses.dataclass(frozen=True)
class Given:
    """What a layer is called with: ``plain`` arguments, and the names of ``masks``.

    Of a layer that PyTorch has, too, also ``tensors``, by their arguments (``initial_state.0`` within a list), and the
    paths to ``results``, each with its rank.
    """

    plain: dict[str, Any]
    masks: tuple[str, ...] = ()
    tensors: tuple[tuple[str, int], ...] = ()
    results: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class LeafCall:
    """A layer of which PyTorch has one or several, its path in Keras, its module's, and what it is called with."""

    layer: Any
    target: str
    module: str
    given: Given | None


@dataclasses.dataclass
class Mirror:
    """A Keras model in PyTorch.

    ``module`` is in evaluation mode and holds the model's weights; ``entries`` say which Keras weight (``target``)
    is made of which of its weights (``sources``). ``example_inputs`` are torch tensors in the model's own axes, as
    ``module`` takes them: a tensor, a tuple of positional ones or a dict by ``names``. ``outputs`` is set where the
    model gives the module's results as a dict: the place of each key's value among them. ``dynamic`` holds the sizes
    that the model leaves open, by the place of the input and by axis; None where it does not declare its inputs.
    ``losses`` holds, once ``module`` has run, what Keras does for training alone, by the layer's name.
    ``left_out`` names what layers do in training alone that the module does not ("layer", "class", "why"). ``ties``
    holds a second name that a weight had in PyTorch, its name in ``module``, and the class of the second's owner.
    ``boundary`` says in which order the axes of inputs and of outputs were in PyTorch, as those of ``module``.
    ``masked`` says that steps of a sequence may be masked, as by the id 0. ``arguments`` holds, once ``module`` has
    run, what each layer is called with besides tensors, by its module's path; None where its calls differ; ``leaves``
    the same of layers that are PyTorch's.
    """

    module: nn.Module
    entries: list[WeightEntry]
    example_inputs: Any
    names: list[str]
    outputs: dict[str, int] | None = None
    dynamic: dict[str, dict[int, bool]] | None = None
    layers: dict[str, Any] = dataclasses.field(default_factory=dict)  # by the path of their modules
    left_out: list[dict[str, str]] = dataclasses.field(default_factory=list)
    losses: dict[str, str] = dataclasses.field(default_factory=dict)
    ties: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    boundary: Boundary | None = None
    masked: bool = False
    arguments: dict[str, Given | None] = dataclasses.field(default_factory=dict)
    leaves: dict[int, LeafCall] = dataclasses.field(default_factory=dict)


def mirror(
    model: Any, example_inputs: Any = None, *, trusted: bool = False, names: Names | None = None
) -> Mirror:
    """Return the mirror of a live Keras model (Functional, Sequential or subclassed).

    ``example_inputs``: what the model is called with (an array or tensor, a list or a dict of them; ids as
    integers); made of the model's input shapes where not given. ``trusted`` lets Lambda layers run. ``names`` are those
    that a model had in PyTorch before it was translated from there: it has them again.

    Raises :class:`diglot.errors.Unsupported` with every layer that cannot be translated, and
    :class:`diglot.errors.BadInput` where the model has no weights yet and no inputs to build them with.
    """
    import keras

    from diglot.frontends.keras_tracing import losses
    from diglot.frontends.keras_tracing.calls import Trace
    from diglot.frontends.keras_tracing.classes import take_apart
    from diglot.frontends.keras_tracing.inputs import as_inputs, declared_sizes
    from diglot.frontends.keras_tracing.tree import Tree, only_layer, output_keys

    if not isinstance(model, keras.Layer):
        raise BadInput(
            "expected a Keras model (keras.Model, or a keras.Layer that is called on tensors)",
            received=type(model).__name__,
        )
    given_names, values, structure = as_inputs(model, example_inputs)
    if not model.built:
        raise BadInput(
            f"the model {model.name} has no weights yet",
            hint="call it once on data, or pass example_inputs",
        )
    tree = Tree(trusted, names)
    inner = only_layer(model, structure, given_names)
    module = tree.build(model, inner)
    losses.of_layers(tree, model)
    take_apart(module, given_names, structure)
    sizes = declared_sizes(model, given_names)
    tree.says_sizes = sizes is not None
    trace = Trace(tree)
    for part in module.modules():
        if hasattr(part, "source_path"):
            part.trace = trace
    module.eval()
    inputs: Any = (
        dict(zip(given_names, values, strict=True)) if structure == "dict" else tuple(values)
    )
    given = values[0] if structure == "single" else inputs
    keys = output_keys(model, inner) if inner is not None else None
    ties = [
        (other, entry.sources[0], kind)
        for variable, entry in zip(tree.keep, tree.entries, strict=True)
        for other, kind in (names.tied(variable, entry.sources[0]) if names is not None else ())
    ]
    return Mirror(
        module,
        tree.entries,
        given,
        given_names,
        keys,
        sizes,
        tree.layers,
        tree.left_out,
        tree.losses,
        ties,
        names.boundary if names is not None else None,
        tree.masked,
        tree.arguments,
        tree.leaves,
    )
