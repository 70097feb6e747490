"""Forms that models in the wild take, each translated and compared, with what must (not) be in the source."""

import pytest
import torch
from in_process import translated
from torch import nn

import diglot
from diglot.errors import Unsupported


class SelectiveKernels(nn.Module):
    """Branches stacked on an axis of their own, weighed and summed (SKNet)."""

    def __init__(self):
        super().__init__()
        self.paths = nn.ModuleList([nn.Conv2d(3, 4, k, padding=k // 2) for k in (3, 5)])
        self.select = nn.Conv2d(4, 8, 1)

    def forward(self, x):
        x = torch.stack([path(x) for path in self.paths], dim=1)
        weights = self.select(x.sum(1).mean((2, 3), keepdim=True))
        weights = weights.view(x.shape[0], 2, 4, 1, 1).softmax(dim=1)
        return (x * weights).sum(1)


def test_stacked_feature_maps_stay_channels_last():
    """No transposes: the new axis is put where channels-last tensors have room for it."""
    assert "transpose" not in translated(SelectiveKernels(), torch.randn(2, 3, 6, 7))


class Video(nn.Module):
    """Frames through one convolution, stacked on a time axis and returned (the loop of a ConvLSTM)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(7, 4, 3, padding=1)

    def forward(self, x):
        state = x.new_zeros(x.shape[0], 4, 5, 6)
        states = []
        for step in range(x.shape[1]):
            state = torch.tanh(self.conv(torch.cat([x[:, step], state], dim=1)))
            states.append(state)
        return torch.stack(states, dim=1)


def test_a_stack_of_feature_maps_is_returned_in_the_order_of_pytorch():
    """What is turned at the boundary is what is returned (rank 5 is in no layout that Keras has a name for)."""
    source = translated(Video(), torch.randn(2, 2, 3, 5, 6))
    assert "ops.stack([" in source and "axis=1), (0, 1, 4, 2, 3)" in source


class Recommender(nn.Module):
    """Dense features beside bags of ids (DLRM): the ids' batch is derived from their number."""

    def __init__(self):
        super().__init__()
        self.bags = nn.ModuleList([nn.EmbeddingBag(n, 4, mode="sum") for n in (7, 9)])
        self.dense = nn.Linear(5, 4)

    def forward(self, x, ids):
        parts = [bag(ids[:, i]) for i, bag in enumerate(self.bags)]
        return torch.cat([self.dense(x), *parts], dim=1)


def test_bags_of_one_length_are_summed_embeddings():
    """An embedding and a sum, for any batch."""
    source = translated(Recommender(), torch.randn(3, 5), torch.randint(0, 7, (3, 2, 6)))
    assert "layers.Embedding(7, 4)" in source
    assert "batch_size" not in source


class Spans(nn.Module):
    """A relative position table, cut to the shorter of the text and itself (DeBERTa)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(12, 4))

    def forward(self, x):
        span = min(max(x.size(1), 3), 6)
        return x @ self.table[6 - span : 6 + span].t()


def test_a_size_bounded_by_min_and_max():
    """``min(length, 6)`` is computed by the program."""
    assert "ops.minimum" in translated(Spans(), torch.randn(2, 5, 4))


class Spectrum(nn.Module):
    """A Fourier transform, whose complex numbers have no pair of real ones here."""

    def forward(self, x):
        return torch.fft.rfft(x, dim=-1).abs()


def test_complex_numbers_are_listed_as_unsupported():
    """With their line; not a crash."""
    with pytest.raises(Unsupported, match="fft_rfft"):
        diglot.translate(Spectrum(), torch.randn(2, 5, 4))


@pytest.mark.parametrize("old", [False, True])
def test_spectral_norm_is_refused_with_what_to_do(old):
    """Every layer of it is listed."""
    norm = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(norm(nn.Linear(4, 3)), norm(nn.Linear(3, 2)))
    with pytest.raises(Unsupported, match="remove_parametrizations") as refusal:
        diglot.translate(model, torch.randn(2, 4))
    assert [p.module for p in refusal.value.problems] == ["0", "1"]


def test_orthogonal_weights_are_refused_with_what_to_do():
    """By name, not by the ops of which torch makes them."""
    model = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)), nn.ReLU())
    with pytest.raises(Unsupported, match="remove_parametrizations") as refusal:
        diglot.translate(model, torch.randn(2, 4))
    assert [(p.op, p.module) for p in refusal.value.problems] == [("orthogonal", "0")]


class Normalised(nn.Module):
    """A convolution whose weight has its length apart from its direction."""

    def __init__(self, norm):
        super().__init__()
        self.conv = norm(nn.Conv1d(3, 4, 3))

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("old", [False, True])
def test_weight_norm_trains_length_and_direction(old):
    """Both are weights of the program, called as the layer is."""
    norm = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
    source = translated(Normalised(norm), torch.randn(2, 3, 7))
    assert source.count("self.add_weight(") == 3
    assert "parametrizations" not in source


def test_a_root_sequential_that_keras_cannot_spell_is_a_class():
    """keras.Sequential has no place for the two weights of a weight norm."""
    norm = nn.utils.parametrizations.weight_norm
    model = nn.Sequential(norm(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 3))
    source = translated(model, torch.randn(2, 5))
    assert "keras.Sequential" not in source
    assert "def call(self, inputs):" in source
