"""A model that came from PyTorch has its names there again: those that Keras has no place for, too."""

from collections import OrderedDict

import keras
import numpy as np
import pytest
import there_and_back
import torch
from torch import nn
from torch.nn import functional as F

import diglot
from diglot.runtime.afresh import import_afresh


def assert_same_state(model: nn.Module, back: nn.Module) -> None:
    before, after = model.state_dict(), back.state_dict()
    assert set(before) == set(after)
    for key, value in before.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, after[key]), key


class Named(nn.Module):
    """A sequence by names, with padding that Keras has a layer for; a list in which not every item has weights."""

    def __init__(self):
        super().__init__()
        block = OrderedDict(norm=nn.BatchNorm2d(8), conv=nn.Conv2d(8, 6, 1))
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, 8, 3, stride=2, padding=1),
                relu0=nn.ReLU(),
                block=nn.Sequential(block),
            )
        )
        self.layers = nn.ModuleList([nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Linear(4, 2)])

    def forward(self, x):
        x = self.features(x).mean((2, 3))
        for layer in self.layers:
            x = layer(x)
        return x


def seeded(cls):
    torch.manual_seed(0)
    return cls().eval()


def test_sequences_and_lists_keep_their_names_and_places():
    model, x = seeded(Named), torch.randn(2, 3, 13, 15)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert '("conv0", nn.Conv2d(3, 8, 3, stride=2, padding=1))' in back.source
    assert "nn.Linear(6, 5), nn.Identity(), nn.Linear(5, 4)" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


class Scaled(nn.BatchNorm2d):
    """A batch norm with its activation, as timm has them."""

    def forward(self, x):
        return F.silu(super().forward(x))


class Projection(nn.Module):
    """A product with a weight the other way round, as GPT-2 has them, and a table that two modules share."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 6))
        self.bias = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


class Holders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.bn1 = Scaled(5)
        self.conv2 = nn.Conv2d(5, 8, 3, bias=False)
        self.bn2 = Scaled(8, eps=1e-3)
        self.project = Projection()

    def forward(self, x):
        x = self.bn2(self.conv2(self.bn1(self.conv(x))))
        return self.project(x.mean((2, 3)))


def test_weights_that_a_module_held_itself_are_its_own_again():
    model, x = seeded(Holders), torch.randn(2, 3, 9, 11)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert "class Scaled(nn.BatchNorm2d):" in back.source
    assert "F.silu(super().forward(x))" in back.source
    assert "F.linear(x, self.weight.T, self.bias)" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)
    ours, theirs = (m.train()(x).detach() for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    assert torch.equal(back.model.bn1.running_mean, model.bn1.running_mean)


def test_a_model_read_from_a_translations_folder_has_them_too(tmp_path):
    """Also how the two biases of an LSTM share what Keras holds as one."""
    model, x = seeded(Tagger), torch.randint(0, 20, (3, 7))
    diglot.translate(model, x).save(tmp_path)
    loaded = import_afresh(tmp_path / "model.py").build_model(tmp_path / "model.weights.h5")
    back = diglot.translate(loaded, x.numpy().astype("int32"), to="torch")
    assert_same_state(model, back.model)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.heads = nn.ModuleDict({"tag": nn.Linear(6, 5), "chunk": nn.Linear(6, 3)})

    def forward(self, tokens):
        output, _ = self.lstm(self.embedding(tokens))
        return {name: head(F.relu(output)) for name, head in self.heads.items()}


def test_a_trained_sum_is_shared_out_between_its_parts():
    model, x = seeded(Tagger), torch.randint(0, 20, (3, 7))
    there = diglot.translate(model, x)
    bias = there.model.get_layer("tagger").lstm.cell.bias
    bias.assign(np.asarray(bias) + 0.25)
    back = diglot.translate(there.model, x.numpy().astype("int32"), to="torch")
    lstm = back.model.lstm
    torch.testing.assert_close(lstm.bias_ih_l0, model.lstm.bias_ih_l0 + 0.25)
    assert torch.equal(lstm.bias_hh_l0, model.lstm.bias_hh_l0)


def test_a_dict_of_layers_is_one_in_either_language():
    """Without a translation behind it, as in a model that its author wrote in Keras."""

    class Heads(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.heads = {"tag": keras.layers.Dense(5), "chunk": keras.layers.Dense(3)}

        def call(self, x):
            return [head(x) for head in self.heads.values()]

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Heads()(inputs))
    translation = diglot.translate(model, to="torch")
    assert set(translation.weights) == {
        f"heads.{n}.{w}" for n in ("tag", "chunk") for w in ("weight", "bias")
    }
    assert 'nn.ModuleDict({"tag": nn.Linear(4, 5), "chunk": nn.Linear(4, 3)})' in translation.source


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(12, 6))

    def forward(self, x):
        return x * 2 + self.table[: x.size(1)]


class Pair(nn.Module):
    """A module with a weight of its own that is called twice."""

    def __init__(self):
        super().__init__()
        self.positions = Positions()
        self.left, self.right = nn.Linear(4, 6), nn.Linear(3, 6)

    def forward(self, a, b):
        return self.positions(self.left(a)).mean(1) + self.positions(self.right(b)).sum(1)


def test_a_module_with_a_weight_of_its_own_that_is_called_twice_stays_one():
    model, x = seeded(Pair), (torch.randn(2, 5, 4), torch.randn(2, 7, 3))
    there = diglot.translate(model, x)
    assert "class Positions(layers.Layer):" in there.source
    assert there.source.count("self.positions(") == 2
    back = diglot.translate(there.model, there_and_back.keras_inputs(there, x), to="torch")
    assert_same_state(model, back.model)


class Pooled(nn.Module):
    """Functions that a Keras program carries, since Keras has none: PyTorch has its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.pool = nn.AdaptiveAvgPool2d((3, 2))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.pixel_shuffle(F.relu(self.conv(x)), 2)
        return self.fc(torch.flatten(self.pool(x), 1))


