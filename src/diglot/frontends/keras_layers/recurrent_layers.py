"""LSTM, GRU and SimpleRNN with functions, dropout or resets that PyTorch's do not have: layers that the program
carries, one op whatever the number of steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diglot.carried import recurrent_dropout as dropping
from diglot.carried import recurrent_layers
from diglot.frontends.keras_layers.activation import function_named, name_of
from diglot.frontends.keras_layers.records import LayerCall, Weight, holder

KINDS = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
#: Functions that the program has a name for; see rules/spelling/recurrent_layers.py.
_FUNCTIONS = frozenset(
    "tanh sigmoid relu hard_sigmoid elu selu gelu silu softplus softsign mish relu6".split()
)
_OLD_SIGMOID = "hard_sigmoid_of_keras_2"
_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define(
    "recurrent_layer(Tensor input, Tensor[] hx, Tensor[] params, str kind, float dropout, "
    "float recurrent_dropout, str activation, str recurrent_activation, bool train) -> (Tensor, Tensor, Tensor)"
)


def _function(name: str) -> Any:
    return recurrent_layers.hard_sigmoid if name == _OLD_SIGMOID else function_named(name)


def resets_before(kind: str, count: int) -> bool:
    """Whether a layer with so many weights is a GRU that resets its state before the product."""
    return kind == "GRU" and count == 3


def _run_op(
    input: torch.Tensor,
    hx: list[torch.Tensor],
    params: list[torch.Tensor],
    kind: str,
    dropout: float,
    recurrent_dropout: float,
    activation: str,
    recurrent_activation: str,
    train: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sizes = params[0].shape[1], params[1].shape[1], len(params) > 2
    options: dict[str, Any] = {"activation": _function(activation)}
    if kind != "RNN":
        options["recurrent_activation"] = _function(recurrent_activation)
    before = resets_before(kind, len(params))
    with torch.random.fork_rng(
        devices=[]
    ):  # the numbers that its own weights begin with are not drawn
        if train and (dropout or recurrent_dropout):
            options |= {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
            options |= {"reset_after": not before} if kind == "GRU" else {}
            module = getattr(dropping, f"{kind}WithDropout")(*sizes, **options)
        else:
            made = recurrent_layers.ResetBeforeGRU if before else getattr(recurrent_layers, kind)
            module = made(*sizes, **options)
    weights = dict(zip(_NAMES, params, strict=False))
    first = None if not hx else tuple(hx) if kind == "LSTM" else hx[0]
    sequence, state = torch.func.functional_call(module.train(train), weights, (input, first))
    states = state if isinstance(state, tuple) else (state, state)
    return sequence, states[0].clone(), states[1].clone()


def _shape_op(
    input: torch.Tensor, hx: list[torch.Tensor], params: list[torch.Tensor], *options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden, (batch, steps) = params[1].shape[1], input.shape[:2]
    states = (input.new_empty(batch, hidden) for _ in range(2))
    return input.new_empty(batch, steps, hidden), *states


_LIBRARY.impl("recurrent_layer", _run_op, "CompositeExplicitAutograd")
torch.library.register_fake("diglot::recurrent_layer", _shape_op, lib=_LIBRARY)


def _name(function: Any) -> str | None:
    """The name of a function between the gates, of Keras 3's or of Keras 2's."""
    if getattr(function, "__module__", "") == "diglot.keras2.functions":
        return _OLD_SIGMOID
    name = name_of(function)
    return name if name in _FUNCTIONS else None


def is_carried_layer(own: Any, masks: bool) -> bool:
    """Whether a layer is one that the carried classes can be."""
    functions = [own.activation, getattr(own, "recurrent_activation", own.activation)]
    if any(_name(function) is None for function in functions) or own.stateful:
        return False
    # A GRU without biases does not say by its weights when it resets.
    if type(own).__name__ == "GRU" and not own.use_bias and not own.reset_after:
        return False
    return not (masks and own.return_state)  # whose last state may be any step's


def make(own: Any) -> nn.Module:
    """Return the weights, in the order in which the op takes them."""
    inputs, gates = own.cell.kernel.shape
    shapes = [(gates, inputs), (gates, own.units), (gates,), (gates,)]
    count = 2 + (1 + _has_two_biases(own) if own.use_bias else 0)
    named = list(zip(_NAMES, shapes, strict=True))[:count]
    return holder(KINDS[type(own).__name__], dict(named))


def _has_two_biases(own: Any) -> bool:
    return type(own).__name__ == "GRU" and own.reset_after


def weights(own: Any, kernels: list[Weight], gates: tuple) -> list[Weight]:
    """Return Keras's weights: ``kernels`` and, where there is one, the bias, with gates in PyTorch's order."""
    if not own.use_bias:
        return kernels
    if _has_two_biases(own):
        return [*kernels, Weight("cell.bias", ("bias_ih", "bias_hh"), gates, "stack")]
    return [*kernels, Weight("cell.bias", "bias_ih", gates)]


class Running:
    """A layer that is called as ``nn.LSTM`` is: a sequence and states of shape (1, batch, hidden)."""

    def __init__(self, run: LayerCall) -> None:
        self.own, self.module = run.layer, run.module
        self.drops, self.training = run.forced is not False, run.training()

    def __call__(self, x: torch.Tensor, first: Any = None) -> tuple[torch.Tensor, Any]:
        own = self.own
        given = () if first is None else first if isinstance(first, tuple) else (first,)
        rates = (float(own.dropout), float(own.recurrent_dropout)) if self.drops else (0.0, 0.0)
        sequence, h, c = torch.ops.diglot.recurrent_layer(
            x,
            [state.squeeze(0) for state in given],
            list(self.module.parameters()),
            KINDS[type(own).__name__],
            *rates,
            _name(own.activation),
            _name(getattr(own, "recurrent_activation", own.activation)),
            self.training,
        )
        states = (h, c) if type(own).__name__ == "LSTM" else (h,)
        made = tuple(state.unsqueeze(0) for state in states)
        return sequence, made if len(made) > 1 else made[0]
