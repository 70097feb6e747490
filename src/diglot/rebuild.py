"""An exported program as a tree of ordinary modules again, with the names that its author gave.

``torch.export`` records which module each op belongs to. From that, every module gets a class
with the name of its own, and torch.nn's own layers become themselves again, so that a
program translates to what its source would have.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from diglot.errors import BadInput

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_NN = "torch.nn.modules."
#: Layers whose constructor needs more than the op's own arguments: the sizes of their weights.
_SIZES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "Linear": lambda a: {
        "in_features": a["weight"].shape[1],
        "out_features": a["weight"].shape[0],
        "bias": _has(a, "bias"),
    },
    "Embedding": lambda a: {
        "num_embeddings": a["weight"].shape[0],
        "embedding_dim": a["weight"].shape[1],
        "padding_idx": a["padding_idx"] if a.get("padding_idx", -1) >= 0 else None,
    },
    "LayerNorm": lambda a: {"elementwise_affine": _has(a, "weight"), "bias": _has(a, "bias")},
    "GroupNorm": lambda a: {"num_channels": a["weight"].shape[0]},
}
for _n in ("1d", "2d", "3d"):
    _SIZES[f"Conv{_n}"] = lambda a: {
        "in_channels": a["weight"].shape[1] * a["groups"],
        "out_channels": a["weight"].shape[0],
        "kernel_size": tuple(a["weight"].shape[2:]),
        "bias": _has(a, "bias"),
    }
    _SIZES[f"ConvTranspose{_n}"] = lambda a: {
        "in_channels": a["weight"].shape[0],
        "out_channels": a["weight"].shape[1] * a["groups"],
        "kernel_size": tuple(a["weight"].shape[2:]),
        "bias": _has(a, "bias"),
    }
    _SIZES[f"BatchNorm{_n}"] = lambda a: {
        "num_features": a["running_mean"].shape[0],
        "affine": _has(a, "weight"),
    }
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
#: Layers without weights that are one op, whose arguments are the constructor's.
_PLAIN = frozenset(
    {
        *("ReLU", "ReLU6", "LeakyReLU", "ELU", "CELU", "SELU", "GELU", "SiLU", "Mish", "Tanh"),
        *("Sigmoid", "LogSigmoid", "Hardswish", "Hardsigmoid", "Hardtanh", "Softplus", "Softsign"),
        *("Softmax", "LogSoftmax", "Dropout", "Identity", "Flatten", "PixelShuffle"),
        *("MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d"),
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d"),
    }
)


def rebuild(program: ExportedProgram) -> nn.Module:
    """The program as modules; computes what the program computes (checked on its own example).

    Raises :class:`BadInput` where its inputs are nested, or the check fails.
    """
    args, kwargs = program.example_inputs or ((), {})
    if not all(isinstance(value, torch.Tensor) for value in (*args, *kwargs.values())):
        raise BadInput(
            "The program takes something else than tensors as its inputs.",
            received=", ".join(type(value).__name__ for value in (*args, *kwargs.values())),
            hint="export a model whose arguments are tensors",
        )
    expected = _outputs(program.module(check_guards=False), args, kwargs)
    for leaves in (True, False):
        model = _Rebuilder(program, leaves).model()
        # What was exported in training mode computes so, whatever mode its module is in.
        for training in (False, True):
            trial = copy.deepcopy(model).train(training)
            if _same(expected, _outputs(trial, (*args, *kwargs.values()), {})):
                return model.eval()
    raise BadInput("The program's modules cannot be told apart.", hint="translate its source")


def _outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """All output tensors, with the same random numbers each time."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return pytree.tree_leaves(model(*args, **kwargs))


def _same(expected: list[Any], got: list[Any]) -> bool:
    pairs = zip(expected, got, strict=False)
    close = (torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs)
    return len(expected) == len(got) and all(close)