def test_carried_functions_are_pytorchs_own_again():
    model, x = seeded(Pooled), torch.randn(2, 3, 12, 14)
    back = there_and_back.to_keras_and_back(model, x)
    assert_same_state(model, back.model)
    assert "F.adaptive_avg_pool2d(" in back.source
    assert "F.pixel_shuffle(" in back.source
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


class Recurrent(nn.Module):
    """A recurrent layer of which one result is read; with lengths, it runs over packed sequences."""

    def __init__(self, kind, read, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 4, batch_first=True, **options)
        self.read = read

    def forward(self, x, lengths=None):
        if lengths is not None:
            x = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
        output, states = self.rnn(x)
        if lengths is not None:
            output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        states = states[0] if isinstance(states, tuple) else states
        results = {
            "all": (output, states),
            "output": output,
            "last": states[-1],
            "both": torch.cat([states[-2], states[-1]], 1),
        }
        return results[self.read]


TWO, BOTH = {"num_layers": 2}, {"bidirectional": True}
RECURRENT = [
    ("LSTM", "output", {**TWO, "dropout": 0.3}, False),
    ("LSTM", "output", {**TWO, **BOTH, "dropout": 0.3}, False),
    ("LSTM", "both", {**TWO, **BOTH}, False),
    ("GRU", "all", {**TWO, **BOTH, "bias": False}, False),
    ("RNN", "last", {"num_layers": 3, "nonlinearity": "relu"}, False),
    ("LSTM", "output", TWO, True),
    ("LSTM", "output", BOTH, True),
    ("GRU", "all", {**TWO, **BOTH}, True),
    ("LSTM", "both", {**TWO, **BOTH}, True),
]


