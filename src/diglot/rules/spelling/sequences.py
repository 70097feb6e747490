"""Attention, recurrent layers, and ops that give several tensors."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

import torch

from diglot.codegen.expr import E, call
from diglot.codegen.names import unique
from diglot.rules.arguments import unless
from diglot.rules.recurrent import _is_default
from diglot.rules.spelling import alike
from diglot.rules.spelling.schema import by_schema

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _attention(op: OpCall) -> ast.expr:
    options: dict[str, Any] = {}
    if op["attn_mask"] is not None:
        options["attn_mask"] = op.expr("attn_mask")
    if op["dropout_p"]:
        options["dropout_p"] = E("p if self.training else 0.0", p=op["dropout_p"])
    if op["is_causal"]:
        options["is_causal"] = True
    size = op.logical_shape("query")[-1]
    scale = op["scale"]
    if scale is not None and not (isinstance(size, int) and abs(scale * size**0.5 - 1) < 1e-12):
        options["scale"] = op.value(scale)
    if op["enable_gqa"]:
        options["enable_gqa"] = True
    parts = [op.expr(n) for n in ("query", "key", "value")]
    return call("F.scaled_dot_product_attention", *parts, **options)


def _multi_head(op: OpCall) -> ast.expr:
    rest = list(op["weights"])
    width = op.logical_shape("query")[-1]
    weights: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    if op["packed"]:
        weights["in_proj_weight"] = (rest.pop(0), [])
    else:
        for name, size in (("q", None), ("k", "kdim"), ("v", "vdim")):
            node = rest.pop(0)
            weights[f"{name}_proj_weight"] = (node, [])
            if size:
                sizes[size] = int(node.meta["val"].shape[1])
    if op["bias"]:
        weights["in_proj_bias"] = (rest.pop(0), [])
    weights["out_proj.weight"] = (rest.pop(0), [])
    if op["bias"]:
        weights["out_proj.bias"] = (rest.pop(0), [])
    if op["bias_kv"]:
        weights["bias_k"], weights["bias_v"] = (rest.pop(0), []), (rest.pop(0), [])
    nodes = [node for node, _ in weights.values()]
    if not op.writer.owns(op.node, nodes):
        raise op.refuse("its weights are shared with another module")
    construct = call(
        "nn.MultiheadAttention",
        width,
        op["num_heads"],
        dropout=unless(op["dropout"], 0.0),
        bias=unless(op["bias"], True),
        add_bias_kv=unless(op["bias_kv"], False),
        add_zero_attn=unless(op["zero_attn"], False),
        **sizes,
        batch_first=unless(op["batch_first"], False),
    )
    reads_scores = any(
        u.target is operator.getitem and u.args[1] == 1 and u.users for u in op.node.users
    )
    options: dict[str, Any] = {}
    for name in ("key_padding_mask", "attn_mask"):
        if op[name] is not None:
            options[name] = op.expr(name)
    if not reads_scores:
        options["need_weights"] = False
    elif not op["average_weights"]:
        options["average_attn_weights"] = False
    if op["is_causal"]:
        options["is_causal"] = True
    parts = [op.expr(n) for n in ("query", "key", "value")]
    return call(op.layer(construct, weights, default="attention"), *parts, **options)


# --- recurrent ------------------------------------------------------------------------------------

_KINDS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
}


def _sequence(op: OpCall) -> ast.expr:
    kind, extra = _KINDS[op["kind"] if _is_packed(op) else op.rule.op.split(".")[1]]
    layers, both = op["num_layers"], op["bidirectional"]
    weights = _recurrent_weights(op, layers, both)
    if not op.writer.owns(op.node, op["params"]):
        raise op.refuse("its weights are shared with another module")
    hidden = op["params"][1].meta["val"].shape[1]
    construct = call(
        f"nn.{kind}",
        int(op["params"][0].meta["val"].shape[1]),
        int(hidden),
        num_layers=unless(layers, 1),
        bias=unless(op["has_biases"], True),
        batch_first=unless(op["batch_first"], False),
        dropout=unless(op["dropout"], 0.0),
        bidirectional=unless(both, False),
        **extra,
    )
    hx = op["hx"] if isinstance(op["hx"], (list, tuple)) else [op["hx"]]
    given: list[ast.expr] = []
    if not all(_is_default(op, h) for h in hx):
        states = [op.value(h) for h in hx]
        given.append(states[0] if len(states) == 1 else ast.Tuple(states, ast.Load()))
    inputs = _packed(op) if _is_packed(op) else op.expr("input")
    made = call(op.layer(construct, weights), inputs, *given)
    return _parts(op, made, states=len(hx))


_FUNCTIONS = {"tanh": "torch.tanh", "sigmoid": "torch.sigmoid", "hard_sigmoid": "F.hardsigmoid"}
_FUNCTIONS |= {name: f"F.{name}" for name in "relu relu6 elu selu gelu silu mish".split()}
_FUNCTIONS |= {name: f"F.{name}" for name in "softplus softsign".split()}


def _recurrent_layer(op: OpCall) -> ast.expr:
    """``output, (h, c) = self.lstm(x)``, of a class that the program carries."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = {name: (node, []) for name, node in zip(names, op["params"], strict=False)}
    if not op.writer.owns(op.node, op["params"]):
        raise op.refuse("its weights are shared with another module")
    kind, count = op["kind"], len(op["params"])
    options: dict[str, Any] = {"bias": unless(count > 2, True)}
    helper, resets_before = kind, kind == "GRU" and count == 3
    if op["dropout"] or op["recurrent_dropout"]:
        helper = f"{kind}WithDropout"
        options["reset_after"] = unless(not resets_before, True)
        for name in ("dropout", "recurrent_dropout"):
            options[name] = unless(op[name], 0.0)
    elif resets_before:
        helper = "ResetBeforeGRU"
    options["activation"] = _function(op, "activation", "tanh")
    if kind != "RNN":
        options["recurrent_activation"] = _function(op, "recurrent_activation", "sigmoid")
    hidden, inputs = op["params"][1].meta["val"].shape[1], op["params"][0].meta["val"].shape[1]
    construct = call(op.helper(helper), int(inputs), int(hidden), **options)
    states = [op.value(h) for h in op["hx"]]
    given = [states[0] if len(states) == 1 else ast.Tuple(states, ast.Load())] if states else []
    layer = op.layer(construct, weights, default=kind.lower())
    made = _parts(op, call(layer, op.expr("input"), *given), states=2 if kind == "LSTM" else 1)
    if isinstance(made, ast.Tuple) and kind != "LSTM":  # the op has a cell's state, too
        last = (
            ast.Name("_", ast.Load()) if isinstance(made.elts[-1], ast.Name) else ast.Constant(None)
        )
        made.elts.append(last)
    return made


