"""How a program is spelled in Keras 3: layers, ops, weights and classes."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import torch

from diglot.codegen import names
from diglot.codegen.expr import E, call, to_ast
from diglot.codegen.opcall import Refusal
from diglot.codegen.optional import merge_optional
from diglot.codegen.trees import arguments, set_attribute
from diglot.codegen.variants import merge_variants
from diglot.ir.hub import Call, target_name

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter
    from diglot.codegen.statements import Member, Statement
    from diglot.rules.registry import Rule

#: What the positional arguments of a Keras layer are called.
POSITIONAL = {
    "Dense": ("units",), "Conv1D": ("filters", "kernel_size"), "Conv2D": ("filters", "kernel_size"),
    "Conv3D": ("filters", "kernel_size"),
    "padded_conv2d": ("filters", "kernel_size"), "Conv2DTranspose": ("filters", "kernel_size"),
    "Conv1DTranspose": ("filters", "kernel_size"), "DepthwiseConv2D": ("kernel_size",),
    "DepthwiseConv1D": ("kernel_size",), "Embedding": ("input_dim", "output_dim"), "Dropout": ("rate",),
    "ZeroPadding2D": ("padding",), "MaxPooling2D": ("pool_size",), "AveragePooling2D": ("pool_size",),
    "LSTM": ("units",), "GRU": ("units",), "SimpleRNN": ("units",), "GroupNormalization": ("groups",),
    "MultiHeadAttention": ("num_heads", "key_dim"), "range": ("count",),
    "Constant": ("init_value",), "padded_depthwise_conv2d": ("kernel_size",),
}  # fmt: skip


#: What torch.nn calls a Keras layer's argument.
TORCH_SLOTS = {
    "units": ("out_features",), "filters": ("out_channels",), "kernel_size": ("kernel_size",), "strides": ("stride",),
    "rate": ("p",), "input_dim": ("num_embeddings",), "output_dim": ("embedding_dim",), "epsilon": ("eps",),
    "groups": ("groups", "num_groups"), "pool_size": ("kernel_size",), "dilation_rate": ("dilation",),
    "padding": ("padding",), "num_heads": ("num_heads",),
}  # fmt: skip


class KerasDialect:
    """Keras 3, whatever its backend."""

    forward = "call"
    holds_weights = False
    limited = True
    positional = POSITIONAL
    source_slots = TORCH_SLOTS

    def rule(self, program: Program, node: fx.Node) -> Rule | None:
        """The record of a node's op."""
        return program.rules.get(target_name(node))

    def write(self, op: OpCall) -> ast.expr:
        """What the op's rule says. Raises Refusal."""
        reason = op.rule.refuse(op) if op.rule.refuse else None
        if reason:
            raise Refusal(reason)
        return op.template(op.rule.keras) if isinstance(op.rule.keras, str) else op.rule.keras(op)

    def as_layer(self, op: OpCall) -> ast.expr | None:
        """The layer form of a stateless op (``layers.ReLU()``), where its rule has one."""
        layer = op.rule.layer
        if layer is None:
            return None
        return op.template(layer) if isinstance(layer, str) else layer(op)

    def stands_apart(self, program: Program, member: Member) -> bool:
        """No: everything is an argument."""
        return False

    def attribute(self, name: str) -> str:
        """A name that hides nothing of keras.layers.Layer."""
        return names.attribute(name)

    def class_name(self, name: str) -> str:
        """A name that is not of a class that every program imports."""
        return names.class_name(name)

    def is_pure(self, function: str) -> bool:
        """Functions of ``keras.ops`` and layers without weights."""
        return function.startswith(("ops.", "RepeatBatch", "Constant", "keras.config."))

    def size(self, value: ast.expr, axis: int) -> ast.expr:
        """``ops.shape(x)[1]``."""
        return E("ops.shape(x)[i]", x=value, i=axis)

    def extreme(self, kind: str) -> str:
        """``ops.minimum(a, b)``."""
        return "ops.minimum(a, b)" if kind == "Min" else "ops.maximum(a, b)"

    def transposed(self, weight: ast.expr, axes: list[int]) -> ast.expr:
        """``ops.transpose(w)``."""
        if axes == [1, 0]:
            return E("ops.transpose(w)", w=weight)
        return call("ops.transpose", weight, axes)

    def constant(
        self, writer: RegionWriter, node: fx.Node, value: torch.Tensor, wanted: torch.dtype
    ) -> ast.expr:
        """Made where it is read."""
        return writer.program.constants.literal(writer, value, wanted)

    def weight(
        self,
        program: Program,
        node: fx.Node,
        name: str,
        shape: tuple[int, ...],
        perm: list[int] | None,
    ) -> ast.expr:
        """``self.add_weight(shape=…, initializer=…, name=…)``."""
        parameter = program.hub.parameters[node]
        initializer = program.initial.initializer(node, perm)
        options: dict[str, Any] = {"shape": shape, "initializer": initializer}
        if not parameter.value.dtype.is_floating_point:
            options["dtype"] = "bool" if parameter.value.dtype == torch.bool else "int32"
        if program.frozen.weight(parameter):
            options["trainable"] = False
        known = program.hub.weight_names.get(parameter.name, name)
        return call("self.add_weight", **options, name=known or ...)

    def trained(
        self, writer: RegionWriter, construct: ast.expr, weights: list[fx.Node]
    ) -> ast.expr:
        """A layer whose weights are not trained says so, where not all around it is frozen."""
        if not isinstance(construct, ast.Call):
            return construct
        frozen = writer.program.frozen.layer(writer.call, construct, weights)
        construct.keywords = [k for k in construct.keywords if k.arg != "trainable"]
        if frozen:
            construct.keywords.append(ast.keyword("trainable", ast.Constant(False)))
        return construct

    def whole(self, program: Program, path: str, construct: ast.expr) -> ast.expr:
        """``not_trained(Encoder())`` where no weight of a module is trained."""
        if not program.frozen.whole(path):
            return construct
        program.helpers.add("not_trained")
        return call("not_trained", construct)

    def mode(self) -> ast.expr:
        """``training``: Keras hands it to every ``call`` that asks for it."""
        return E("training")

    def keep(self, buffer: ast.expr, value: ast.expr, *, trains: bool) -> ast.stmt:
        """``self.h.assign(h)``."""
        return ast.Expr(E("b.assign(v)", b=buffer, v=value))

    def listed(self, items: ast.expr) -> ast.expr:
        """A plain list: Keras tracks it."""
        return items

    def keyed(self, items: dict[str, ast.expr]) -> ast.expr:
        """A plain dict: Keras tracks it."""
        return to_ast(items)

    def absent(self) -> ast.expr:
        """``layers.Identity()``."""
        return E("layers.Identity()")

    def rows(self, items: list[ast.expr]) -> list[ast.expr]:
        """One by one."""
        return items

    def parameters(
        self, params: dict[str, list[Any]], places: dict[int, str], instances: list[Instance]
    ) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """As they are: named as the author's constructor does."""
        return params, places

    def sequence(
        self, names: list[str], items: list[ast.expr], listed: ast.expr, whole: bool
    ) -> ast.expr:
        """``keras.Sequential([...])``."""
        return call("keras.Sequential", listed)

    def sequence_place(self, place: int, names: list[str], whole: bool) -> str:
        """``layers.2``."""
        return f"layers.{place}"

    def merge(self, instances: list[Instance]) -> None:
        """``self.part = … if part else None``; ``layers.Identity()`` where the author did not say how."""
        merge_optional(instances)
        merge_variants(instances, "layers.Identity()")

    def frozen(self, program: Program, instance: Instance) -> str:
        """Nothing: layers say ``trainable=False`` themselves."""
        return ""

    def tree(
        self,
        program: Program,
        name: str,
        params: list[str],
        inits: list[tuple[str, ast.expr]],
        body: list[Statement],
        first: Instance,
    ) -> ast.ClassDef:
        """A registered Layer with ``__init__``, ``call`` and ``get_config``."""
        init = ast.FunctionDef(
            "__init__",
            arguments(["self", *params], kwargs="kwargs"),
            [ast.Expr(E("super().__init__(**kwargs)"))],
            [],
        )  # fmt: skip
        parts_that_may_lack = {
            n: e.orelse for n, e in inits if n in params and isinstance(e, ast.IfExp)
        }
        for param in params:
            if param not in parts_that_may_lack:
                init.body.append(set_attribute(param, ast.Name(param, ast.Load())))
        built = _made_in_build(program, first)
        for attribute, value in inits:
            if attribute not in built:
                init.body.append(set_attribute(attribute, value))
        taken = arguments(["self", *first.writer.params])
        if not first.writer.params:  # Keras calls no layer without an argument
            taken.args.append(ast.arg("inputs"))
            taken.defaults.append(ast.Constant(None))
        if first.writer.reads_training:
            taken.args.append(ast.arg("training"))
            taken.defaults.append(ast.Constant(None))
        forward = ast.FunctionDef("call", taken, [s.node for s in body], [])
        parts: list[ast.stmt] = [init] if len(init.body) > 1 else []
        if built:
            weights = [set_attribute(n, value) for n, value in inits if n in built]
            given = first.writer.params
            shapes = [f"{n}_shape" for n in given] if len(given) > 1 else ["input_shape"]
            parts.append(ast.FunctionDef("build", arguments(["self", *shapes]), [*weights], []))
        parts.append(forward)
        if params:
            parts.append(_get_config(params, parts_that_may_lack))
        if inits and not built and _is_built_by_keras(program, first.region):
            parts.append(_build_from_config())
        decorator = E("keras.saving.register_keras_serializable(package=p)", p=program.package)
        return ast.ClassDef(name, [E("layers.Layer")], [], parts, [decorator])


