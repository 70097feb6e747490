"""Recurrent layers and cells."""

from __future__ import annotations

import ast
import dataclasses
import operator
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call
from diglot.ir.hub import is_mark, target_name
from diglot.rules.arguments import unless
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall

#: PyTorch's gates are r, z, n; Keras's z, r, h.
_GRU = [["blocks", 0, [1, 0, 2]]]
_TURN = [["permute", [1, 0]]]


@dataclasses.dataclass
class _Kind:
    """One sort of recurrent layer: its Keras name, how many states, the activation, the gates' order."""

    name: str
    states: int
    activation: str = "tanh"
    gates: list = dataclasses.field(default_factory=list)


_KINDS = {
    "lstm": _Kind("LSTM", 2),
    "gru": _Kind("GRU", 1, gates=_GRU),
    "rnn_tanh": _Kind("SimpleRNN", 1),
    "rnn_relu": _Kind("SimpleRNN", 1, "relu"),
}


def _kind(op: OpCall) -> _Kind:
    if op.get("kind"):
        return _KINDS[op["kind"]]
    return _KINDS[op.rule.op.split(".")[1].removesuffix("_cell")]


def _cell_weights(kind: _Kind, prefix: str, weights: list[fx.Node]) -> dict[str, Any]:
    """Return one cell's weights from w_ih, w_hh and, where it has them, b_ih, b_hh."""
    found: dict[str, Any] = {
        f"{prefix}kernel": (weights[0], [*kind.gates, *_TURN]),
        f"{prefix}recurrent_kernel": (weights[1], [*kind.gates, *_TURN]),
    }
    if len(weights) > 2:
        combine = "stack" if kind.name == "GRU" else "sum"
        bias = {"nodes": list(weights[2:4]), "steps": list(kind.gates), "combine": combine}
        found[f"{prefix}bias"] = bias
    return found


# --- sequences ------------------------------------------------------------------------------------


def _sequence_weights(op: OpCall, kind: _Kind, prefixes: list[str]) -> dict[str, Any]:
    each = 4 if op["has_biases"] else 2
    if len(op["params"]) != each * len(prefixes):
        raise op.refuse("an LSTM with projections (proj_size): Keras has none")
    found: dict[str, Any] = {}
    for i, prefix in enumerate(prefixes):
        found |= _cell_weights(kind, prefix, op["params"][i * each : (i + 1) * each])
    return found


def _is_default(op: OpCall, state: fx.Node) -> bool:
    """Tell whether an initial state is the zeros that torch.nn itself makes where none is given."""
    node = state
    while is_mark(node) or (
        node.op == "call_function"
        and target_name(node) in ("aten.expand.default", "aten.view.default")
    ):
        node = node.args[0]  # type: ignore[assignment]
    own = op.writer.leaf_path(node) == op.writer.leaf_path(op.node)
    hub = getattr(op.writer.program, "hub", None)
    if hub and node in hub.constants:
        return own and not hub.constants[node].any()
    return own and node.op == "call_function" and target_name(node) == "aten.zeros.default"


def _read_parts(op: OpCall) -> set[int]:
    users = [u for u in op.node.users if u.target is operator.getitem and u.users]
    return {int(u.args[1]) for u in users}  # type: ignore[arg-type]


def _sequence(op: OpCall) -> ast.expr:
    kind = _kind(op)
    if op.fake("input").dim() != 3:
        raise op.refuse("its input has no batch axis; add one with unsqueeze")
    if not op.writer.owns(op.node, op["params"]):
        raise op.refuse("its weights are shared with another module")
    hx = op["hx"] if isinstance(op["hx"], (list, tuple)) else [op["hx"]]
    states = [] if all(_is_default(op, h) for h in hx) else hx
    read = _read_parts(op)
    alone = op["num_layers"] == 1 and not op["bidirectional"]
    last = read == {1} and (alone or _only_last(op))
    # A Sequential hands a mask on to whatever reads its inputs or outputs next.
    one_layer = alone or (not states and (op["num_layers"] == 1 or op.get("mask") is None))
    if (read <= {0} or last) and one_layer:
        nothing = [ast.Constant(None)] * kind.states
        layer = op.layer(*_layers(op, kind, last))
        made = _call(op, layer, states)
        if last:
            made = made if _only_last(op) else E("ops.expand_dims(h, 0)", h=made)
            return ast.Tuple([ast.Constant(None), made, *nothing[1:]], ast.Load())
        if op.get("mask") is not None and _keeps_mask(op):
            made = E("ops.where(mask[..., None], y, 0)", mask=op.expr("mask"), y=made)
        return ast.Tuple([_time_first(op, made), *nothing], ast.Load())
    given = {"initial_state": op.value(states)} if states else {}
    if op.get("mask") is not None:
        given["steps"] = op.expr("mask")
    made = call(_stacked(op, kind), op.expr("input"), **given)
    if len(read) == 1:
        index = read.pop()
        parts: list[ast.expr] = [ast.Constant(None)] * (kind.states + 1)
        parts[index] = E("y[i]", y=made, i=index)
        return ast.Tuple(parts, ast.Load())
    return made