@pytest.mark.parametrize(("kind", "read", "options", "packed"), RECURRENT)
def test_recurrent_layers_on_top_of_each_other_are_one(kind, read, options, packed):
    torch.manual_seed(0)
    model, x = Recurrent(kind, read, **options).eval(), torch.randn(3, 7, 5)
    inputs = (x, torch.tensor([7, 3, 5])) if packed else x
    back = there_and_back.to_keras_and_back(model, inputs)
    assert not there_and_back.state_differences(model, back.model)
    assert back.source.count(f"nn.{kind}(") == 1
    if packed and "num_layers" in options:
        assert "x, lengths.cpu(), batch_first=True" in back.source
    if packed and read != "both":
        assert "[:, : lengths.max()]" in back.source
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x, sublayer):
        return x + sublayer(self.norm(x))


class Sublayers(nn.Module):
    """Modules and functions that are handed to modules."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(12, 6)
        self.feed = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 6))
        self.residuals = nn.ModuleList([Residual() for _ in range(2)])

    def forward(self, x, context):
        x = self.residuals[0](x, lambda y: self.mix(torch.cat([y, context], -1)))
        return self.residuals[1](x, self.feed)


def test_functions_that_are_handed_to_modules_stay_functions():
    model, inputs = seeded(Sublayers), (torch.randn(2, 6), torch.randn(2, 6))
    back = there_and_back.to_keras_and_back(model, inputs)
    assert_same_state(model, back.model)
    assert "def sublayer(y):" in back.source
    assert "sublayer=self.feed" in back.source
    ours, theirs = (there_and_back.outputs(m, inputs)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


class Rotary(nn.Module):
    """Tables that are no part of the state dict."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(6, 6)
        self.register_buffer("inv_freq", 3.7 ** -(torch.arange(6) / 6), persistent=False)
        self.register_buffer("scale", torch.rand(6))

    def forward(self, x):
        return torch.cos(self.proj(x) * self.inv_freq) * self.scale


def test_buffers_that_are_no_part_of_the_state_dict_stay_out_of_it():
    model, x = seeded(Rotary), torch.randn(4, 6)
    there = diglot.translate(model, x)
    back = diglot.translate(there.model, x.numpy(), to="torch")
    assert_same_state(model, back.model)
    assert torch.equal(back.model.inv_freq, model.inv_freq)
    assert {"source": "rotary.inv_freq", "why": "the program holds its numbers"} in (
        back.weight_map.unmapped
    )
    ours, theirs = (there_and_back.outputs(m, x)[0] for m in (model, back.model))
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


class Twice(nn.Module):
    """A batch norm that is called twice, and a number that is kept."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.register_buffer("offset", torch.tensor(0.0))

    def forward(self, a, b):
        return self.norm(self.linear(a)) - self.norm(self.linear(b)) + self.offset


def test_batches_are_not_counted_where_a_module_is_called_twice():
    model, inputs = seeded(Twice), (torch.randn(3, 4), torch.randn(3, 4))
    there = diglot.translate(model, inputs)
    assert "num_batches_tracked" not in there.source
    back = there_and_back.to_keras_and_back(model, inputs)
    assert_same_state(model, back.model)


class Signals(nn.Module):
    """Sequences with the channels first, in and out; no image among them."""

    def __init__(self):
        super().__init__()
        self.start, self.end = nn.Conv1d(2, 6, 3), nn.Conv1d(6, 4, 1)

    def forward(self, x, gate):
        return self.end(F.relu(self.start(x))), gate * 2


def test_inputs_and_outputs_lie_as_they_did():
    model, inputs = seeded(Signals), (torch.randn(3, 2, 11), torch.randn(3, 5, 6))
    back = there_and_back.to_keras_and_back(model, inputs)
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9
    assert "transpose" not in back.source


class Keyed(nn.Module):
    """Inputs and outputs by names, of which Keras makes an order of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(5, 4)

    def forward(self, picture, numbers):
        maps = self.conv(picture) + self.fc(numbers)[..., None, None]
        return {"maps": maps, "means": maps.mean((2, 3))}


def test_inputs_and_outputs_lie_as_they_did_by_their_names():
    inputs = {"picture": torch.randn(2, 3, 7, 9), "numbers": torch.randn(2, 5)}
    model = seeded(Keyed)
    back = there_and_back.to_keras_and_back(model, inputs)
    ours, theirs = (m(**inputs) for m in (model, back.model))
    for name in ("maps", "means"):
        torch.testing.assert_close(theirs[name], ours[name])


