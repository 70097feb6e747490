"""Recurrent layers that are PyTorch's own: LSTM, GRU, SimpleRNN and Bidirectional.

Others (cells of the author's, other activations) run their own ``call``, step by step.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn

from diglot.frontends.keras_layers import recurrent_layers
from diglot.frontends.keras_layers.records import (
    LayerCall,
    Sample,
    Weight,
    bare,
    layer,
    masks_flow,
    own_call,
)
from diglot.frontends.keras_layers.recurrent_layers import is_carried_layer

_TRANSPOSED = ("permute", (1, 0))
#: Keras's gates z, r, h in PyTorch's order r, z, n.
_GRU_GATES = (1, 0, 2)
_KINDS: dict[str, type[nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "SimpleRNN": nn.RNN}


def is_stock(own: Any) -> bool:
    """Whether a layer computes what PyTorch's layer of the same name does."""
    if own.recurrent_dropout or (own.go_backwards and own.stateful):
        return False
    return has_stock_functions(own)


def has_stock_functions(own: Any) -> bool:
    """Whether the functions between the gates of a layer, or of a cell, are those of PyTorch."""
    import keras

    functions = keras.activations
    if type(own).__name__.startswith("SimpleRNN"):
        return own.activation in (functions.tanh, functions.relu)
    if own.activation is not functions.tanh or own.recurrent_activation is not functions.sigmoid:
        return False
    return not type(own).__name__.startswith("GRU") or own.reset_after


def options_of(own: Any) -> dict[str, Any]:
    """PyTorch's arguments of a layer or of a cell."""
    import keras

    options = {"bias": own.use_bias}
    if type(own).__name__.startswith("SimpleRNN") and own.activation is keras.activations.relu:
        options["nonlinearity"] = "relu"
    return options


def without_second_biases(module: Any) -> Any:
    """A module of which Keras has one bias where PyTorch has two: the second starts at zero."""
    for name in [n for n, _ in module.named_parameters() if n.startswith("bias_hh")]:
        getattr(module, name).data.zero_()
    return module


def stock(own: Any, **more: Any) -> nn.RNNBase:
    """PyTorch's layer for one of Keras's, with its second biases at zero; ``more`` are arguments of the former."""
    kind = _KINDS[type(own).__name__]
    inputs = own.cell.kernel.shape[0]
    module = bare(kind, inputs, own.units, **{"batch_first": True, **options_of(own), **more})
    return module if kind is nn.GRU else without_second_biases(module)


class StatefulRNN(nn.Module):
    """A recurrent layer that starts where the last call ended."""

    def __init__(self, rnn: nn.RNNBase, batch: int) -> None:
        super().__init__()
        self.rnn = rnn
        self.states = ["h", "c"] if isinstance(rnn, nn.LSTM) else ["h"]
        for name in self.states:
            self.register_buffer(name, torch.zeros(batch, rnn.hidden_size))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any]:
        before = tuple(getattr(self, name).clone().unsqueeze(0) for name in self.states)
        output, after = self.rnn(x, before if len(before) > 1 else before[0])
        for name, state in zip(self.states, after if len(before) > 1 else (after,), strict=True):
            getattr(self, name).copy_(state.squeeze(0).detach())
        return output, after


def _is_known(own: Any) -> bool:
    return is_stock(own) or is_carried_layer(own, masks_flow())


def _module(own: Any) -> nn.Module:
    if not is_stock(own):
        return recurrent_layers.make(own)
    module = stock(own)
    if not own.stateful:
        return module
    return StatefulRNN(module, own.states[0].shape[0])


def direction_weights(
    own: Any, attribute: str = "", prefix: str = "", place: str = "l0"
) -> list[Weight]:
    """The weights of one direction; ``attribute`` and ``prefix`` lead to it, ``place`` as in ``l1_reverse``."""
    return cell_weights(own, f"{attribute}cell.", prefix, f"_{place}")


def cell_weights(own: Any, attribute: str = "", prefix: str = "", end: str = "") -> list[Weight]:
    """The weights of one cell at ``attribute``; PyTorch's names of them begin and end as given."""
    gates = (("blocks", 1, _GRU_GATES),) if type(own).__name__.startswith("GRU") else ()
    found = [
        Weight(f"{attribute}kernel", f"{prefix}weight_ih{end}", (_TRANSPOSED, *gates)),
        Weight(f"{attribute}recurrent_kernel", f"{prefix}weight_hh{end}", (_TRANSPOSED, *gates)),
    ]
    pair = (f"{prefix}bias_ih{end}", f"{prefix}bias_hh{end}")
    if own.use_bias and gates:
        found.append(Weight(f"{attribute}bias", pair, (("blocks", 0, _GRU_GATES),), "stack"))
    elif own.use_bias:
        found.append(Weight(f"{attribute}bias", pair, (), "sum"))
    return found