def _options(op: OpCall, kind: _Kind) -> dict[str, Any]:
    return {
        "activation": unless(kind.activation, "tanh"),
        "use_bias": unless(op["has_biases"], True),
    }


def _units(op: OpCall) -> int:
    """The recurrent kernel is (gates * units, units)."""
    return int(op["params"][1].meta["val"].shape[1])


def _layers(op: OpCall, kind: _Kind, last: bool) -> tuple[ast.expr, dict[str, Any]]:
    """One Keras layer, or a Sequential of several, and its weights; ``last`` asks for the final state alone."""
    count, both = op["num_layers"], op["bidirectional"]
    zeros = op.get("mask") is not None and not _keeps_mask(op)
    rate = op["dropout"] if op["train"] else 0.0
    made: list[ast.expr] = []
    prefixes: list[str] = []
    for i in range(count):
        whole = unless(i < count - 1 or not last, False)
        layer: ast.expr = call(
            f"layers.{kind.name}",
            _units(op),
            **_options(op, kind),
            return_sequences=whole,
            # Bidirectional sees to it by itself.
            zero_output_for_mask=unless(zeros and not both and not last, False),
        )
        place = f"layers.{len(made)}." if count > 1 else ""
        ways = ["forward_layer.", "backward_layer."] if both else [""]
        prefixes += [f"{place}{way}cell." for way in ways]
        made.append(call("layers.Bidirectional", layer) if both else layer)
        if rate and i < count - 1:
            made.append(call("layers.Dropout", rate))
    weights = _sequence_weights(op, kind, prefixes)
    return (made[0] if count == 1 else call("keras.Sequential", made)), weights


def _only_last(op: OpCall) -> bool:
    """Tell whether only the last layer's final states are read."""
    (states,) = [u for u in op.node.users if u.users and u.args[1] == 1]
    return all(target_name(u) == "diglot.last_states.default" for u in states.users)


def _last_states(op: OpCall) -> ast.expr:
    """The layer itself returns them (see ``_layers``)."""
    return op.expr("h")


def _time_first(op: OpCall, sequence: ast.expr) -> ast.expr:
    return sequence if op["batch_first"] else E("ops.swapaxes(x, 0, 1)", x=sequence)


def _stacked(op: OpCall, kind: _Kind) -> ast.expr:
    construct = call(
        op.helper("StackedRNN"),
        kind.name,
        _units(op),
        num_layers=unless(op["num_layers"], 1),
        bidirectional=unless(op["bidirectional"], False),
        dropout=unless(op["dropout"] if op["train"] else 0.0, 0.0),
        **_options(op, kind),
        batch_first=unless(op["batch_first"], True),
    )
    ways = ["forward_layer.cell.", "backward_layer.cell."] if op["bidirectional"] else ["cell."]
    prefixes = [f"rnns.{i}.{way}" for i in range(op["num_layers"]) for way in ways]
    return op.layer(construct, _sequence_weights(op, kind, prefixes))


def _call(op: OpCall, layer: ast.expr, states: list[fx.Node]) -> ast.expr:
    x = _time_first(op, op.expr("input"))
    given: dict[str, Any] = {"mask": op.expr("mask")} if op.get("mask") is not None else {}
    if states:
        initial = [E("s[0]", s=op.value(s)) for s in states]
        given["initial_state"] = initial if len(initial) > 1 else initial[0]
    return call(layer, x, **given)


# --- packed sequences -----------------------------------------------------------------------------


#: Readers of padded outputs to which Keras does not hand on the outputs' mask.
_DROP_MASK = {
    "diglot.trim_steps.default",
    "aten.index.Tensor",
    "aten.gather.default",
    "aten.sum.dim_IntList",
}


def _keeps_mask(op: OpCall) -> bool:
    """Tell whether layers or a loss may read the padded outputs, and with them the mask that Keras attaches."""
    outputs = [r for u in op.node.users if u.args[1] == 0 for r in u.users]
    return not all(target_name(r) in _DROP_MASK for r in outputs)


