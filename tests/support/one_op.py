"""Runs one rule on one op without the rest of the translator: the op's rule writes an expression, which is
evaluated with Keras in float64 beside PyTorch's own result."""

from __future__ import annotations

import ast
import operator
import re
import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from torch import fx, nn

from diglot import carried
from diglot.codegen.expr import E, text, to_ast
from diglot.codegen.opcall import OpCall
from diglot.codegen.weights import WeightEntry
from diglot.frontends.attention import as_one_node
from diglot.ir.hub import target_name
from diglot.rules import Sample, registry
from diglot.rules.registry import Rule

CHANNELS_LAST = ("spatial",)


class _Writer:
    """Stands in for the region writer: every value is a variable, every layer an attribute of ``self``."""

    in_graph = False

    def __init__(self, parameters: set[fx.Node], owned: bool) -> None:
        self.parameters, self.owned = parameters, owned
        self.layers: dict[str, tuple[ast.expr, dict[str, Any]]] = {}
        self.program = types.SimpleNamespace(
            hub=types.SimpleNamespace(parameters={}, constants={}, stored_shapes={}),
            style="layers",
            helpers=set(),
            float_dtype=torch.float32,
            strides_vary=lambda *_: False,
        )
        self.call = types.SimpleNamespace(path="")

    def read(self, node: fx.Node) -> ast.expr:
        return ast.Name(node.name, ast.Load())

    def list_variable(self, nodes: list[fx.Node]) -> None:
        return None

    def size(self, size: Any, at: fx.Node) -> ast.expr:
        return to_ast(int(size))

    def float_dtype_ast(self) -> ast.expr:
        return to_ast("float64")

    def owns(self, node: fx.Node, weights: list[fx.Node]) -> bool:
        return self.owned and bool(weights) and all(w in self.parameters for w in weights)

    def layer(self, node, construct, weights, default, suffix="", stands=True) -> ast.expr:
        key = f"m_{suffix}" if suffix else "m"
        self.layers[key] = (construct, weights)
        return E(f"self.{key}")

    def leaf_path(self, node: fx.Node) -> str:
        return "m"

    def reversible(self, weight: fx.Node) -> bool:
        return False

    def reversed_layer(self, weight: fx.Node) -> None:
        return None

    def reverse_of(self, weight: fx.Node) -> None:
        return None

    def where(self, node: fx.Node) -> str:
        return "here"


