"""Packed sequences as padded batches with a mask, and recurrent layers that run under it.

The shape of what ``pack_padded_sequence`` gives depends on the lengths' values, which no captured program can hold.
While a model is captured, a packed sequence is the padded batch beside the steps that are real, and a recurrent
layer that receives one is a single op, which has a reference implementation, so that the hub still runs.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch import nn
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.utils import rnn

from diglot.errors import DataDependent, Problem, Unsupported

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("step_mask(Tensor lengths, SymInt length, bool is_sorted) -> Tensor")
_LIBRARY.define("trim_steps(Tensor x, Tensor lengths) -> Tensor")
_LIBRARY.define(
    "masked_rnn(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, float dropout, "
    "bool train, bool bidirectional, bool batch_first, Tensor mask, str kind) -> Tensor[]"
)


def _step_mask(lengths: torch.Tensor, length: int, is_sorted: bool) -> torch.Tensor:
    """Tell which steps of each sequence are real: (batch, length)."""
    return torch.arange(length, device=lengths.device) < lengths.unsqueeze(1)


def _trim_steps(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Cut a padded batch (batch, length, …) to its longest sequence."""
    return x[:, : int(lengths.max())]


def _masked_rnn(
    input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, mask, kind
):  # fmt: skip
    """Run a recurrent layer over a padded batch, each sequence up to its own length; zeros follow."""
    packed = rnn.pack_padded_sequence(input, mask.sum(1), batch_first=True, enforce_sorted=False)
    order = packed.sorted_indices
    states = [h.index_select(1, order) for h in hx]
    data, *finals = getattr(torch.ops.aten, kind).data(
        packed.data, packed.batch_sizes, states if kind == "lstm" else states[0], params, has_biases, num_layers,
        dropout, train, bidirectional,
    )  # fmt: skip
    outputs, _ = rnn.pad_packed_sequence(
        packed._replace(data=data), batch_first=True, total_length=mask.shape[1]
    )
    return [outputs, *(f.index_select(1, packed.unsorted_indices) for f in finals)]


def _masked_rnn_shapes(input, hx, *rest):
    directions = 2 if rest[5] else 1
    sequence = input.new_empty([*input.shape[:2], directions * hx[0].shape[-1]])
    return [sequence, *(torch.empty_like(state) for state in hx)]