def _step_mask(op: OpCall) -> ast.expr:
    """``ops.arange(length, dtype="int32") < lengths[:, None]``."""
    steps = op.ops("arange", op.expr("length"), dtype=op.dtype_ast(op.fake("lengths").dtype))
    return E("n < k[:, None]", n=steps, k=op.expr("lengths"))


def _for_torch(op: OpCall) -> ast.expr:
    raise op.refuse("made for PyTorch, which has no masks: Keras's layers take the mask itself")


def _packed(op: OpCall) -> ast.expr:
    raise op.refuse("packed sequences; run the layer on padded input and mask its outputs")


# --- cells --------------------------------------------------------------------------------------------


def _cell(op: OpCall) -> ast.expr:
    kind = _kind(op)
    weights = [op[n] for n in ("w_ih", "w_hh", "b_ih", "b_hh") if op[n] is not None]
    if not op.writer.owns(op.node, weights):
        raise op.refuse("its weights are shared with another module")
    if op.fake("input").dim() != 2:
        raise op.refuse("its input has no batch axis; add one with unsqueeze(0)")
    construct = call(
        f"layers.{kind.name}Cell",
        op.logical_shape("w_hh")[1],
        activation=unless(kind.activation, "tanh"),
        use_bias=unless(op["b_ih"] is not None, True),
    )
    layer = op.layer(construct, _cell_weights(kind, "", weights))
    if kind.states == 1:
        return E("layer(x, h)[0]", layer=layer, x=op.expr("input"), h=op.expr("hx"))
    made = E("layer(x, states)[1]", layer=layer, x=op.expr("input"), states=op.expr("hx"))
    read = _read_parts(op)
    if len(read) != 1:
        return made
    index = read.pop()
    parts: list[ast.expr] = [ast.Constant(None)] * 2
    parts[index] = E("y[i]", y=made, i=index)
    return ast.Tuple(parts, ast.Load())


# --- samples ------------------------------------------------------------------------------------------

_X = {"x": "3,7,5"}
_TIME = {"x": "7,3,5"}


def _samples(cls: str) -> tuple[Sample, ...]:
    lstm = cls == "LSTM"
    given = {"x": "3,7,5", "h": "1,3,4"} | ({"c": "1,3,4"} if lstm else {})
    many = {"x": "3,7,5", "h": "4,3,4"} | ({"c": "4,3,4"} if lstm else {})
    state = "(h, c)" if lstm else "h"
    last = "m(x)[1][0]" if lstm else "m(x)[1]"
    stacked = f"nn.{cls}(5, 4, 2, batch_first=True, bidirectional=True, dropout=0.0)"
    return (
        Sample("m(x)[0]", _X, f"nn.{cls}(5, 4, batch_first=True)"),
        Sample(last, _X, f"nn.{cls}(5, 4, batch_first=True, bias=False)"),
        Sample(f"m(x, {state})[0]", given, f"nn.{cls}(5, 4, batch_first=True)"),
        Sample("m(x)[0]", _X, f"nn.{cls}(5, 4, batch_first=True, bidirectional=True)"),
        Sample("m(x)[0]", _TIME, f"nn.{cls}(5, 4)"),
        Sample("m(x)", _TIME, f"nn.{cls}(5, 4, 3)"),
        Sample(f"m(x, {state})", many, stacked),
        Sample(last, _X, stacked),
    )


def _cell_samples(cls: str) -> tuple[Sample, ...]:
    if cls == "LSTMCell":
        states = {"x": "3,5", "h": "3,4", "c": "3,4"}
        return (
            Sample("m(x, (h, c))", states, "nn.LSTMCell(5, 4)"),
            Sample("m(x, (h, c))[0]", states, "nn.LSTMCell(5, 4, bias=False)"),
        )
    return (
        Sample("m(x, h)", {"x": "3,5", "h": "3,4"}, f"nn.{cls}(5, 4)"),
        Sample("m(x, h)", {"x": "3,5", "h": "3,4"}, f"nn.{cls}(5, 4, bias=False)"),
    )


_LSTM_NOTE = (
    "PyTorch keeps two biases, Keras their sum: in training the sum moves half as fast per step as "
    "PyTorch's two together."
)
_GRU_NOTE = (
    "PyTorch orders the gates r, z, n, Keras z, r, h; with reset_after=True both keep two biases."
)


def _rule(op: str, emit: Any, cls: str, topic: str, note: str, samples: Any) -> Rule:
    torch = f"nn.{cls}(input_size, hidden_size)"
    noun = "state" if cls.endswith("Cell") else "sequence"
    return Rule(
        op,
        emit,
        torch=torch,
        layout="logical",
        noun=noun,
        topic=topic,
        note=note,
        samples=samples,
    )