def make_input(spec: str, generator: torch.Generator) -> torch.Tensor:
    """Return the tensor of a sample's input: ``2,3``, ``int64[2,3]<7``, ``bool[2,3]``."""
    match = re.fullmatch(r"(?:(\w+)\[)?([\d,]*)\]?(?:<(\d+))?", spec)
    assert match, spec
    dtype, sizes, bound = match.groups()
    shape = [int(s) for s in sizes.split(",") if s]
    if dtype == "bool":
        return torch.rand(shape, generator=generator) < 0.6
    if dtype and dtype.startswith("int"):
        return torch.randint(0, int(bound or 5), shape, generator=generator)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class _InTraining:
    """A layer that is always called in training mode."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        self._layer = layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._layer(*args, **{"training": True, **kwargs})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class _Module(nn.Module):
    def __init__(self, sample: Sample) -> None:
        super().__init__()
        if sample.module:
            self.m = eval(sample.module, {"nn": nn, "torch": torch})
        self.names = list(sample.inputs)
        self.code = compile(sample.torch, "<sample>", "eval")

    def forward(self, *inputs: torch.Tensor) -> Any:
        scope = {**dict(zip(self.names, inputs, strict=True)), "torch": torch, "F": F, "nn": nn}
        if hasattr(self, "m"):
            scope["m"] = self.m
        return eval(self.code, scope)


class Bench:
    """One sample of one rule: ``expression``, ``layers`` and the two results."""

    def __init__(
        self, rule: Rule | str, sample: Sample, *, owned: bool = True, seed: int = 0
    ) -> None:
        self.rule = registry()[rule] if isinstance(rule, str) else rule
        generator = torch.Generator().manual_seed(seed)
        self.inputs = [make_input(s, generator) for s in sample.inputs.values()]
        self.module = _Module(sample).double().train()
        with torch.no_grad():
            for name, value in [*self.module.named_parameters(), *self.module.named_buffers()]:
                if value.dtype.is_floating_point:
                    noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
                    value.copy_(noise * 0.5 + 0.75 if "var" in name else noise - 0.4)
        with as_one_node():
            self.exported = torch.export.export(self.module, tuple(self.inputs), strict=False)
        self._find()
        self.writer = _Writer(set(self.parameters), owned)
        op = OpCall(self.writer, self.node, self.rule)  # type: ignore[arg-type]
        reason = self.rule.refuse(op) if self.rule.refuse else None
        if reason:
            raise op.refuse(reason)
        made = (
            op.template(self.rule.keras)
            if isinstance(self.rule.keras, str)
            else self.rule.keras(op)
        )
        self.expression = text(made)

    def _find(self) -> None:
        graph = self.exported.graph
        self.node = next((n for n in graph.nodes if target_name(n) == self.rule.op), None)
        assert self.node is not None, [
            target_name(n) for n in graph.nodes if n.op == "call_function"
        ]
        signature = self.exported.graph_signature
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.parameters = {
            n: names[n.name] for n in graph.nodes if n.op == "placeholder" and n.name in names
        }
        for node in graph.nodes:
            value = node.meta.get("val")
            if (
                self.rule.layout in CHANNELS_LAST
                and isinstance(value, torch.Tensor)
                and value.dim() > 2
            ):
                first = next(a for a in self.node.all_input_nodes if a not in self.parameters)
                if node in (first, self.node) or (
                    node.target is operator.getitem and node.args[0] is self.node
                ):
                    node.meta["layout"] = (0, *range(2, value.dim()), 1)
                    # a raw weight stays as it is

    # --- Keras ---------------------------------------------------------------------------------------

    def entries(self) -> dict[str, WeightEntry]:
        """Return the weight map's entry of each layer weight, by ``layer.attribute``."""
        found = {}
        for key, (_, weights) in self.writer.layers.items():
            for attribute, value in weights.items():
                if not isinstance(value, dict):
                    value = {"nodes": value[0], "steps": value[1]}
                nodes = (
                    value["nodes"]
                    if isinstance(value["nodes"], (list, tuple))
                    else [value["nodes"]]
                )
                names = [self.parameters[n] for n in nodes]
                fields = (
                    names,
                    [self._state(n) for n in names],
                    value.get("steps", []),
                    value.get("combine"),
                )
                found[f"{key}.{attribute}"] = _entry(f"{key}.{attribute}", *fields)
        return found

    def _state(self, name: str) -> np.ndarray:
        return dict(self.exported.state_dict)[name].detach().numpy()

    def _values(self, env: dict[fx.Node, Any]) -> dict[str, Any]:
        values = {}
        for node, value in env.items():
            if isinstance(value, torch.Tensor):
                layout = node.meta.get("layout")
                value = value.detach()
                array = value.permute(layout).numpy() if layout else value.numpy()
                if array.dtype == np.int64:
                    array = array.astype(np.int32)
                values[node.name] = tf.constant(array)
        return values

    def keras(self, training: bool = False) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Evaluate the rule's expression. Returns the result, the values it read and the layers."""
        scope: dict[str, Any] = {"keras": keras, "ops": keras.ops, "layers": keras.layers, "np": np}
        source = "import math\n" + "\n\n".join(carried.sources(self.writer.program.helpers))
        exec(compile(source, "<helpers>", "exec"), scope)
        env = self._interpret()
        values = self._values(env)
        built = types.SimpleNamespace()
        made = {}
        for key, (construct, _) in self.writer.layers.items():
            made[key] = eval(text(construct), scope)
            training = isinstance(made[key], keras.layers.BatchNormalization)
            setattr(built, key, _InTraining(made[key]) if training else made[key])
        scope = {**scope, **values, "self": built}
        code = compile(self.expression, "<rule>", "eval")
        eval(code, scope)  # builds the layers
        for path, entry in self.entries().items():
            variable = _resolve(built, path)
            array = entry.to_target([self._state(n) for n in entry.sources])
            assert tuple(variable.shape) == array.shape, (path, variable.shape, array.shape)
            variable.assign(array)
        return self._differentiate(code, scope, values, made, built)

    def _differentiate(self, code, scope, values, made, built):
        inputs = {k: v for k, v in values.items() if v.dtype == tf.float64}
        with tf.GradientTape() as tape:
            tape.watch(list(inputs.values()))
            result = eval(code, scope)
            loss = 0.0
            flat = list(result) if isinstance(result, (list, tuple)) else [result]
            for i, part in enumerate(flat):
                if part is not None and part.dtype == tf.float64:
                    layout = self._part_layout(i if isinstance(result, (list, tuple)) else None)
                    if layout:
                        part = tf.transpose(part, np.argsort(layout))
                    flat[i] = part
                    loss += tf.reduce_sum(part * cotangent(tuple(part.shape)))
        variables = {k: _resolve(built, k) for k in self.entries()}
        wanted = {**{k: v.value for k, v in variables.items()}, **inputs}
        gradients = tape.gradient(loss, wanted) if isinstance(loss, tf.Tensor) else {}
        return flat, gradients, variables

    def _part_layout(self, index: int | None) -> Any:
        if index is None:
            return self.node.meta.get("layout")
        value = self.node.meta["val"][index]
        if self.rule.layout in CHANNELS_LAST and value is not None and value.dim() > 2:
            return (0, *range(2, value.dim()), 1)
        return None

    # --- PyTorch ---------------------------------------------------------------------------------------

    def _interpret(self) -> dict[fx.Node, Any]:
        """Return the value of everything the op reads (and its own result)."""
        state = {**dict(self.exported.state_dict), **self.exported.constants}
        signature = self.exported.graph_signature
        users = iter(self.inputs)
        env: dict[fx.Node, Any] = {}
        names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        constants = signature.inputs_to_lifted_tensor_constants
        self.leaves = {}
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                if node.name in names:
                    value = state[names[node.name]].detach().clone()
                elif node.name in constants:
                    value = state[constants[node.name]]
                else:
                    value = next(users)
                env[node] = value
            elif node.op == "call_function":
                args = fx.map_arg(node.args, lambda n: env[n])
                kwargs = fx.map_arg(node.kwargs, lambda n: env[n])
                if node is self.node:
                    self._differentiate_torch(env, args, kwargs, node)
                    break
                env[node] = node.target(*args, **kwargs)
        return {n: env[n] for n in self.node.all_input_nodes}

    def _differentiate_torch(self, env, args, kwargs, node) -> None:
        tensors = {n: env[n] for n in node.all_input_nodes if isinstance(env[n], torch.Tensor)}
        trained = {
            n: t.detach()
            .clone()
            .requires_grad_(t.dtype == torch.float64 and "running" not in n.name)
            for n, t in tensors.items()
        }
        args = fx.map_arg(node.args, lambda n: trained.get(n, env[n]))
        kwargs = fx.map_arg(node.kwargs, lambda n: trained.get(n, env[n]))
        if "dropout" in target_name(node) and "attention" not in target_name(node):
            args = (*args[:2], False)  # random numbers differ: only the pass-through is compared
        result = node.target(*args, **kwargs)
        self.expected = list(result) if isinstance(result, (list, tuple)) else [result]
        loss = sum(
            (p * torch.from_numpy(cotangent(tuple(p.shape)))).sum()
            for i, p in enumerate(self.expected)
            if isinstance(p, torch.Tensor) and p.dtype == torch.float64 and self._is_read(i)
        )
        if isinstance(loss, torch.Tensor) and loss.requires_grad:
            loss.backward()
        self.gradients = {n: t.grad for n, t in trained.items()}

    def _is_read(self, index: int) -> bool:
        """A part of a tuple that nobody reads may be missing on the other side."""
        if not isinstance(self.node.meta["val"], (list, tuple)):
            return True
        return any(
            u.target is operator.getitem and u.args[1] == index and u.users for u in self.node.users
        )

    # --- together --------------------------------------------------------------------------------------

    def gaps(self, *, gradients: bool = True) -> dict[str, float]:
        """Return the relative difference of each output and gradient."""
        flat, found, _ = self.keras()
        gaps = {}
        for i, expected in enumerate(self.expected):
            if self._is_read(i):
                gaps[f"output {i}"] = gap(expected.detach().numpy(), np.asarray(flat[i]))
        if not gradients:
            return gaps
        by_name = {self.parameters[n]: g for n, g in self.gradients.items() if n in self.parameters}
        for path, entry in self.entries().items():
            sources = [by_name[n] for n in entry.sources]
            if any(s is None for s in sources):
                continue
            expected = entry.gradient_to_target([s.numpy() for s in sources])
            gaps[f"gradient of {path}"] = gap(expected, tf.convert_to_tensor(found[path]).numpy())
        for node, expected in self.gradients.items():
            if expected is None or node.name not in found or found[node.name] is None:
                continue
            layout = node.meta.get("layout")
            expected = expected.permute(layout) if layout else expected
            value = tf.convert_to_tensor(found[node.name]).numpy()
            gaps[f"gradient of {node.name}"] = gap(expected.numpy(), value)
        return gaps


def _entry(target, names, arrays, steps, combine) -> WeightEntry:
    from diglot.codegen.homes import stored_shape

    shapes = [a.shape for a in arrays]
    shape = stored_shape(shapes, steps, combine)
    return WeightEntry(target, names, shape, shapes, combine=combine, steps=steps, dtype="float64")


def _resolve(root: Any, path: str) -> Any:
    for part in path.split("."):
        root = root[int(part)] if part.isdigit() else getattr(root, part)
    return root


def cotangent(shape: tuple[int, ...]) -> np.ndarray:
    """Return a fixed tensor that weighs every element of an output differently."""
    count = int(np.prod(shape))
    return np.sin(np.arange(1, count + 1) * 1.7).reshape(shape) + 0.3


def gap(expected: np.ndarray, received: np.ndarray) -> float:
    """Return max|a-b| / max|a|, where an exact 0 may be rounded to 1e-16."""
    if expected.shape != received.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    both = np.isfinite(expected)
    if (both != np.isfinite(received)).any():
        return float("inf")
    expected, received = np.where(both, expected, 0), np.where(both, received, 0)
    return float(np.max(np.abs(expected - received)) / (np.max(np.abs(expected)) + 1e-3))
