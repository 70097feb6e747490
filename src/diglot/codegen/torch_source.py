"""Hub -> PyTorch source: modules, ``build_model``, formatted by ruff; and which line came from which."""

from __future__ import annotations

import ast
import re
import textwrap

import torch
from torch import fx, nn

from diglot import carried
from diglot.codegen import names
from diglot.codegen.expr import E, call, text
from diglot.codegen.program import Program
from diglot.codegen.region import RegionWriter
from diglot.codegen.source import (
    LINE_LENGTH,
    Written,
    bare_returns,
    compose,
    format_source,
    line_map,
    structure_ast,
)
from diglot.codegen.statements import Key, through
from diglot.codegen.torch_dialect import TorchDialect
from diglot.ir.hub import Hub, is_call, target_name

_LISTED = 6  # layers that a docstring names
#: Names of values that say no more than what made them.
_PLAIN = re.compile(
    r"x|((depthwise_|separable_)?conv[123]d(_transpose)?|dense|(batch|layer|group)_normalization)(_\d+)?"
)
_VIEWS = {
    "aten.transpose.int", "aten.permute.default", "aten.unflatten.int", "aten.view.default",
    "aten.reshape.default", "aten.flatten.using_ints", "aten.squeeze.dim", "aten.unsqueeze.default",
}  # fmt: skip
_SHORT = 56  # what a person nests where nothing says how the author did


class TorchRegion(RegionWriter):
    """Writes one region in PyTorch: the root returns what the source returned, dicts and lists included."""

    def write(self) -> RegionWriter:
        """Write the region; the root takes every input of the model, read or not, in the model's order."""
        super().write()
        hub = self.program.hub
        if self.call is hub.root:
            taken = {
                through(p.node): n for p, n in zip(self.call.inputs, self.params, strict=False)
            }
            given = zip(hub.inputs, hub.input_names, strict=True)
            own = [taken.get(node) or names.local(name) for node, name in given]
            self.params = [*own, *(n for n in self.params if n not in own)]
        return self

    @property
    def inherited(self) -> Key | None:
        """The layer that the region's module is itself, an activation aside: a batch norm with weights of its own."""
        for key, member in self.members.items():
            own = self.program.keeps_names and member.kind == "layer" and not member.source
            if own and member.weights and text(member.construct).startswith("nn.BatchNorm"):
                return key
        return None

    def owns(self, node: fx.Node, weights: list[fx.Node]) -> bool:
        """Tell whether a layer made of these weights can be an attribute; not where the module had them itself."""
        home = self.program.weights.home_of_layer(self, node, weights)
        own = home == "" and self.program.keeps_names
        return home is not None and (not own or target_name(node) == "aten.batch_norm.default")

    def key(self, path: str) -> Key:
        """Turn a relative module path into an attribute; names that the model had in PyTorch are kept to the letter."""
        first, *rest = self.placed(path.split("."))
        below = ".".join(filter(None, [self.call.path, path]))
        known = self.program.keeps_names and below in self.program.modules
        if not known or first.isdigit() or not rest:  # or a module from elsewhere, called here
            return super().key(path)
        places = tuple(int(part) if part.isdigit() else part for part in rest)
        return first, places if len(places) > 1 else places[0]

    def noun(self, node: fx.Node, noun: str) -> str:
        """What flows through a model without source lines (a Functional one) is ``x``, while no other value is; then
        it is ``y``, unless the layer's name says more than what the layer is (``query``)."""
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dtype is torch.bool and noun == "x":
            noun = "mask"
        flows = isinstance(value, torch.Tensor) and value.dtype.is_floating_point
        if not flows or self.frames(node):
            return super().noun(node, noun)
        if self._is_dead("x"):
            return "x"
        found = super().noun(node, noun)
        if found == "x":
            found = self._viewed_layer(node)
        return "y" if _PLAIN.fullmatch(found) and self._is_dead("y") else found

    def put_aside(self, node: fx.Node) -> str:
        """As above; a layer's result with its axes arranged in another way goes by the layer's name."""
        found = super().put_aside(node)
        return self._viewed_layer(node) if found == "x" and not self.frames(node) else found

    def _viewed_layer(self, node: fx.Node) -> str:
        """The name of the layer whose result a value is, with its axes arranged in another way; else ``x``."""
        source = node
        while is_call(source, _VIEWS) and isinstance(source.args[0], fx.Node):
            source = source.args[0]
        return "x" if source is node else super().noun(source, "x")

    def _nests(self, node: fx.Node, made: ast.expr) -> bool:
        short = bool(self.frames(node)) or len(text(made)) <= _SHORT or self._goes_on(node)
        return (short or self._is_all(node)) and super()._nests(node, made)

    def result(self) -> ast.expr:
        """The returned value."""
        hub = self.program.hub
        if self.call is not hub.root or hub.output_structure == "tensor":
            return super().result()
        ports = self.program.live_outputs(self.call)
        values = {p.name: self.read(p.value) for p in ports}
        return structure_ast(hub.output_structure, values, "")