class _Rebuilder:
    """Turns the interpreter modules of ``torch.export.unflatten`` into ordinary ones."""

    def __init__(self, program: ExportedProgram, leaves: bool) -> None:
        self.program = program
        self.leaves = leaves
        _dissolve(program)
        self.tree = torch.export.unflatten(program)
        self.root: nn.Module | None = None
        self.made: dict[int, nn.Module] = {}
        self.classes: dict[tuple[str, str, tuple[Any, ...]], type] = {}

    def model(self) -> nn.Module:
        for node in self.tree.graph.nodes:
            if node.op == "output":
                node.args = (self._structured(node.args[0]),)
        model = self._graph_module(self.tree, self.tree.graph, self._root_class())
        return model

    def _root_class(self) -> str:
        for node in self.program.graph.nodes:
            for path, kind in (node.meta.get("nn_module_stack") or {}).values():
                if path == "":  # the root's
                    is_text = isinstance(kind, str)
                    name = kind if is_text else f"{kind.__module__}.{kind.__qualname__}"
                    if "empty_nn_module_stack" not in name:
                        return name
        return "program.Program"

    def _structured(self, flat: Any) -> Any:
        """The flat outputs in the structure that the model returned, as far as fx can hold it."""
        outputs = list(flat) if isinstance(flat, (tuple, list)) else [flat]
        spec = self.program.call_spec.out_spec
        if spec is None:
            return flat
        context = getattr(spec, "context", None)
        kinds = {part.type for part in _specs(spec)} - {None}
        if kinds <= {tuple, list, dict}:
            return pytree.tree_unflatten(outputs, spec)
        if isinstance(context, list) and len(context) == len(outputs):  # Hugging Face's outputs
            return dict(zip(map(str, context), outputs, strict=True))
        return tuple(outputs)

    def _child(self, module: nn.Module) -> nn.Module:
        if id(module) not in self.made:
            kind = getattr(module, "type_name", lambda: None)() or "program.Block"
            made: nn.Module | None = None
            graph = getattr(module, "graph", None)
            if not isinstance(graph, fx.Graph) or not len(graph.nodes):
                made = self._container(module)
            else:
                if self.leaves and kind == f"{_NN}container.Sequential":
                    made = self._sequential(module, graph)
                elif self.leaves and kind.startswith(_NN):
                    made = self._leaf(module, graph, kind)
                made = self._graph_module(module, graph, kind) if made is None else made
            self.made[id(module)] = made
        return self.made[id(module)]

    def _container(self, module: nn.Module) -> nn.Module:
        """What is never called and only holds others: a ModuleList where they are numbered."""
        children = {name: self._child(child) for name, child in module.named_children()}
        numbered = list(children) == [str(index) for index in range(len(children))]
        made = nn.ModuleList(children.values()) if children and numbered else nn.Module()
        if not isinstance(made, nn.ModuleList):
            for name, child in children.items():
                made.add_module(name, child)
        made._parameters.update(module._parameters)
        made._buffers.update(module._buffers)
        return made

    def _sequential(self, module: nn.Module, graph: fx.Graph) -> nn.Module | None:
        """An nn.Sequential as itself, or None where it is more than its children in order."""
        calls = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        names = [str(node.target) for node in calls if node.op == "call_module"]
        chained = all(
            len(node.args) == 1 and node.args[0] is node.prev and not node.kwargs for node in calls
        )
        if not chained or len(names) != len(calls) or names != list(module._modules):
            return None
        children = {name: self._child(child) for name, child in module.named_children()}
        return nn.Sequential(OrderedDict(children))

    def _graph_module(self, module: nn.Module, graph: fx.Graph, kind: str) -> nn.Module:
        built = nn.Module()
        if module is self.tree:
            self.root = built
        for name, child in module._modules.items():
            built.add_module(name, self._child(child) if child is not None else None)
        built._parameters.update(module._parameters)
        built._buffers.update(module._buffers)
        built._non_persistent_buffers_set.update(module._non_persistent_buffers_set)
        for node in graph.nodes:
            if node.op == "get_attr" and isinstance(getattr(module, node.target, None), nn.Module):
                raise BadInput("The program uses control flow of torch.cond or torch.while_loop.")
        built.__class__ = self._class(built, graph, kind)
        return built

    def _class(self, built: nn.Module, graph: fx.Graph, kind: str) -> type:
        """The class of the module's author; modules of one code and one structure share it."""
        code = _plainly_named(graph, keep_inputs=built is self.root).python_code("self")
        children = tuple((name, type(child)) for name, child in built.named_children())
        key = (kind, code.src, children)
        if key not in self.classes:
            names: dict[str, Any] = {}
            exec(compile(code.src, f"{kind}.py", "exec"), dict(code.globals), names)
            module, _, name = kind.rpartition(".")
            # What was torch.nn's and could not be made so again is a class of its own.
            module = "program" if not module or kind.startswith(_NN) else module
            body = {"forward": names["forward"], "__module__": module}
            self.classes[key] = type(name, (nn.Module,), body)
        return self.classes[key]

    def _leaf(self, module: nn.Module, graph: fx.Graph, kind: str) -> nn.Module | None:
        """One of torch.nn's layers as itself, or None where it is not certain what it was."""
        name = kind.rpartition(".")[2]
        if name not in _SIZES and name not in _PLAIN:
            return None
        ops = [node for node in graph.nodes if node.op == "call_function"]
        # Batch norm counts its batches on the side.
        ops = [node for node in ops if "num_batches_tracked" not in str(node.args)]
        if not ops and name in ("Dropout", "Identity"):
            return nn.Identity()
        if len(ops) != 1:
            return None
        arguments = _arguments(module, ops[0])
        layer_class = getattr(nn, name)
        wanted = inspect.signature(layer_class.__init__).parameters
        options = {k: v for k, v in arguments.items() if k in wanted and k not in _WEIGHTS}
        options |= _SIZES[name](arguments) if name in _SIZES else {}
        try:
            layer = layer_class(**options)
        except (TypeError, ValueError, RuntimeError):
            return None
        for weight in _WEIGHTS:
            if isinstance(arguments.get(weight), torch.Tensor):
                setattr(layer, weight, arguments[weight])
        return layer