class Stepwise(nn.Module):
    """Recurrent cells, and a product of two inputs with weights between them."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(5, 6), nn.GRUCell(6, 6, bias=False)
        self.rnn = nn.RNNCell(6, 6, nonlinearity="relu")
        self.mix = nn.Bilinear(6, 6, 3)

    def forward(self, x, h, c):
        for step in range(3):
            h, c = self.lstm(x[:, step], (h, c))
        return self.mix(self.gru(h, c), self.rnn(c, h))


@pytest.mark.parametrize("style", ["layers", "functional"])
def test_cells_and_bilinear_layers_are_pytorchs_own_again(style):
    model, inputs = seeded(Stepwise), (torch.randn(2, 3, 5), torch.randn(2, 6), torch.randn(2, 6))
    back = there_and_back.to_keras_and_back(model, inputs, style)
    assert_same_state(model, back.model)
    assert "= self.lstm(x[:, 0], (h, c))" in back.source
    assert "nn.GRUCell(6, 6, bias=False)" in back.source
    assert 'nn.RNNCell(6, 6, nonlinearity="relu")' in back.source
    assert "nn.Bilinear(6, 6, 3)" in back.source
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9


ON_IMAGES = [
    'F.interpolate(x, size=(13, 7), mode="bilinear", align_corners=True)',
    'F.interpolate(x, scale_factor=1.7, mode="bilinear")',
    'F.interpolate(x, size=(5, 6), mode="bicubic")',
    "F.interpolate(x, size=(5, 6))",
    "F.adaptive_max_pool2d(x, (3, 2))",
    "F.pixel_unshuffle(x, 2)",
    "torch.channel_shuffle(x, 2)",
    'F.pad(x, (1, 2, 3, 1), mode="replicate")',
    'F.pad(x, (1, 2, 3, 1), mode="circular")',
    "torch.var(x, dim=(2, 3))",
    "F.group_norm(x, 2)",
    "F.mish(x)",
]
ON_SEQUENCES = [
    "torch.cosine_similarity(x, x.flip(0), dim=-1)",
    "torch.linalg.vector_norm(x, 3, dim=-1)",
    "x.topk(2, dim=1)[0]",
    "F.scaled_dot_product_attention(x, x, x)",
    "F.scaled_dot_product_attention(x, x, x, is_causal=True)",
]


class Says(nn.Module):
    """A layer, and what is written in a string."""

    def __init__(self, layer, said):
        super().__init__()
        self.layer, self.said = layer, said

    def forward(self, x):
        x = self.layer(x)
        return eval(self.said)


@pytest.mark.parametrize("said", [*ON_IMAGES, *ON_SEQUENCES])
def test_what_pytorch_says_in_one_call_comes_back_as_that(said):
    torch.manual_seed(0)
    images = said in ON_IMAGES
    x = torch.randn(2, 4, 8, 10) if images else torch.randn(2, 3, 5, 8)
    model = Says(nn.Conv2d(4, 4, 1) if images else nn.Linear(8, 8), said).eval()
    back = there_and_back.to_keras_and_back(model, x)
    assert said in back.source
    assert_same_state(model, back.model)
    ours, theirs = (there_and_back.outputs(m, x) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9


class Offsets(nn.Module):
    """A table of whole numbers, and a pool that is an item of a sequence."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offsets", torch.tensor([0, 7, 16]))
        self.embedding = nn.Embedding(21, 6)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1), nn.ReLU())

    def forward(self, ids, images):
        return self.embedding(ids + self.offsets).sum(1), self.pool(images)


def test_tables_of_whole_numbers_and_pools_in_sequences():
    inputs = (torch.randint(0, 5, (4, 3)), torch.randn(4, 2, 5, 7))
    model = seeded(Offsets)
    back = there_and_back.to_keras_and_back(model, inputs)
    assert_same_state(model, back.model)
    assert back.model.offsets.dtype == torch.int64
    assert "nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 3, 1), nn.ReLU())" in back.source
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9