def write(hub: Hub, model: nn.Module | None, float_dtype: torch.dtype) -> Written:
    """Return the PyTorch program for a hub with layouts. Raises Unsupported listing every problem."""
    program, classes, root = compose(
        lambda: Program(hub, model, float_dtype, "layers", TorchDialect(), TorchRegion), hub
    )
    body: list[ast.stmt] = [made.tree for made in classes.classes]
    construct = call(root.name) if root is not None else classes.sequence(hub.root)
    if float_dtype is torch.float64:
        construct = E("network.double()", network=construct)
    body.append(_build_function(construct, hub.losses))
    source = finish(program, body)
    lines, spans = line_map(source, classes.classes, "forward")
    return Written(source, program, classes.classes, None, lines, spans)


def _build_function(construct: ast.expr, losses: dict[str, str]) -> ast.FunctionDef:
    """``def build_model(weights=None)``."""
    head = "Build the model; ``weights`` is the path of a ``.safetensors`` file."
    if losses:
        listed = [f"``{layer}`` ({what})" for layer, what in list(losses.items())[:_LISTED]]
        more = [f"{len(losses) - _LISTED} more"] if len(losses) > _LISTED else []
        said = f"It has nothing of what Keras did for training alone: {', '.join(listed + more)}."
        head = "\n    ".join([head, "", *textwrap.wrap(said, LINE_LENGTH - 4), ""])
    tree = ast.parse(
        "def build_model(weights=None):\n"
        "    model = construct\n"
        "    if weights is not None:\n"
        "        model.load_state_dict(load_file(weights))\n"
        "    return model"
    ).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.body[0].value = construct  # type: ignore[attr-defined]
    tree.body.insert(0, ast.Expr(ast.Constant(head)))
    return tree


def finish(program: Program, body: list[ast.stmt]) -> str:
    """Return the formatted module text."""
    helpers = carried.sources(program.helpers)
    code = "\n\n\n".join(helpers + [bare_returns(text(node)) for node in body])
    standard = [f"import {n}" for n in ("math",) if f"{n}." in code]
    if "OrderedDict(" in code:
        standard.append("from collections import OrderedDict")
    imports = ["import torch"] if "torch." in code else []
    if "F." in code:
        imports.append("import torch.nn.functional as F")
    imports += ["from safetensors.torch import load_file", "from torch import nn"]
    blocks = [_docstring(program), "\n".join(standard), "\n".join(imports), code]
    return format_source("\n\n".join(b for b in blocks if b) + "\n")


def _docstring(program: Program) -> str:
    name = program.hub.root.class_name
    cls = program.hub.root.cls
    home = cls.__module__ if cls is not None else "keras."
    language = "TensorFlow" if home == "tensorflow_graph" else "Keras"
    line = f"{name} in PyTorch, translated from {language}"
    # Nobody wrote a class for it, or Diglot did.
    if home.startswith(("tensorflow_graph", "keras.", "diglot_generated")):
        return f'"""{line} by Diglot."""'
    whole = f'"""{line} ({home}.{name}) by Diglot."""'
    if len(whole) <= LINE_LENGTH:
        return whole
    return f'"""{line} by Diglot.\n\nSource: {home}.{name}\n"""'
