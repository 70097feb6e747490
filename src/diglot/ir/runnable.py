"""An exported program as an ``nn.Module`` that trains and evaluates: the hub, run.

``ExportedProgram.module()`` of a program captured in training mode cannot be put into evaluation mode. Here
dropout, batch norm and the recurrent and attention ops follow ``self.training``, and so does each choice by mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from diglot.ir.hub import target_name

#: The position of each op's training flag.
FLAGS = {
    "aten.dropout.default": 2, "aten.dropout_.default": 2, "aten.feature_dropout.default": 2,
    "aten.feature_dropout_.default": 2, "aten.alpha_dropout.default": 2, "aten.batch_norm.default": 5,
    "aten.lstm.input": 6, "aten.gru.input": 6, "aten.rnn_tanh.input": 6, "aten.rnn_relu.input": 6,
    "diglot.masked_rnn.default": 6, "diglot.recurrent_layer.default": 8,
    "diglot.row_dropout.default": 2, "diglot.multi_head_attention.default": 8, "aten.instance_norm.default": 5,
}  # fmt: skip


class _Holder(nn.Module):
    """A plain node of the parameter tree."""


class RunnableProgram(nn.Module):
    """Runs an exported program under its source's parameter names."""

    def __init__(self, program: ExportedProgram, structure: Any = None) -> None:
        super().__init__()
        self.__dict__["_program"] = program
        self.__dict__["_structure"] = structure
        # Called with each node and its value, where set: a proof listens here.
        self.__dict__["observer"] = None
        self._order: list[tuple[str, str]] = []  # (placeholder, state name or "")
        signature = program.graph_signature
        constants = program.constants
        for spec in signature.input_specs:
            name = getattr(spec.arg, "name", "")
            if spec.kind is InputKind.PARAMETER:
                value = program.state_dict[spec.target]
                self._put(
                    spec.target,
                    nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad),
                )
                self._order.append((name, spec.target))
            elif spec.kind is InputKind.BUFFER:
                persistent = spec.persistent is not False
                value = program.state_dict[spec.target] if persistent else constants[spec.target]
                self._put(spec.target, value.detach().clone(), persistent)
                self._order.append((name, spec.target))
            elif spec.kind is InputKind.CONSTANT_TENSOR:
                self._put(f"constant_{name}", constants[spec.target].detach().clone(), False)
                self._order.append((name, f"constant_{name}"))
            elif spec.kind is InputKind.USER_INPUT:
                self._order.append((name, ""))

    def _put(self, path: str, value: torch.Tensor, persistent: bool = True) -> None:
        owner: nn.Module = self
        *parts, last = path.split(".")
        for part in parts:
            if part not in owner._modules:
                owner.add_module(part, _Holder())
            owner = owner._modules[part]  # type: ignore[assignment]
        if isinstance(value, nn.Parameter):
            owner.register_parameter(last, value)
        else:
            owner.register_buffer(last, value, persistent=persistent)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; positional and keyword arguments are those of the source's ``forward``."""
        program: ExportedProgram = self._program
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        given = iter([*args, *kwargs.values()])
        values = [state[name] if name else next(given, None) for _, name in self._order]
        results = Interpreter(program.graph_module, self.training, self.observer).run(*values)
        kept = [
            r for r, s in zip(results, program.graph_signature.output_specs, strict=True)
            if s.kind is OutputKind.USER_OUTPUT and isinstance(r, torch.Tensor)
        ]  # fmt: skip
        return (
            _restore(self._structure, iter(kept))
            if self._structure
            else kept[0]
            if len(kept) == 1
            else tuple(kept)
        )


class Interpreter(fx.Interpreter):
    """Runs a captured graph in training or in evaluation mode."""

    def __init__(self, module: fx.GraphModule, training: bool, observer: Any = None) -> None:
        super().__init__(module)
        self.training = training
        self.observer = observer
        self.wanted = _wanted(module.graph, training)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and tell the observer."""
        if n not in self.wanted:
            return None  # what the other mode alone computes
        value = self._run_node(n)
        if self.observer is not None:
            self.observer(n, value)
        return value

    def _run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function":
            name = target_name(n)
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            flag = FLAGS.get(name)
            if flag is not None and len(args) > flag:
                keep = (self.training and args[flag]) or (
                    name.startswith("aten.batch_norm") and args[3] is None
                )
                args = (*args[:flag], bool(keep), *args[flag + 1 :])
                if keep and name.startswith("aten.batch_norm"):
                    _check_batch(args[0])
            elif (
                name == "aten.scaled_dot_product_attention.default"
                and len(args) > 4
                and not self.training
            ):
                args = (*args[:4], 0.0, *args[5:])
            elif name == "diglot.by_mode.default":
                return args[0] if self.training else args[1]
            elif (
                name == "aten.add_.Tensor"
                and not self.training
                and "num_batches_tracked" in str(n.args[0])
            ):
                return args[0]
            if name == "aten.scaled_dot_product_attention.default" and not self.training:
                kwargs = {k: v for k, v in kwargs.items() if k != "dropout_p"}
            return self.call_function(n.target, args, kwargs)
        return super().run_node(n)


def _wanted(graph: fx.Graph, training: bool) -> set[fx.Node]:
    """The nodes that one mode runs: all that its results, and what it changes, are made of."""
    found: set[fx.Node] = set()
    stack = [n for n in graph.nodes if not n.users or n.op == "placeholder"]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        if node.op == "call_function" and target_name(node) == "diglot.by_mode.default":
            stack.append(node.args[0 if training else 1])  # type: ignore[arg-type]
        else:
            stack += node.all_input_nodes
    return found


def _check_batch(value: torch.Tensor) -> None:
    """Refuse what ``F.batch_norm`` refuses: one value has no variance."""
    if value.numel() == value.shape[1]:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {value.shape}"
        )


def _restore(structure: Any, values: Any) -> Any:
    if structure == "tensor":
        return next(values)
    if structure is None:
        return None
    kind, inner = structure
    if kind == "dict":
        return {k: _restore(s, values) for k, s in inner.items()}
    return tuple(_restore(s, values) for s in inner)