def _trim_shapes(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    longest = torch.library.get_ctx().new_dynamic_size(min=1)
    return x.new_empty([x.shape[0], longest, *x.shape[2:]])


for _name, _function in (
    ("step_mask", _step_mask),
    ("trim_steps", _trim_steps),
    ("masked_rnn", _masked_rnn),
):
    _LIBRARY.impl(_name, _function, "CompositeExplicitAutograd")
torch.library.register_fake("diglot::trim_steps", _trim_shapes, lib=_LIBRARY)
torch.library.register_fake("diglot::masked_rnn", _masked_rnn_shapes, lib=_LIBRARY)


def _place() -> str:
    """Return ``file:line`` of the innermost frame that is not a library's."""
    places = [
        f
        for f in traceback.extract_stack()
        if "/torch/" not in f.filename and "/diglot/" not in f.filename
    ]
    return f"{places[-1].filename}:{places[-1].lineno}" if places else ""


def _refuse(what: str) -> NoReturn:
    raise Unsupported(
        [
            Problem(
                f"nn.utils.rnn.PackedSequence{what}",
                _place(),
                "",
                "its shape depends on the values of the lengths; pass a packed sequence to nn.LSTM, nn.GRU, nn.RNN "
                "and pad_packed_sequence only",
            )
        ]
    )


class PaddedSequence(rnn.PackedSequence):
    """What ``pack_padded_sequence`` returns while a model is captured.

    A tuple of the padded batch (batch, length, features), the mask of its real steps (batch, length), the lengths
    (batch,) and ``None``. The fields of a packed sequence, which have other shapes, are refused.
    """

    __slots__ = ()

    def __new__(cls, data: Any, mask: Any = None, lengths: Any = None, nothing: Any = None) -> Any:
        """Hold the parts as they are."""
        return tuple.__new__(cls, (data, mask, lengths, nothing))

    data = property(lambda self: _refuse(".data"))  # type: ignore[assignment]
    batch_sizes = property(lambda self: _refuse(".batch_sizes"))  # type: ignore[assignment]
    sorted_indices = property(lambda self: _refuse(".sorted_indices"))  # type: ignore[assignment]
    unsorted_indices = property(lambda self: _refuse(".unsorted_indices"))  # type: ignore[assignment]


class Numbers:
    """What ``lengths.tolist()`` returns while a model is captured: good for ``pack_padded_sequence`` alone."""

    def __init__(self, tensor: torch.Tensor) -> None:
        """Hold the tensor that the numbers are in."""
        self.tensor = tensor

    def _refuse(self, *_: Any) -> NoReturn:
        raise DataDependent(
            "the model reads the values of a tensor as Python numbers, which no single program can hold",
            received="tolist()",
            where=_place(),
            hint="keep the values in the tensor, or give pack_padded_sequence the tensor itself",
        )

    __iter__ = __getitem__ = __len__ = __eq__ = __array__ = _refuse  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def _to_numbers(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a ``tolist`` that keeps a dynamic batch's values in their tensor."""

    def to_list(self: torch.Tensor) -> Any:
        dynamic = self.dim() == 1 and isinstance(self.shape[0], torch.SymInt)
        return Numbers(self) if dynamic else original(self)

    return to_list


def pack(input: Any, lengths: Any, batch_first: bool, enforce_sorted: bool) -> PaddedSequence:
    """Stand in for ``pack_padded_sequence``."""
    padded = input if batch_first else input.transpose(0, 1)
    lengths = lengths.tensor if isinstance(lengths, Numbers) else torch.as_tensor(lengths)
    torch._check(lengths.shape[0] == padded.shape[0], lambda: "expected one length per sequence")
    mask = torch.ops.diglot.step_mask(lengths, padded.shape[1], enforce_sorted)
    return PaddedSequence(padded, mask, lengths)


def pad(
    sequence: Any, batch_first: bool, padding_value: float, total_length: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stand in for ``pad_packed_sequence``."""
    padded, mask, lengths, _ = sequence
    if padding_value != 0.0:
        padded = padded.masked_fill(~mask.unsqueeze(-1), padding_value)
    if total_length is None:
        padded = torch.ops.diglot.trim_steps(padded, lengths)
    elif total_length != padded.shape[1]:
        _refuse(": total_length is another length than that of the batch that was packed")
    return (padded if batch_first else padded.transpose(0, 1)), lengths


def _packing(input, lengths, batch_first=False, enforce_sorted=True):
    from diglot.frontends import packing

    return packing.pack(input, lengths, batch_first, enforce_sorted)


def _padding(sequence, batch_first=False, padding_value=0.0, total_length=None):
    from diglot.frontends import packing

    return packing.pad(sequence, batch_first, padding_value, total_length)


def _under_mask(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return the ``forward`` of a recurrent layer that also takes padded sequences."""

    def forward(self: nn.RNNBase, input: Any, hx: Any = None) -> Any:
        if not isinstance(input, PaddedSequence):
            return original(self, input, hx)
        padded, mask, lengths, _ = input
        kind = self.mode.lower()
        functions: Any = torch._VF
        op = getattr(functions, kind)

        def masked(x: torch.Tensor, states: Any, params: Any, *options: Any) -> tuple:
            given = [states] if isinstance(states, torch.Tensor) else list(states)
            return tuple(torch.ops.diglot.masked_rnn(x, given, params, *options, mask, kind))

        batch_first, self.batch_first = self.batch_first, True
        setattr(functions, kind, masked)
        try:
            outputs, finals = original(self, padded, hx)
        finally:
            setattr(functions, kind, op)
            self.batch_first = batch_first
        return PaddedSequence(outputs, mask, lengths), finals

    return forward


@contextlib.contextmanager
def as_padded() -> Iterator[None]:
    """Make packed sequences padded ones for the length of the context.

    The two functions keep their identity, since modules hold them under names of their own
    (``from torch.nn.utils.rnn import pack_padded_sequence``): only what they do is exchanged.
    """
    functions = {rnn.pack_padded_sequence: _packing, rnn.pad_packed_sequence: _padding}
    codes = {function: function.__code__ for function in functions}
    forwards = {cls: cls.forward for cls in (nn.LSTM, nn.GRU, nn.RNN)}
    lists = {cls: cls.tolist for cls in (FakeTensor, FunctionalTensor)}
    for function, other in functions.items():
        function.__code__ = other.__code__
    for cls, forward in forwards.items():
        cls.forward = _under_mask(forward)  # type: ignore[method-assign]
    for cls, to_list in lists.items():
        cls.tolist = _to_numbers(to_list)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for cls, to_list in lists.items():
            cls.tolist = to_list  # type: ignore[method-assign]
        for function, code in codes.items():
            function.__code__ = code
        for cls, forward in forwards.items():
            cls.forward = forward  # type: ignore[method-assign]