def _weights(own: Any) -> list[Weight]:
    if not is_stock(own):
        along = (("blocks", 0, _GRU_GATES),) if type(own).__name__ == "GRU" else ()
        return recurrent_layers.weights(own, cell_weights(own, "cell.")[:2], along)
    if not own.stateful:
        return direction_weights(own)
    states = [Weight(f"states.{i}", name) for i, name in enumerate(("h", "c")[: len(own.states)])]
    return [*direction_weights(own, prefix="rnn."), *states]


def _dropped(run: LayerCall, own: Any, x: torch.Tensor) -> torch.Tensor:
    """Drop the same features at every step."""
    if not own.dropout or run.forced is False:
        return x
    return x * F.dropout(torch.ones_like(x[:, :1]), float(own.dropout), run.training())


def _first_state(initial: Any, x: torch.Tensor) -> Any:
    """Keras's initial states (N, H) as PyTorch's (1, N, H); None where there are none."""
    if initial is None:
        return None
    states = list(initial) if isinstance(initial, (list, tuple)) else [initial]
    made = [s.unsqueeze(0) for s in states]
    return tuple(made) if len(made) > 1 else made[0]


def _last_states(after: Any) -> list[torch.Tensor]:
    states = after if isinstance(after, tuple) else (after,)
    return [s.squeeze(0) for s in states]


