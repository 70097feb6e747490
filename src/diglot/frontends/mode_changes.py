"""What training alone changes in place (moving averages, codebooks), in a program that holds both modes.

Before, where training alone runs this line: ``mean.mul_(0.9)``. After::

    changed = mean * 0.9
    mean.copy_(by_mode(changed, mean))

which does nothing in evaluation. A ``torch.no_grad()`` block that training alone runs is written in place first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from diglot.ir.hub import is_call, target_name
from diglot.passes.functional import functional_target
from diglot.passes.views import is_view

_NO_GRAD = "wrap_with_set_grad_enabled"
_DETACH = "aten.detach.default"


def read_weights(program: ExportedProgram) -> None:
    """Have what follows a block that writes to a weight read the weight, which it is with its gradient; in place."""
    module, weights = program.graph_module, _weights(program)
    for node in list(module.graph.nodes):
        if node.op != "call_function" or not _is_region(node):
            continue
        _, getter, *given = node.args
        inner = getattr(module, str(getter.target)).graph  # type: ignore[union-attr]
        taken = dict(zip((n for n in inner.nodes if n.op == "placeholder"), given, strict=False))
        results: Any = next(n for n in inner.nodes if n.op == "output").args[0]
        for user in list(node.users):
            value = results[user.args[1]] if isinstance(results, (tuple, list)) else results  # type: ignore[index]
            written = _is_mutable(value)
            while _is_mutable(value):
                value = value.args[0]
            if written and taken.get(value) in weights:
                user.replace_all_uses_with(taken[value])


def _weights(program: ExportedProgram) -> set[Any]:
    nodes = [n for n in program.graph_module.graph.nodes if n.op == "placeholder"]
    pairs = zip(nodes, program.graph_signature.input_specs, strict=True)
    return {n for n, spec in pairs if spec.kind is InputKind.PARAMETER}


class Changes:
    """Gates the changes of one program, captured in training mode; ``shared`` are the values that both modes have."""

    def __init__(self, program: ExportedProgram, shared: set[fx.Node]) -> None:
        self.module, self.shared = program.graph_module, shared
        self.graph = self.module.graph
        self.weights = _weights(program)

    def gate(self) -> fx.Node | None:
        """Rewrite in place; return a change that has no functional form, if there is one."""
        for node in list(self.graph.nodes):
            if node.op == "call_function" and node not in self.shared and _is_region(node):
                self._write_in_place(node)
        for node in list(self.graph.nodes):
            if self._changes_shared(node) and not self._gate(node):
                return node
        return None

    def _changes_shared(self, node: fx.Node) -> bool:
        if not _is_mutable(node):
            return False
        base = node.args[0]
        if node in self.shared or "num_batches_tracked" in str(base):
            return False
        if target_name(node).startswith("aten.batch_norm") or not isinstance(base, fx.Node):
            return False
        return self._root(base) in self.shared or self._root(base).op == "placeholder"

    def _root(self, node: fx.Node) -> fx.Node:
        while is_view(node) or is_call(node, {_DETACH}) or _is_mutable(node):
            node = node.args[0]  # type: ignore[assignment]
        return node

    # --- blocks without gradients ------------------------------------------------------------------------

    def _write_in_place(self, node: fx.Node) -> None:
        enabled, getter, *given = node.args
        inner = getattr(self.module, str(getter.target)).graph  # type: ignore[union-attr]
        values: dict[fx.Node, Any] = {}
        arguments = iter(given)
        results: Any = ()
        for item in inner.nodes:
            if item.op == "placeholder":
                values[item] = next(arguments)
            elif item.op == "output":
                results = item.args[0] if isinstance(item.args[0], (tuple, list)) else item.args
            else:
                with self.graph.inserting_before(node):
                    values[item] = self.graph.node_copy(item, values.__getitem__)
                values[item].meta = dict(item.meta)
                if not enabled:
                    values[item].meta["no_grad"] = True
        for user in list(node.users):
            with self.graph.inserting_before(node):
                made = self._detached(values[results[user.args[1]]])  # type: ignore[index]
            user.replace_all_uses_with(made)
            self.graph.erase_node(user)
        self.graph.erase_node(node)
        if not getter.users:  # type: ignore[union-attr]
            self.graph.erase_node(getter)  # type: ignore[arg-type]

    def _detached(self, value: fx.Node) -> fx.Node:
        made = self.graph.call_function(torch.ops.aten.detach.default, (value,))
        made.meta = dict(value.meta)
        return made

    # --- changes -----------------------------------------------------------------------------------------

    def _gate(self, node: fx.Node) -> bool:
        target: fx.Node = node.args[0]  # type: ignore[assignment]
        with self.graph.inserting_before(node):
            value = self._new_value(node, target)
            if value is None:
                return False
            if node.meta.get("no_grad"):
                value = self._detached(value)
                if self._root(target) in self.weights:
                    target = self._detached(target)
            chosen = self.graph.call_function(torch.ops.diglot.by_mode.default, (value, target))
            written = self.graph.call_function(torch.ops.aten.copy_.default, (target, chosen))
        chosen.meta = dict(node.meta)
        written.meta = dict(node.meta)
        node.replace_all_uses_with(written)
        self.graph.erase_node(node)
        return True

    def _new_value(self, node: fx.Node, target: fx.Node) -> fx.Node | None:
        """What the target is changed to, of its shape and dtype; ``None`` where no functional op computes it."""
        name = target_name(node)
        if name.startswith("aten.copy_."):
            made: Any = node.args[1]
        elif name.startswith("aten.fill_."):
            made = self._call(torch.ops.aten.full_like.default, (target, node.args[1]), node)
        elif name.startswith("aten.zero_."):
            made = self._call(torch.ops.aten.zeros_like.default, (target,), node)
        else:
            twin = functional_target(node)
            if twin is None:
                return None
            made = self._call(twin, node.args, node, node.kwargs)
        wanted, value = node.meta["val"], made.meta["val"]
        if value.dtype != wanted.dtype:
            made = self._call(torch.ops.aten.to.dtype, (made, wanted.dtype), node)
        if value.shape != wanted.shape:
            made = self._call(torch.ops.aten.expand_as.default, (made, target), node)
        return made

    def _call(self, op: Any, args: tuple, node: fx.Node, kwargs: Any = None) -> fx.Node:
        made = self.graph.call_function(op, args, kwargs or {})
        made.meta = dict(node.meta)
        return made


def _is_mutable(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


def _is_region(node: fx.Node) -> bool:
    return _NO_GRAD in target_name(node)
