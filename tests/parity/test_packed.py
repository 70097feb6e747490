"""Packed sequences around recurrent layers: a padded batch under a mask in Keras."""

import warnings

import pytest
import torch
from in_process import translated
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import diglot
from diglot.errors import DataDependent, Unsupported

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class Packed(nn.Module):
    """Token ids and their lengths through a recurrent layer that stops where each text ends."""

    def __init__(self, layer, batch_first=True, is_sorted=False):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.rnn = layer
        self.batch_first, self.is_sorted = batch_first, is_sorted

    def run(self, text, lengths):
        packed = pack_padded_sequence(
            self.embedding(text), lengths, self.batch_first, enforce_sorted=self.is_sorted
        )
        return self.rnn(packed)

    def padded(self, text, lengths, **options):
        return pad_packed_sequence(self.run(text, lengths)[0], self.batch_first, **options)[0]


class LastState(Packed):
    """Both directions' last states."""

    def forward(self, text, lengths):
        _, (hidden, _) = self.run(text, lengths.cpu())
        return torch.cat((hidden[-2], hidden[-1]), dim=1)


class Tagger(Packed):
    """An output for each step up to the longest text's end."""

    def forward(self, text, lengths):
        output, _ = pad_packed_sequence(
            self.run(text, lengths.tolist())[0], batch_first=self.batch_first
        )
        return torch.tanh(output)


class Chosen(Packed):
    """The output at each text's end, taken out of the padded outputs."""

    def forward(self, text, lengths):
        output = self.padded(text, lengths.cpu())
        return output[torch.arange(output.size(0)), lengths - 1]


class Pooled(Packed):
    """The greatest output over all steps, padded ones included."""

    def forward(self, text, lengths):
        return self.padded(text, lengths, padding_value=-5.0).max(dim=1)[0]


class WholeLength(Packed):
    """Outputs as long as the input, whose own mask says what counts."""

    def forward(self, text, lengths):
        output = self.padded(text, lengths, total_length=text.size(1))
        return (output * (text > 3).unsqueeze(-1)).mean(1)


class Fields(Packed):
    """Reads the packed data."""

    def forward(self, text, lengths):
        packed = self.run(text, lengths)[0]
        return PackedSequence(torch.relu(packed.data), packed.batch_sizes)[0]


class Counted(Packed):
    """Reads the lengths one by one."""

    def forward(self, text, lengths):
        return torch.stack(
            [self.embedding(t)[:n].sum(0) for t, n in zip(text, lengths.tolist(), strict=True)]
        )


def texts(longest=7):
    """Three texts in a batch of seven steps; the longest is not the first."""
    return torch.randint(0, 20, (3, 7)), torch.tensor([4, longest, 1])


def test_last_states_stop_at_the_lengths():
    """One mask, and the layer itself returns the states."""
    layer = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    source = translated(LastState(layer), *texts())
    assert "hidden = self.rnn(self.embedding(text), mask=mask)" in source
    assert "self.rnn = layers.Bidirectional(layers.LSTM(5))" in source


def test_several_layers_under_a_mask():
    """Without a warning of Keras's that the mask is lost."""
    layer = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*mask.*")
        translated(LastState(layer), *texts())


@pytest.mark.parametrize("longest", [7, 5])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_outputs_end_with_the_longest_text(kind, longest):
    """Zeros after each text's end, and no step that is padding in all texts."""
    source = translated(Tagger(kind(6, 5, batch_first=True)), *texts(longest))
    assert "zero_output_for_mask=True" in source and "ops.max(lengths)]" in source


def test_time_major_batches():
    """The lengths' batch is the second axis of the text."""
    text, lengths = texts()
    model = Tagger(nn.GRU(6, 5, bidirectional=True), batch_first=False).eval()
    translation = diglot.translate(model, (text.T.contiguous(), lengths))
    got = translation.model([text.T.numpy(), lengths.numpy()], training=False)
    expected = model(text.T, lengths).detach()
    assert abs(torch.as_tensor(got.numpy()) - expected).max() < 1e-6


def test_chosen_steps_need_no_cut():
    """What follows a text's end is not read."""
    source = translated(Chosen(nn.LSTM(6, 5, 2, batch_first=True)), *texts(5))
    assert "ops.max(lengths)" not in source


def test_a_padding_value_and_the_longest_length_matter_to_a_maximum():
    """Were the padding not cut, no maximum would be below its value."""
    assert "ops.max(lengths)]" in translated(Pooled(nn.RNN(6, 5, batch_first=True)), *texts(5))


def test_the_whole_length_is_kept_where_asked_for():
    """No cut; and the mask that Keras attaches to a layer's outputs is not handed on to later layers."""
    source = translated(WholeLength(nn.GRU(6, 5, batch_first=True)), *texts(5))
    assert "ops.max(lengths)" not in source
    assert "ops.where(mask[..., None], self.rnn(self.embedding(text), mask=mask), 0)" in source


def test_a_tagger_with_sorted_lengths_is_proven():
    """Lengths that descend, up to and below the batch's length, in float64 with gradients and training."""
    layer = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    text, _ = texts()
    lengths = torch.tensor([7, 4, 1])
    proof = diglot.prove(diglot.translate(Tagger(layer, is_sorted=True), (text, lengths)), steps=1)
    assert proof.verdict == "proven", proof.reason


def test_the_fields_of_a_packed_sequence_are_refused_at_their_line():
    """Their shapes depend on the lengths' values."""
    with pytest.raises(Unsupported, match=r"PackedSequence\.data") as refusal:
        diglot.translate(Fields(nn.GRU(6, 5, batch_first=True)), texts())
    assert "test_packed.py" in refusal.value.problems[0].where


def test_lengths_as_python_numbers_are_refused_elsewhere():
    """Only pack_padded_sequence takes them."""
    with pytest.raises(DataDependent, match="Python numbers"):
        diglot.translate(Counted(nn.GRU(6, 5)), texts())