def _conv_lstm(op: OpCall) -> ast.expr:
    """``sequence, (h, c) = self.conv_lstm(x)``."""
    names = ("weight_ih", "weight_hh", "bias")
    weights = {name: (node, []) for name, node in zip(names, op["params"], strict=False)}
    if not op.writer.owns(op.node, op["params"]):
        raise op.refuse("its weights are shared with another module")
    gates, channels, *kernel = op["params"][0].meta["val"].shape
    construct = call(
        op.helper("ConvLSTM"),
        int(channels),
        int(gates) // 4,
        tuple(int(size) for size in kernel),
        stride=unless(tuple(op["stride"]), (1,) * len(kernel)),
        padding=unless(op["padding"], "valid"),
        dilation=unless(tuple(op["dilation"]), (1,) * len(kernel)),
        bias=unless(len(op["params"]) == 3, True),
        activation=_function(op, "activation", "tanh"),
        recurrent_activation=_function(op, "recurrent_activation", "sigmoid"),
    )
    states = [op.value(h) for h in op["hx"]]
    given = [ast.Tuple(states, ast.Load())] if states else []
    made = call(op.layer(construct, weights, default="conv_lstm"), op.expr("input"), *given)
    return _parts(op, made, states=2)


def _function(op: OpCall, argument: str, default: str) -> Any:
    name = op[argument]
    if name == default:
        return ...
    return op.helper("hard_sigmoid") if name == "hard_sigmoid_of_keras_2" else E(_FUNCTIONS[name])


def _is_packed(op: OpCall) -> bool:
    """Whether a layer runs over padded sequences, each to its own end."""
    return op.rule.op.startswith("diglot.masked_rnn")


def _packed(op: OpCall) -> ast.expr:
    """``pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)``."""
    lengths = op.expr("mask")  # see passes/lengths.py
    if op.fake("mask").dtype is torch.bool:
        lengths = E("mask.sum(1)", mask=lengths)
    return call(
        "nn.utils.rnn.pack_padded_sequence",
        op.expr("input"),
        E("lengths.cpu()", lengths=lengths),
        batch_first=True,
        enforce_sorted=False,
    )


def _padded(op: OpCall, output: ast.expr) -> ast.expr:
    """The outputs of a layer as a tensor: those of packed sequences are padded again."""
    if not _is_packed(op):
        return output
    length = op.size(op.fake("input").shape[1])
    options = {"batch_first": True, "total_length": length}
    return E("y[0]", y=call("nn.utils.rnn.pad_packed_sequence", output, **options))


