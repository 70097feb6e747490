"""The models that are layers of a Functional program, each built by a function of its own.

::

    def build_tower():
        inputs = keras.Input((7,), name="left")
        outputs = layers.Dense(6, name="first")(inputs)
        return keras.Model(inputs, outputs, name="tower")

A ``keras.Sequential`` is written where it is applied.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from diglot.codegen import names, sequences
from diglot.codegen.classes import Classes, Dissolve, LayerClass
from diglot.codegen.expr import E, call, text
from diglot.codegen.keras_source import input_layer
from diglot.codegen.optional import Instance
from diglot.codegen.statements import Statement, assignment
from diglot.codegen.trees import arguments
from diglot.ir.hub import Call, Hub, is_own
from diglot.ir.sizes import is_static, shape_of

if TYPE_CHECKING:
    from diglot.codegen.functional import FunctionalWriter
    from diglot.codegen.region import RegionWriter

_NAME = "name"  # of a model, where one function builds several


def inner_models(hub: Hub) -> set[Call]:
    """The calls of models that are layers of the model; of none to which functions are handed."""
    found = [r for r in hub.root.walk() if r.path in hub.inner_models and r is not hub.root]
    apart = {r.path for r in found if r.function or any(c.function for c in r.walk())}
    return {r for r in found if r.path not in apart}


def own_layers(hub: Hub) -> set[Call]:
    """The calls of layers of the user's own, and those in them."""
    return {region for region in hub.root.walk() if is_own(hub, region)}


class InnerModels:
    """Builds models; ``made`` says how each is made, by its path."""

    def __init__(self, functions: Classes, inline: Callable[[RegionWriter], None]) -> None:
        self.made: dict[str, ast.expr] = {}
        self._functions = functions
        self._program = functions.program
        self._inline = inline
        self._alike: dict[str, LayerClass] = {}

    def build(self, calls: list[Call]) -> None:
        """Build a model that is called here. Raises Dissolve where it is not the same everywhere."""
        first, *others = [self._written(region) for region in calls]
        path = calls[0].path
        if any(text(other[0]) != text(first[0]) for other in others):
            raise Dissolve(calls[0])
        tree, statements = first
        if isinstance(tree, ast.FunctionDef):
            self.made[path] = self._function(calls[0], tree, statements)
        else:
            assert isinstance(tree, ast.expr)
            self.made[path] = tree

    def _written(self, region: Call) -> tuple[ast.AST, list[Statement]]:
        """Return a ``keras.Sequential``, or the function that builds a model and its statements."""
        writer: FunctionalWriter = self._program.writer(region)  # type: ignore[assignment]
        self._inline(writer)
        known = self._program.hub.inner_models[region.path]
        if known.is_sequence and len(writer.params) == len(writer.results) == 1:
            found = sequences.layers_of(writer)
            if found is not None:
                layers = ast.List([layer for layer, _ in found], ast.Load())
                return call("keras.Sequential", layers, name=known.name), []
        statements = [*self._inputs(writer), *writer.statements]
        inputs = [ast.Name(name, ast.Load()) for name in writer.params]
        given = inputs[0] if len(inputs) == 1 else ast.List([*inputs], ast.Load())
        results = writer.results
        outputs = results[0] if len(results) == 1 else ast.List(results, ast.Load())
        last = statements[-1].node
        if not (isinstance(last, ast.Assign) and text(last.targets[0]) == text(outputs)):
            statements.append(Statement(assignment("outputs", outputs)))
        else:
            statements[-1].node = assignment("outputs", last.value)
        made = call("keras.Model", given, E("outputs"), name=known.name)
        if self._program.frozen.whole(region.path):
            statements.append(Statement(assignment("model", made)))
            statements.append(Statement(ast.parse("model.trainable = False").body[0]))
            made = E("model")
        statements.append(Statement(ast.Return(made)))
        name = names.snake(region.class_name)
        body = [s.node for s in statements]
        return ast.FunctionDef(f"build_{name}", arguments([]), body, []), statements

    def _inputs(self, writer: FunctionalWriter) -> list[Statement]:
        """``inputs = keras.Input((7,))``."""
        made = []
        for port, variable in zip(
            self._program.live_inputs(writer.call), writer.params, strict=True
        ):
            layout = port.node.meta.get("layout")
            size = shape_of(port.node.meta["val"])[:1]
            if not size or is_static(size[0]) or (layout and layout[0] != 0):
                raise Dissolve(writer.call)  # its first axis is not the batch
            name = None if variable == "inputs" else variable
            made.append(Statement(assignment(variable, input_layer(port.node, name))))
        return made

    def _function(
        self, region: Call, tree: ast.FunctionDef, statements: list[Statement]
    ) -> ast.expr:
        """Return the call of the function that builds a model; one function builds all that differ in their names."""
        name = self._program.hub.inner_models[region.path].name
        anonymous = copy.deepcopy(tree)
        _named(anonymous).value = ast.Name(_NAME, ast.Load())
        known = self._alike.get(text(anonymous))
        if known is None:
            tree.name = names.unique(tree.name, {"build_model", *self._functions.taken})
            self._functions.taken.add(tree.name)
            writer = self._program.writer(region)
            instance = Instance(region, writer, [], statements)
            made = LayerClass(tree.name, [instance], [], tree, statements)
            self._alike[text(anonymous)] = made
            self._functions.classes.append(made)
            return call(tree.name)
        self._share(known)
        known.instances.append(Instance(region, self._program.writer(region), [], statements))
        return call(known.name, name=name)

    def _share(self, known: LayerClass) -> None:
        """Give a function the model's name as a parameter."""
        assert isinstance(known.tree, ast.FunctionDef)
        keyword = _named(known.tree)
        if isinstance(keyword.value, ast.Constant):
            self.made[known.instances[0].region.path] = call(known.name, name=keyword.value.value)
            known.tree.args = arguments([_NAME])
            keyword.value = ast.Name(_NAME, ast.Load())


def _named(tree: ast.FunctionDef) -> ast.keyword:
    """The ``name=`` of the model that a function builds."""
    models = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and text(n.func) == "keras.Model"
    ]
    return models[-1].keywords[-1]