def _made_in_build(program: Program, first: Instance) -> set[str]:
    """The attributes whose weights layers of a class made in ``build`` in the Keras model that this one comes from."""
    kind = first.region.cls or first.region.class_name
    alike = [r for r in program.hub.root.walk() if (r.cls or r.class_name) == kind]
    members = program.writer(first.region).members.items() if program.hub.built else ()
    return {
        name
        for (name, place), member in members
        if member.kind == "weight"
        and place is None
        and any(".".join(filter(None, [r.path, member.source])) in program.hub.built for r in alike)
    }


def _get_config(params: list[str], optional: dict[str, ast.expr]) -> ast.FunctionDef:
    """``optional`` are the parts that may lack, each with what stands for it then."""

    def value(param: str) -> ast.expr:
        if param not in optional:
            return E(f"self.{param}")
        if isinstance(optional[param], ast.Constant):
            return E(f"self.{param} is not None")
        return E(f"not isinstance(self.{param}, layers.Identity)")

    values = [value(p) for p in params]
    config = ast.Dict([None, *map(to_ast, params)], [E("super().get_config()"), *values])
    return ast.FunctionDef("get_config", arguments(["self"]), [ast.Return(config)], [])


def _is_built_by_keras(program: Program, region: Call) -> bool:
    """Tell whether loading a file builds a layer before it is called: the root, an item of a root Sequential, a layer
    of a graph."""
    while region.parent is not None and program.is_sequential(region.parent):
        region = region.parent
    return region.parent is None or program.writer(region.parent).in_graph


def _build_from_config() -> ast.FunctionDef:
    """Keras would call ``build``, which a layer whose first call builds its parts does not have, and warn."""
    said = ast.Expr(ast.Constant("The first call builds the layers."))
    return ast.FunctionDef("build_from_config", arguments(["self", "config"]), [said], [])