def _recurrent_weights(op: OpCall, layers: int, both: bool) -> dict[str, Any]:
    each = 4 if op["has_biases"] else 2
    suffixes = [
        f"_l{i}{end}" for i in range(layers) for end in (("", "_reverse") if both else ("",))
    ]
    if len(op["params"]) != each * len(suffixes):
        raise op.refuse("an LSTM with projections (proj_size)")
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[:each]
    wanted = [f"{name}{suffix}" for suffix in suffixes for name in names]
    return {name: (node, []) for name, node in zip(wanted, op["params"], strict=True)}


def _parts(op: OpCall, made: ast.expr, states: int) -> ast.expr:
    """The outputs and states that anybody reads, as one tuple: ``output, (h, c) = self.lstm(x)``."""
    read = {int(u.args[1]) for u in op.node.users if u.target is operator.getitem and u.users}
    nothing: list[ast.expr] = [ast.Constant(None)] * (states + 1)
    if read <= {0}:
        return ast.Tuple([_padded(op, E("y[0]", y=made)), *nothing[1:]], ast.Load())
    if len(read) == 1:
        place = read.pop()
        state = E("y[1]", y=made) if states == 1 else E("y[1][i]", y=made, i=place - 1)
        return ast.Tuple([state if i == place else n for i, n in enumerate(nothing)], ast.Load())
    writer = op.writer
    names: list[str] = []
    for i, name in enumerate(("output", "h", "c")[: states + 1]):
        names.append(unique(name, {*writer.holder, *names}) if i in read else "_")
    targets = [ast.Name(n, ast.Store()) for n in names]
    inner = targets[1] if states == 1 else ast.Tuple(targets[1:], ast.Store())
    found = writer.frames(op.node)
    whole = ast.Tuple([targets[0], inner], ast.Store())
    writer.push(ast.Assign([whole], made), found[-1] if found else None)
    for name in names:
        if name != "_":
            writer.holder[name] = op.node
    if _is_packed(op) and 0 in read:
        again = ast.Assign([targets[0]], _padded(op, ast.Name(names[0], ast.Load())))
        writer.push(again, found[-1] if found else None)
    return ast.Tuple([ast.Name(n, ast.Load()) for n in names], ast.Load())


_CELLS = {
    "lstm_cell": ("LSTMCell", {}),
    "gru_cell": ("GRUCell", {}),
    "rnn_tanh_cell": ("RNNCell", {}),
    "rnn_relu_cell": ("RNNCell", {"nonlinearity": "relu"}),
}


def _cell(op: OpCall) -> ast.expr:
    """``h = self.cell(x, h)``, or ``h, c = self.cell(x, (h, c))``."""
    kind, extra = _CELLS[op.rule.op.split(".")[1]]
    given = {"weight_ih": op["w_ih"], "weight_hh": op["w_hh"], "bias_ih": op["b_ih"]}
    given["bias_hh"] = op["b_hh"]
    weights = {name: (node, []) for name, node in given.items() if node is not None}
    if not op.writer.owns(op.node, [node for node, _ in weights.values()]):
        return by_schema(op)
    hidden, inputs = op.logical_shape("w_hh")[1], op.logical_shape("w_ih")[1]
    bias = unless(op["b_ih"] is not None, True)
    layer = op.layer(call(f"nn.{kind}", inputs, hidden, bias=bias, **extra), weights)
    if kind != "LSTMCell":
        return call(layer, op.expr("input"), op.expr("hx"))
    states = ast.Tuple([op.value(h) for h in op["hx"]], ast.Load())
    return call(layer, op.expr("input"), states)


alike("scaled_dot_product_attention", _attention)
alike("diglot.multi_head_attention.default", _multi_head)
alike("lstm.input gru.input rnn_tanh.input rnn_relu.input diglot.masked_rnn.default", _sequence)
alike("diglot.conv_lstm.default", _conv_lstm)
alike("diglot.recurrent_layer.default", _recurrent_layer)
alike("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell", _cell)
alike("diglot.step_mask.default", "torch.arange(length, device=lengths.device) < lengths[:, None]")
alike("diglot.trim_steps.default", "x[:, : lengths.max()]")


def _own_function(op: OpCall) -> ast.expr:
    """A function that the program carries, of the op's own name: ``counted_first(x, mask)``."""
    name = op.rule.op.split(".")[1]
    second = "lengths" if name == "reverse_sequence" else "mask"
    return call(op.helper(name), op.expr("x"), op.expr(second))


alike(
    "diglot.counted_first.default diglot.back_in_place.default diglot.reverse_sequence.default",
    _own_function,
)
