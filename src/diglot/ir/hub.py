"""The hub between frontends and writers.

The graph is flat and runnable: PyTorch's ATen dialect in one ``torch.fx.GraphModule``. Over it lies a tree
of :class:`Call` regions, one for each call of a module that is worth a class of its own; leaf modules
(``nn.Linear``, ``nn.ReLU``, …) are single ATen nodes and have no region. ``diglot.mark`` nodes are identities
that say which value a call received as which parameter and which values it returned. Keeping the graph flat
lets every pass (folding, layout) look across module boundaries; the tree only steers how source is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import fx

    from diglot.ir.kept_layer import Placed


@dataclasses.dataclass(frozen=True)
class Frame:
    """One line of the author's program: where a node was made."""

    file: str
    line: int
    function: str


@dataclasses.dataclass
class Port:
    """One tensor that enters or leaves a call.

    ``name`` is the parameter's name (or, for results, the path into the returned structure, such as ``0`` or
    ``logits``); ``node`` the mark inside the graph, or, without one, the node that computes the value.
    """

    name: str
    node: fx.Node

    @property
    def value(self) -> fx.Node:
        """What the mark passes on at present: a pass may have put a conversion in front of it."""
        return self.node.args[0] if is_mark(self.node) else self.node  # type: ignore[return-value]


@dataclasses.dataclass(eq=False)
class Call:
    """One call of a module (or of a function that was handed to a module) as a region of the graph."""

    path: str
    cls: type | None
    class_name: str
    key: tuple[str, ...]
    parent: Call | None = None
    items: list[Any] = dataclasses.field(default_factory=list)  # fx.Node | Call, in execution order
    inputs: list[Port] = dataclasses.field(default_factory=list)
    outputs: list[Port] = dataclasses.field(default_factory=list)
    function: str | None = (
        None  # parameter name, when the region is a function handed to ``parent``
    )
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # plain constructor arguments
    output_structure: Any = None  # the shape of the returned structure, for the root

    @property
    def children(self) -> list[Call]:
        """Regions directly below this one, in order."""
        return [item for item in self.items if isinstance(item, Call)]

    def walk(self):
        """Yield this region and every one below it, outermost first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def nodes(self):
        """Yield every node of the region, those of inner regions included, in order."""
        for item in self.items:
            if isinstance(item, Call):
                yield from item.nodes()
            else:
                yield item


@dataclasses.dataclass
class Parameter:
    """A weight or buffer of the source model."""

    name: str  # canonical state_dict name
    value: torch.Tensor
    trainable: bool
    buffer: bool
    persistent: bool = True


@dataclasses.dataclass(frozen=True)
class InnerModel:
    """A model that was a layer of the Keras model that the source was translated from."""

    name: str
    is_sequence: bool  # a keras.Sequential


@dataclasses.dataclass
class Hub:
    """A captured model: graph, call tree, weights, and what the user gave and gets."""

    graph: fx.Graph
    root: Call
    parameters: dict[fx.Node, Parameter]  # placeholder -> weight
    inputs: list[fx.Node]  # the user's tensor inputs, in order
    input_names: list[str]
    input_structure: str  # "single" | "list" | "dict"
    outputs: list[fx.Node]
    output_structure: Any  # "tensor" | ["list", [...]] | ["dict", {...}]
    exported: Any = None
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)  # tied name -> canonical name
    ties: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # tied name, first name
    warnings: list[str] = dataclasses.field(default_factory=list)
    losses: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # what Keras did for training alone, by the layer's name
    call_of: dict[fx.Node, Call] = dataclasses.field(default_factory=dict)
    constants: dict[fx.Node, torch.Tensor] = dataclasses.field(default_factory=dict)
    model_name: str = ""  # of the Keras model that the source was translated from
    layer_names: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # path of a module -> layer
    automatic_names: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # those that Keras gave
    stored_shapes: dict[str, tuple[int, ...]] = dataclasses.field(
        default_factory=dict
    )  # of weights, by name, in that Keras model
    root_layer: str = ""  # what the layer is called that the whole program is
    kept: dict[str, Placed] = dataclasses.field(
        default_factory=dict
    )  # modules that are a layer of Keras's own, one node each
    is_sequence: bool = False  # whether that Keras model was a keras.Sequential
    inner_models: dict[str, InnerModel] = dataclasses.field(
        default_factory=dict
    )  # path of a module -> the model in that Keras model
    weight_names: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # of weights that layers of the user's own hold there; "" where Keras gave the name
    built: frozenset[str] = frozenset()  # weights that their layers made in ``build`` there
    own_layers: frozenset[str] = frozenset()  # modules that are layers of the user's own classes in
    # that Keras model, which is a graph of layers
    reverses: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  # of tables of embeddings there: the weight, beside it, that leads back from vectors to ids
    multiples: dict[str, int] = dataclasses.field(default_factory=dict)
    """Of what a size, by its symbol, has to be a multiple, or the source itself fails."""

    def write_out(self, node: fx.Node) -> None:
        """Make a buffer a constant of the program, under the name that it had."""
        buffer = self.parameters.pop(node)
        node.meta["named"] = buffer.name.rpartition(".")[2]
        self.constants[node] = buffer.value


def is_own(hub: Hub, region: Call) -> bool:
    """Tell whether a region is a layer of the user's own, or in one."""
    above: Call | None = region
    while above is not None:
        if above.path in hub.own_layers:
            return True
        above = above.parent
    return False


MARK = "diglot.mark.default"
ASSIGN = "diglot.assign.default"


def target_name(node: fx.Node) -> str:
    """Return the overload a node calls as ``namespace.op.overload`` (or the function's name)."""
    target = node.target
    name = getattr(target, "name", None)
    if callable(name):
        text = target.name()  # "aten::add.Tensor"
        space, _, rest = text.partition("::")
        return f"{space}.{rest}" if "." in rest else f"{space}.{rest}.default"
    module = getattr(target, "__module__", "") or ""
    return f"{module.lstrip('_')}.{getattr(target, '__name__', target)}"


def is_call(node: Any, names: Container[str]) -> bool:
    """Tell whether an argument is a node that calls one of some overloads, by their names (``aten.add.Tensor``)."""
    return getattr(node, "op", None) == "call_function" and target_name(node) in names


def is_mark(node: fx.Node) -> bool:
    """Tell whether a node is an identity that names a module's input or output."""
    return node.op == "call_function" and target_name(node) == MARK


def through_marks(node: fx.Node) -> fx.Node:
    """Follow marks back to the node that computed the value."""
    while is_mark(node):
        node = node.args[0]
    return node