def _dissolve(program: ExportedProgram) -> None:
    """Take modules that call outside their own subtree out of the record of who called what.

    ``ResidualConnection(x, lambda x: self.attention(x))`` calls a sibling; its ops then belong to
    its caller. Otherwise unflatten would lose the names and hoist weights into arguments.
    """
    stacks = [node.meta.get("nn_module_stack") or {} for node in program.graph.nodes]
    strays: set[str] = set()
    for stack in stacks:
        paths = [path for path, _ in stack.values()]
        for index, path in enumerate(paths[1:], 1):
            outside = (p for p in paths[:index] if p and not f"{path}.".startswith(f"{p}."))
            strays.update(outside)
    for node in program.graph.nodes if strays else ():
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {k: v for k, v in stack.items() if v[0] not in strays}


def _plainly_named(graph: fx.Graph, keep_inputs: bool) -> fx.Graph:
    """The same graph with names that do not count on through the model (relu_7 becomes relu).

    Repeated blocks thus have the same code, and share a class.
    """
    copied, known = fx.Graph(), {}
    for node in graph.nodes:
        name = re.sub(r"(_+\d+)+$", "", node.name)
        if node.op == "placeholder":
            name = node.name if keep_inputs else "x"
        if node.op == "output":
            copied.output(fx.node.map_arg(node.args[0], known.__getitem__))
            continue
        args = fx.node.map_arg(node.args, known.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, known.__getitem__)
        target = name if node.op == "placeholder" and not keep_inputs else node.target
        known[node] = copied.create_node(node.op, target, args, kwargs, name or "x")
        if node.op == "placeholder" and not keep_inputs:
            known[node].target = known[node].name  # the second x is x_1
    return copied


def _specs(spec: Any) -> list[Any]:
    """A pytree spec and all specs in it that hold something."""
    children = spec.children() if callable(getattr(spec, "children", None)) else []
    own = [] if spec.is_leaf() else [spec]
    return own + [part for child in children for part in _specs(child)]


def _has(arguments: dict[str, Any], name: str) -> bool:
    return arguments.get(name) is not None


def _arguments(module: nn.Module, node: fx.Node) -> dict[str, Any]:
    """An op's arguments by the names of its schema, weights as themselves."""
    values: dict[str, Any] = {}
    schema = getattr(node.target, "_schema", None)
    for index, argument in enumerate(schema.arguments if schema else ()):
        if index < len(node.args):
            value: Any = node.args[index]
        elif argument.name in node.kwargs:
            value = node.kwargs[argument.name]
        else:
            value = argument.default_value
        if isinstance(value, fx.Node):
            if value.op != "get_attr":
                continue
            owner: Any = module
            for part in str(value.target).split("."):
                owner = getattr(owner, part)
            value = owner
        values[argument.name] = value
    return values