_LENGTHS = {"x": "3,7,5", "lengths": "int64[3]<7"}
_PACK = "nn.utils.rnn.pack_padded_sequence(x, lengths + 1, batch_first=True, enforce_sorted=False)"
_PACKED_NOTE = (
    "PyTorch packs the steps that are real; a Keras layer takes the padded batch and a mask, and by default repeats "
    "its last output over the padding, where PyTorch's pad_packed_sequence leaves zeros."
)


def _masked_samples() -> tuple[Sample, ...]:
    whole = f"nn.utils.rnn.pad_packed_sequence(m({_PACK})[0], batch_first=True)[0]"
    return (
        Sample(whole, _LENGTHS, "nn.LSTM(5, 4, batch_first=True)"),
        Sample(whole, _LENGTHS, "nn.GRU(5, 4, batch_first=True, bidirectional=True)"),
        Sample(f"m({_PACK})[1]", _LENGTHS, "nn.RNN(5, 4, 2, batch_first=True)"),
        Sample(f"m({_PACK})[1][0][-1]", _LENGTHS, "nn.LSTM(5, 4, 2, batch_first=True)"),
    )


_PACKED = {"torch": "nn.utils.rnn.pack_padded_sequence(x, lengths)", "layout": "logical"}

register(
    __name__,
    _rule("aten.lstm.input", _sequence, "LSTM", "LSTM", _LSTM_NOTE, _samples("LSTM")),
    _rule("aten.gru.input", _sequence, "GRU", "GRU", _GRU_NOTE, _samples("GRU")),
    _rule("aten.rnn_tanh.input", _sequence, "RNN", "", "", _samples("RNN")),
    _rule(
        "aten.rnn_relu.input",
        _sequence,
        "RNN",
        "",
        "",
        (Sample("m(x)[0]", _X, "nn.RNN(5, 4, nonlinearity='relu', batch_first=True)"),),
    ),
    _rule(
        "aten.lstm_cell.default", _cell, "LSTMCell", "LSTM", _LSTM_NOTE, _cell_samples("LSTMCell")
    ),
    _rule("aten.gru_cell.default", _cell, "GRUCell", "GRU", _GRU_NOTE, _cell_samples("GRUCell")),
    _rule("aten.rnn_tanh_cell.default", _cell, "RNNCell", "", "", _cell_samples("RNNCell")),
    _rule(
        "aten.rnn_relu_cell.default",
        _cell,
        "RNNCell",
        "",
        "",
        (Sample("m(x, h)", {"x": "3,5", "h": "3,4"}, "nn.RNNCell(5, 4, nonlinearity='relu')"),),
    ),
    Rule(
        "diglot.last_states.default",
        _last_states,
        torch="torch.cat([h[-2], h[-1]], dim=1)",
        layout="logical",
        noun="state",
    ),
    *(
        Rule(
            f"diglot.{name}.default",
            _for_torch,
            torch=f"{name}(x, {second})",
            layout="logical",
            noun="sequence",
        )
        for name, second in (
            ("counted_first", "mask"),
            ("back_in_place", "mask"),
            ("reverse_sequence", "lengths"),
        )
    ),
    Rule(
        "diglot.recurrent_layer.default",
        _for_torch,
        torch="LSTM(input_size, hidden_size, activation=F.relu)(x)",
        layout="logical",
        noun="sequence",
    ),
    Rule(
        "diglot.masked_batch_norm.default",
        _for_torch,
        torch="MaskedBatchNorm(num_features)(x, mask)",
        layout="logical",
        noun="norm",
    ),
    Rule(
        "diglot.conv_lstm.default",
        _for_torch,
        torch="ConvLSTM(in_channels, hidden_channels, kernel_size)(x)",
        layout="logical",
        noun="sequence",
    ),
    Rule(
        "diglot.step_mask.default",
        _step_mask,
        torch="nn.utils.rnn.pack_padded_sequence(x, lengths)",
        layout="logical",
        noun="mask",
    ),
    Rule(
        "diglot.trim_steps.default",
        "x[:, :ops.max(lengths)]",
        torch="nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)",
        layout="logical",
        noun="sequence",
    ),
    Rule(
        "diglot.masked_rnn.default",
        _sequence,
        torch="nn.LSTM(input_size, hidden_size)(packed)",
        layout="logical",
        noun="sequence",
        topic="Packed sequences",
        note=_PACKED_NOTE,
        samples=_masked_samples(),
    ),
    *(
        Rule(op, _packed, **_PACKED)
        for op in (
            "aten.lstm.data",
            "aten.gru.data",
            "aten.rnn_tanh.data",
            "aten.rnn_relu.data",
            "aten._pack_padded_sequence.default",
        )
    ),
)
