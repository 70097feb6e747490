"""A whole program: which regions are written, what they share, and how their values are named."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import fx, nn

from diglot.codegen import author, names
from diglot.codegen.columns import Columns
from diglot.codegen.constants import Constants
from diglot.codegen.dialect import Dialect
from diglot.codegen.freezing import frozen_modules
from diglot.codegen.frozen import Frozen
from diglot.codegen.homes import Homes
from diglot.codegen.initial import Initial
from diglot.codegen.keras_dialect import KerasDialect
from diglot.codegen.lists import Lists
from diglot.codegen.loops import Loops
from diglot.codegen.own_names import OwnNames
from diglot.codegen.region import RegionWriter
from diglot.codegen.statements import through
from diglot.codegen.tree import TreeQueries
from diglot.errors import Problem, Unsupported
from diglot.ir.hub import ASSIGN, Call, Frame, Hub, Port, is_call, is_mark, target_name
from diglot.ir.leaves import is_leaf
from diglot.ir.limits import limits
from diglot.ir.sizes import expression, is_static, shape_of
from diglot.passes.living import unread_ends
from diglot.rules.registry import Rule, registry

_CHOICES = {"diglot.by_mode.default"}
_GENERATED = re.compile(r"(_\d+|_default|_tensor|_int|_scalar)+$")


class Program(TreeQueries):
    """State shared by the writers of one program."""

    def __init__(
        self,
        hub: Hub,
        model: nn.Module | None,
        float_dtype: torch.dtype,
        style: str = "layers",
        dialect: Dialect | None = None,
        region_writer: type[RegionWriter] = RegionWriter,
    ) -> None:
        self.hub = hub
        self.dialect: Dialect = dialect or KerasDialect()
        self._region_writer = region_writer
        self.model = model
        self.modules = (
            dict(model.named_modules(remove_duplicate=False)) if model is not None else {}
        )
        self.float_dtype = float_dtype
        self.style = style
        self.rules: dict[str, Rule] = registry()
        self.problems: list[Problem] = []
        self.helpers: set[str] = set()
        self.met: list[tuple[Rule, Call, fx.Node]] = []
        self.alias: dict[fx.Node, fx.Node] = {}
        self.limits = limits(hub) if self.dialect.limited else []
        #: Whether a model's modules have the names they had in PyTorch before it was translated from there.
        self.keeps_names = bool(getattr(model, "keeps_names", False))
        self.root_is_class = False  # whether a root nn.Sequential holds more than a Sequential can
        self.parts: dict[tuple[Call, fx.Node], Any] = {}
        self.made_by: dict[tuple[Call, str], fx.Node] = {}
        self.weights = Homes(self)
        self.initial = Initial(self)
        self.constants = Constants(self)
        self.loops = Loops(self)
        self.lists = Lists(self)
        self.columns = Columns(self)
        self.own_names = OwnNames(hub)
        self.frozen = Frozen(hub, style)
        self.frozen_modules = frozen_modules(hub)
        self.ends = set(unread_ends(hub))  # written, although nobody reads them
        #: Weights of layers that the program makes, but that are no part of the model.
        self.outside: set[fx.Node] = set()
        self._strides: dict[Any, set[str]] | None = None
        self._frames: dict[fx.Node, tuple[Frame, ...]] = {}
        self._writers: dict[Call, RegionWriter] = {}
        self._sequences: dict[str, Any] = {}
        self.package = names.snake(names.class_name(hub.root.class_name))
        # Keras knows inputs and layers by name, and has each name once.
        given = {names.local(n) for n in hub.input_names}
        self.root_name = names.unique(hub.model_name or self.package, given)
        self._live: dict[tuple[Any, str], set[str]] = {}

    # --- writers ------------------------------------------------------------------------------------

    def writer(self, call: Call) -> RegionWriter:
        """Return the finished writer of a region (written on first use)."""
        if call not in self._writers:
            self._writers[call] = self._region_writer(self, call).write()
        return self._writers[call]

    def run(self) -> RegionWriter:
        """Write everything from the root down. Raises :class:`Unsupported` with every problem found."""
        self._find_live()
        root = self.writer(self.hub.root)
        if self.problems:
            raise Unsupported(_once(self.problems))
        return root

    def problem(self, writer: RegionWriter, node: fx.Node, hint: str) -> None:
        """Record something that cannot be translated; all of it is reported at once."""
        self.problems.append(
            Problem(target_name(node), writer.where(node), writer.leaf_path(node), hint)
        )

    # --- what crosses borders ------------------------------------------------------------------------

    def _group(self, call: Call) -> Any:
        return (call.cls or call.class_name, call.function)

    def _find_live(self) -> None:
        """Find, over all calls of a class, which inputs and outputs anybody reads."""
        for call in self.hub.root.walk():
            inside = set(call.nodes())
            for port in call.inputs:
                if port.node.users:
                    self._live.setdefault((self._group(call), "in"), set()).add(port.name)
            for port in call.outputs:
                if any(u not in inside for u in port.node.users) or call is self.hub.root:
                    self._live.setdefault((self._group(call), "out"), set()).add(port.name)

    def live_inputs(self, call: Call) -> list[Port]:
        """Return the inputs that some call of the class reads."""
        live = self._live.get((self._group(call), "in"), set())
        return [p for p in call.inputs if p.name in live or call is self.hub.root]

    def live_outputs(self, call: Call) -> list[Port]:
        """Return the outputs that somebody reads after some call of the class."""
        live = self._live.get((self._group(call), "out"), set())
        return [p for p in call.outputs if p.name in live]

    def function_parameters(self, call: Call) -> list[str]:
        """Return the parameters through which a module was handed functions."""
        return list(dict.fromkeys(c.function for c in call.children if c.function))

    def function_argument(self, child: Call, name: str, port: Port) -> str:
        """Name an argument of a function that is handed to a module."""
        given = child.config.get("function_arguments", {}).get(name, [])
        index = int(port.name.split(".")[0]) if port.name.split(".")[0].isdigit() else 0
        return given[index] if index < len(given) else "x"

    def parameter_order(self, call: Call, writer: RegionWriter) -> list[str]:
        """Return a region's parameters in the order of its ``call`` method."""
        return writer.params

    def port_name(self, call: Call, port: Port) -> str:
        """Name a parameter: the author's, or for a part of a tuple what the caller calls that part."""
        name = port.name
        if "." not in name:
            return name
        hint = self.hint(port.value)
        return hint if hint and not hint.startswith("x") else name.replace(".", "_")

    def in_loop(self, call: Call) -> bool:
        """Tell whether a call will be written as part of a loop."""
        return call in self.loops.looped

    # --- names ---------------------------------------------------------------------------------------

    def frames(self, node: fx.Node) -> tuple[Frame, ...]:
        """Return the author's frames behind a node, outermost first."""
        if node not in self._frames:
            self._frames[node] = tuple(author.frames(node.meta.get("stack_trace")))
        return self._frames[node]

    def hint(self, node: fx.Node) -> str:
        """Return a name for a value wherever it is needed outside the statement that made it."""
        if node in self.hub.parameters:
            return self.weights.short_name(node)
        if node in self.hub.inputs:
            return self.hub.input_names[self.hub.inputs.index(node)]
        if node.meta.get("named"):
            return node.meta["named"]
        if is_mark(node):
            tag = node.args[1].split("|")
            if tag[1] == "in" and "." not in tag[-1]:
                return tag[-1]
            if node.meta.get("part"):
                return tag[-1].replace(".", "_")
        source = through(node)
        if source is not node and (source in self.hub.inputs or source in self.hub.parameters):
            return self.hint(source)
        found = self.frames(source)
        if found:
            assigned = author.assigned_names(found[-1])
            if assigned and len(assigned) == 1 and assigned[0]:
                part = source.meta.get("part")
                return f"{assigned[0].rstrip('_')}_{part}" if part else assigned[0]
            if (
                assigned
                and source.op == "call_function"
                and target_name(source).endswith("getitem")
            ):
                index = source.args[1]
                if index < len(assigned) and assigned[index]:
                    return assigned[index]
        return self.noun_for(None, source, "")

    def noun_for(self, writer: RegionWriter | None, node: fx.Node, noun: str) -> str:
        """Return a noun for a value that the author did not name."""
        leaf = writer.leaf_path(node) if writer else ""
        if not noun and node.op == "call_function":
            rule = self.rules.get(target_name(node))
            noun = rule.noun if rule else ""
        last = leaf.rpartition(".")[2]
        if last and not last.isdigit() and leaf != (writer.call.path if writer else ""):
            return names.snake(last)
        users = [
            u for n in (node, *(u for u in node.users if is_call(u, _CHOICES))) for u in n.users
        ]
        kept = next((u.args[0] for u in users if is_call(u, {ASSIGN})), None)
        if kept in self.hub.parameters and kept is not node:
            return names.snake(self.weights.short_name(kept))  # type: ignore[arg-type]
        return noun or "x"

    def output_noun(self, port: Port, noun: str) -> str:
        """Return a name for one of several results of a call."""
        last = port.name.rpartition(".")[2]
        return last if last and not last.isdigit() else self.hint(port.value) or f"{noun}_{last}"

    def size_reads(self, call: Call, symbol: Any) -> int:
        """Count how often a region spells out a dynamic size."""
        return sum(_sizes_in(i).count(symbol) for i in call.items if isinstance(i, fx.Node))

    def reads_later(self, writer: RegionWriter, symbol: Any) -> bool:
        """Tell whether an item after the present one spells out a size."""
        items = writer.call.items
        start = items.index(writer.at) + 1 if writer.at in items else 0
        return any(symbol in _sizes_in(i) for i in items[start:] if isinstance(i, fx.Node))

    def is_leaf_module(self, path: str) -> bool:
        """Tell whether a path is one of torch.nn's own layers, which makes one value for each call."""
        module = self.modules.get(path)
        return module is not None and is_leaf(module)

    def strides_vary(self, writer: RegionWriter, node: fx.Node) -> bool:
        """Tell whether the same convolution strides in some instances of a class and not in others."""
        if self._strides is None:
            self._strides = {}
            for other in self.hub.call_of:
                if other.op == "call_function" and target_name(other) == "aten.conv2d.default":
                    stride = other.args[3] if len(other.args) > 3 else 1
                    self._strides.setdefault(self._place_in_class(writer, other), set()).add(
                        str(stride)
                    )
        return len(self._strides.get(self._place_in_class(writer, node), ())) > 1

    def _place_in_class(self, writer: RegionWriter, node: fx.Node) -> tuple[Any, str]:
        """Return the class that holds a layer and the layer's path in it, through Sequentials."""
        region = self.hub.call_of[node]
        while self.is_sequential(region) and region.parent is not None:
            region = region.parent
        return region.cls or region.class_name, writer.leaf_path(node).removeprefix(region.path)

    def leaf_class(self, node: fx.Node) -> str:
        """Return the class name of the innermost module that made a node."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return stack[-1][1].rpartition(".")[2] if stack else ""


def _sizes_in(node: fx.Node) -> list[Any]:
    """Return the dynamic sizes that writing a node spells out: all but the one that -1 stands for."""
    if is_mark(node) or node.op != "call_function":
        return []
    rule = registry().get(target_name(node))
    if rule is not None and rule.layout == "reshape":
        value = node.meta.get("val")
        shape = shape_of(value) if isinstance(value, torch.Tensor) else ()
        dynamic = [s for s in shape if not is_static(s)]
        return [x for s in dynamic[1:] for x in s.free_symbols]
    found: list[Any] = []

    def visit(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for v in value:
                visit(v)
        elif isinstance(value, fx.Node) and isinstance(value.meta.get("val"), torch.SymInt):
            found.extend(expression(value.meta["val"]).free_symbols)

    visit(node.args)
    return found


def _once(problems: list[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