def valid_first(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The order that puts the steps which count first, and after each step how many have counted."""
    order = torch.argsort((~mask).to(torch.int64), dim=1, stable=True)
    return order, torch.cumsum(mask.to(torch.int64), dim=1)


def _take(x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    return torch.gather(x, 1, steps.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def masked_sequence(
    module: Any, x: torch.Tensor, mask: torch.Tensor, first: Any, zero: bool
) -> torch.Tensor:
    """A recurrent layer that passes over masked steps: at these it repeats its last output (or gives zero).

    The steps that count are moved to the front, where the layer sees them one after the other; each step then takes
    the output after as many steps as have counted up to it.
    """
    order, counted = valid_first(mask)
    output, _ = module(_take(x, order), first) if first is not None else module(_take(x, order))
    padded = F.pad(output, (0, 0, 1, 0))  # before any step: zero
    made = _take(padded, counted)
    return torch.where(mask.unsqueeze(-1), made, 0.0) if zero else made


def packed_sequence(
    module: Any, x: torch.Tensor, mask: torch.Tensor, first: Any, zero: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """As :func:`masked_sequence`, with the states after the last step that counts, as PyTorch has them.

    Only packed sequences end before the batch does. One without any step that counts keeps its first state.
    """
    order, counted = valid_first(mask)
    lengths = mask.to(torch.int64).sum(dim=1)
    packed = rnn.pack_padded_sequence(
        _take(x, order), lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    output, after = module(packed, first) if first is not None else module(packed)
    output, _ = rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    before = list(first) if isinstance(first, tuple) else [first]
    begun = (lengths > 0).unsqueeze(-1)
    states = [
        torch.where(begun, state, 0.0 if start is None else start)
        for state, start in zip(
            after if isinstance(after, tuple) else (after,),
            before * (2 if before == [None] else 1),
            strict=False,
        )
    ]
    made = _take(F.pad(output, (0, 0, 1, 0)), counted)
    return torch.where(mask.unsqueeze(-1), made, 0.0) if zero else made, states


def _run(
    run: LayerCall, sequences: torch.Tensor, initial_state: Any = None, mask: Any = None
) -> Any:
    own = run.layer
    module = run.module if is_stock(own) else recurrent_layers.Running(run)
    mask = mask[0] if isinstance(mask, (list, tuple)) else mask
    x = _dropped(run, own, sequences) if is_stock(own) else sequences
    if own.go_backwards:
        x = x.flip(1)
    first = _first_state(initial_state, x)
    if mask is not None:
        if own.stateful:
            raise run.refused(
                "stateful together with a mask (unroll the steps in a layer of your own)"
            )
        mask = mask.flip(1) if own.go_backwards else mask
        if own.return_state:
            sequence, states = packed_sequence(module, x, mask, first, own.zero_output_for_mask)
            output = sequence if own.return_sequences else sequence[:, -1]
            return (output, *_last_states(tuple(states)))
        sequence = masked_sequence(module, x, mask, first, own.zero_output_for_mask)
        return sequence if own.return_sequences else sequence[:, -1]
    if own.stateful and first is not None:
        raise run.refused("stateful, but called with initial_state")
    sequence, after = module(x, first) if first is not None else module(x)
    output = sequence if own.return_sequences else sequence[:, -1]
    return (output, *_last_states(after)) if own.return_state else output


def _sample(
    name: str, *shapes: str, call: Any = None, random: bool = False, **options: Any
) -> Sample:
    return Sample(
        lambda keras: getattr(keras.layers, name)(4, **options), shapes or ("2,5,3",), call, random
    )


def _masked(layer_: Any, x: Any, mask: Any) -> Any:
    return layer_(x, mask=mask)


def _masked_from(layer_: Any, x: Any, mask: Any, *states: Any) -> Any:
    return layer_(x, mask=mask, initial_state=list(states))


def _with_state(layer_: Any, x: Any, *states: Any) -> Any:
    return layer_(x, initial_state=list(states))


def _samples(name: str, states: int) -> tuple[Sample, ...]:
    return (
        _sample(name),
        _sample(name, return_sequences=True, go_backwards=True),
        _sample(name, return_state=True, return_sequences=True, use_bias=False),
        _sample(name, "3,5,3", "bool[3,5]", call=_masked, return_sequences=True),
        _sample(name, "3,5,3", "bool[3,5]", call=_masked, go_backwards=True),
        _sample(
            name, "3,5,3", "bool[3,5]", call=_masked, return_sequences=True, zero_output_for_mask=True,
            use_cudnn=False,
        ) if name != "SimpleRNN" else _sample(
            name, "3,5,3", "bool[3,5]", call=_masked, return_sequences=True, zero_output_for_mask=True
        ),
        _sample(name, "3,5,3", "bool[3,5]", call=_masked, return_state=True),
        _sample(
            name, "3,5,3", "bool[3,5]", call=_masked, return_state=True, return_sequences=True, go_backwards=True
        ),
        _sample(name, "2,5,3", *["2,4"] * states, call=_with_state, return_sequences=True),
        _sample(
            name, "3,5,3", "bool[3,5]", *["3,4"] * states, call=_masked_from, return_sequences=True
        ),
        _sample(name, "3,5,3", "bool[3,5]", *["3,4"] * states, call=_masked_from, return_state=True),
        _sample(name, dropout=0.3, random=True),
        _sample(name, recurrent_dropout=0.3, random=True),
        _sample(name, activation="softsign", return_sequences=True),
        _sample(name, "2,5,3", *["2,4"] * states, call=_with_state, activation="relu", return_state=True),
        _sample(name, activation="elu", use_bias=False, go_backwards=True),
        _sample(name, "3,5,3", "bool[3,5]", call=_masked, activation="softsign"),
    )  # fmt: skip


def _of_gru() -> tuple[Sample, ...]:
    return (
        _sample("GRU", reset_after=False),
        _sample("GRU", reset_after=False, use_bias=False),
        _sample(
            "GRU", reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True
        ),
    )


for _name, _states in (("LSTM", 2), ("GRU", 1), ("SimpleRNN", 1)):
    layer(
        _name,
        when=_is_known,
        make=_module,
        call=_run,
        weights=_weights,
        samples=(
            *_samples(_name, _states),
            *(_of_gru() if _name == "GRU" else ()),
        ),
    )


# --- both directions -------------------------------------------------------------------------------------


def _is_stock_pair(own: Any) -> bool:
    forward, backward = own.forward_layer, own.backward_layer
    if type(forward) is not type(backward) or type(forward).__name__ not in _KINDS:
        return False
    alike = all(
        getattr(forward, a) == getattr(backward, a)
        for a in "units use_bias activation return_sequences return_state dropout stateful".split()
    )
    return (
        alike
        and is_stock(forward)
        and is_stock(backward)
        and not forward.stateful
        and not forward.go_backwards
    )


class Bidirectional(nn.Module):
    """A recurrent layer for each direction."""

    def __init__(self, ahead: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.ahead = ahead
        self.back = back


def _pair(own: Any) -> nn.Module:
    if masks_flow():
        return Bidirectional(stock(own.forward_layer), stock(own.backward_layer))
    return stock(own.forward_layer, bidirectional=True)


def _pair_weights(own: Any) -> list[Weight]:
    prefixes = ("ahead.", "back.") if masks_flow() else ("", "")
    return [
        *direction_weights(own.forward_layer, "forward_layer.", prefixes[0]),
        *direction_weights(
            own.backward_layer,
            "backward_layer.",
            prefixes[1],
            "l0" if masks_flow() else "l0_reverse",
        ),
    ]


_MERGES: dict[str, Any] = {
    "concat": lambda a, b: torch.cat([a, b], dim=-1),
    "sum": torch.add,
    "ave": lambda a, b: (a + b) / 2,
    "mul": torch.mul,
}


def _pair_states(initial: Any, run: LayerCall) -> Any:
    """Keras's initial states (forward ones, then backward ones) as PyTorch's (2, N, H)."""
    if initial is None:
        return None
    states = list(initial)
    half = len(states) // 2
    made = [torch.stack([states[i], states[half + i]]) for i in range(half)]
    return tuple(made) if half > 1 else made[0]


def _run_pair(
    run: LayerCall, sequences: torch.Tensor, initial_state: Any = None, mask: Any = None
) -> Any:
    own = run.layer
    mask = mask[0] if isinstance(mask, (list, tuple)) else mask
    x = _dropped(run, own.forward_layer, sequences)
    merge = _MERGES.get(own.merge_mode) if own.merge_mode else None
    if isinstance(run.module, Bidirectional):
        ahead, back, states = _two_directions(run, x, initial_state, mask)
    else:
        first = _pair_states(initial_state, run)
        after: Any
        if mask is not None:  # both layers give zeros where a step does not count
            zero = own.return_sequences
            sequence, made = packed_sequence(run.module, x, mask, first, zero)
            after = tuple(made)
        else:
            sequence, after = run.module(x, first) if first is not None else run.module(x)
        states = [s[d] for d in (0, 1) for s in (after if isinstance(after, tuple) else (after,))]
        if own.return_sequences:
            if own.merge_mode == "concat":
                return (sequence, *states) if own.return_state else sequence
            ahead, back = sequence.chunk(2, dim=-1)
        else:
            ahead, back = states[0], states[len(states) // 2]
    if merge is None:
        return (ahead, back, *states) if own.return_state else (ahead, back)
    output = merge(ahead, back)
    return (output, *states) if own.return_state else output


def _two_directions(run: LayerCall, x: torch.Tensor, initial: Any, mask: Any) -> tuple:
    own, results, states = run.layer, [], []
    given = list(initial) if initial is not None else []
    half = len(given) // 2
    for place, module in enumerate((run.module.ahead, run.module.back)):
        steps = x.flip(1) if place else x
        first = _first_state(given[place * half : (place + 1) * half] if given else None, x)
        if mask is not None:
            kept = mask.flip(1) if place else mask
            zero = own.forward_layer.zero_output_for_mask
            if own.return_state:
                sequence, after = packed_sequence(module, steps, kept, first, zero)
                states += _last_states(tuple(after))
            else:
                sequence = masked_sequence(module, steps, kept, first, zero)
        else:
            sequence, after = module(steps, first) if first is not None else module(steps)
            states += _last_states(after)
        if own.return_sequences:
            results.append(sequence.flip(1) if place else sequence)
        else:
            results.append(sequence[:, -1])
    return (*results, states)


def _both(keras: Any, name: str, merge: Any = "concat", **options: Any) -> Any:
    return keras.layers.Bidirectional(getattr(keras.layers, name)(4, **options), merge_mode=merge)


def _pair_sample(name: str, merge: Any = "concat", masked: bool = False, **options: Any) -> Sample:
    def call(pair: Any, x: Any) -> Any:
        import keras

        return pair(keras.layers.Masking(0.0)(x) if masked else x)

    return Sample(functools.partial(_both, name=name, merge=merge, **options), ("3,5,3",), call)


layer(
    "Bidirectional",
    when=_is_stock_pair,
    make=_pair,
    call=_run_pair,
    weights=_pair_weights,
    samples=(
        _pair_sample("LSTM"),
        _pair_sample("LSTM", return_sequences=True),
        _pair_sample("GRU", "sum", return_sequences=True),
        _pair_sample("GRU", "ave"),
        _pair_sample("SimpleRNN", "mul", return_sequences=True),
        _pair_sample("LSTM", None, return_sequences=True),
        _pair_sample("LSTM", return_state=True),
        _pair_sample("LSTM", masked=True, return_sequences=True),
        _pair_sample("GRU", masked=True),
        _pair_sample("LSTM", masked=True, return_state=True, return_sequences=True),
        _pair_sample("LSTM", activation="softsign"),
        _pair_sample("LSTM", masked=True, activation="softsign", return_sequences=True),
    ),
)


def _cells(keras: Any) -> Any:
    return keras.layers.RNN(
        [keras.layers.GRUCell(4), keras.layers.LSTMCell(3)], return_sequences=True
    )


own_call(
    "RNN",
    Sample(lambda keras: keras.layers.RNN(keras.layers.LSTMCell(4), return_state=True), ("2,5,3",)),
)
own_call("StackedRNNCells", Sample(_cells, ("2,5,3",)))
