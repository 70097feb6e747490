"""The functional style: what needs the batch's size, layers on constants, a weight that two layers share."""

import json

import extras_text
import hugging_face
import keras
import numpy as np
import pytest
import torch
import torch_transformers
from torch import nn
from torch.nn import functional as F

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class ClassToken(nn.Module):
    """A class token in front of the patches, learned positions of a range, a state of zeros."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 6))
        self.position = nn.Embedding(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        token = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat([token, x], dim=1)
        ids = torch.arange(x.shape[1]).expand(x.shape[0], x.shape[1])
        state = torch.zeros(x.shape[0], 1, 6)
        return self.head(torch.cat([x + self.position(ids), state + 1], dim=1))


class Spread(nn.Module):
    """Expands another axis than the batch, and repeats a token for each item."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(2, 6))

    def forward(self, x):
        tokens = self.token.unsqueeze(0).repeat(x.shape[0], 1, 1)
        return torch.cat([tokens, x.mean(1, keepdim=True).expand(-1, 3, -1)], dim=1)


class TableOfMLP(nn.Module):
    """A bias that a small network makes of constant offsets, as Swin 2 does."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 6))
        self.register_buffer("offsets", torch.linspace(-1, 1, 5)[:, None], persistent=False)

    def forward(self, x):
        return x + self.net(self.offsets)


class WeightsAsInput(nn.Module):
    def forward(self, x, weights):
        return x * weights


class ConstantsOnTheLeft(nn.Module):
    """Operators whose first operand is no tensor of the model: a backend's own tensor knows none of Keras's."""

    def forward(self, x):
        steps = torch.arange(5.0)
        seen = (steps < x.sum(-1)) & (steps <= x.mean(-1) + 3)
        return torch.where(seen.unsqueeze(-1), steps[:, None] - x, 2 - x)


class Recurrent(nn.Module):
    """A block around an LSTM, whose first state is zeros for each item of the batch."""

    def __init__(self, width):
        super().__init__()
        self.rnn = nn.LSTM(width, 3, bias=False, batch_first=True, bidirectional=True)

    def forward(self, x):
        return torch.tanh(self.rnn(x)[0])


class Growing(nn.Module):
    """What a layer gives joins a list that the next one takes."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(Joined(width + 2 * i)) for i in range(3)])

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(layer(found))
        return torch.cat(found, -1)


class Joined(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.dense = nn.Linear(width, 2)

    def forward(self, found):
        return torch.relu(self.dense(torch.cat(found, -1)))


def small(make):
    return lambda: (make(), torch.randn(2, 5, 6))


def pair():
    return WeightsAsInput(), (torch.randn(2, 5, 6), torch.randn(2, 5, 6))


MODELS = {
    "class token": small(ClassToken),
    "spread": small(Spread),
    "network on constants": small(TableOfMLP),
    "an input called weights": pair,
    "constants on the left": small(ConstantsOnTheLeft),
    "recurrent blocks": small(lambda: nn.Sequential(Recurrent(6), Recurrent(6))),
    "growing lists": small(lambda: nn.Sequential(Growing(6), Growing(12))),
    "ViT": hugging_face.make_vit,
    "GPT": torch_transformers.make_gpt,
    "GPT-2": hugging_face.make_gpt2,
    "attention pooling": torch_transformers.make_attention_pooling,
    "tied": extras_text.make_tied,
    "tied by function": extras_text.make_tied_by_function,
}


@pytest.mark.parametrize("name", MODELS)
def test_functional_model(name, tmp_path):
    """The same as PyTorch for another batch, from a `.keras` file too; every weight is in the map."""
    module, inputs = MODELS[name]()
    module.eval()
    translation = diglot.translate(module, inputs, style="functional")
    structure = isinstance(inputs, dict)
    values = (
        list(inputs.values())
        if structure
        else list(inputs)
        if isinstance(inputs, tuple)
        else [inputs]
    )
    values = [torch.cat([v, v[:1]]) for v in values]  # a batch of three
    with torch.no_grad():
        expected = (
            module(**dict(zip(inputs, values, strict=True))) if structure else module(*values)
        )
    specs = translation.weight_map.inputs
    arrays = [s.to_target(v.numpy()) for s, v in zip(specs, values, strict=True)]
    given = (
        dict(zip(inputs, arrays, strict=True))
        if structure
        else arrays
        if len(arrays) > 1
        else arrays[0]
    )
    same(translation.model(given), expected)
    translation.model.save(tmp_path / "model.keras")
    same(keras.models.load_model(tmp_path / "model.keras")(given), expected)
    trainable = sum(p.numel() for p in module.parameters())
    assert sum(int(np.prod(w.shape)) for w in translation.model.trainable_weights) == trainable


def same(results, expected):
    """Compare the first result, to float32."""
    while isinstance(results, (list, dict)):
        results = next(iter(results.values())) if isinstance(results, dict) else results[0]
    while not torch.is_tensor(expected):
        expected = expected[0]
    np.testing.assert_allclose(np.asarray(results), expected.numpy(), 1e-3, 1e-5)


def test_a_tied_table_runs_both_ways():
    translation = diglot.translate(*extras_text.make_tied(), style="functional")
    assert not translation.weight_map.unmapped
    proof = diglot.prove(translation)
    assert proof, proof
    assert 'layers.ReversibleEmbedding(31, 10, name="embedding")' in translation.source
    assert "reverse=True" in translation.source


def test_a_layer_that_has_an_input_takes_constants_as_they_are():
    translation = diglot.translate(*torch_transformers.make_gpt(), style="functional")
    assert translation.source.count("Constant()(") == 1


class Steps(nn.Module):
    """Two products with weights of its own, one of them several times."""

    def __init__(self):
        super().__init__()
        self.read, self.again = (nn.Parameter(torch.randn(4, 4)) for _ in range(2))
        self.b, self.c = (nn.Parameter(torch.randn(4)) for _ in range(2))

    def forward(self, x):
        y, x = F.linear(x, self.read, self.b), torch.sin(x)
        for _ in range(3):
            x = torch.tanh(F.linear(x, self.again, self.c))
        return x + y


def test_a_modules_own_weights_are_a_layer_each_however_often_they_are_used():
    model = nn.Sequential(Steps(), nn.Linear(4, 3))
    translation = diglot.translate(model, torch.randn(2, 4), style="functional")
    assert diglot.prove(translation).verdict == "proven"
    assert translation.source.count("layers.Dense(") == 3


class Residual(nn.Module):
    """A scale of its own, a projection where the width changes."""

    def __init__(self, width_in, width, scale=None):
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.scale = nn.Parameter(torch.rand(width)) if scale is None else scale
        self.skip = nn.Linear(width_in, width) if width_in != width else nn.Identity()

    def forward(self, x):
        out = torch.relu(self.dense(x)) * self.scale
        return out + self.skip(x)


def tower(scale=None):
    blocks = [Residual(6, 5, scale), *(Residual(5, 5, scale) for _ in range(4)), Residual(5, 4)]
    return nn.Sequential(*blocks)


def test_a_block_that_is_repeated_is_a_function(tmp_path):
    translation = diglot.translate(tower(), torch.randn(2, 6), style="functional")
    source = translation.source
    assert source.count("def residual(x, width, has_skip, name):") == 1
    assert (
        'for i in range(1, 5):\n        x = residual(x, width=5, has_skip=False, name=f"n{i}")'
        in source
    )
    assert diglot.prove(translation)
    translation.save(tmp_path)
    record = json.loads((tmp_path / "translation.json").read_text())["classes"]
    lines = source.split("\n")
    assert [(c["target_class"], lines[c["target_lines"][0] - 1][:13]) for c in record] == [
        ("residual", "def residual(")
    ]
    assert len(record[0]["instances"]) == 6


def test_a_weight_that_blocks_share_is_held_once():
    scale = nn.Parameter(torch.rand(5))
    translation = diglot.translate(tower(scale), torch.randn(2, 6), style="functional")
    assert translation.source.count('_scale"') == 2  # that of the last block is its own
    assert diglot.prove(translation)


class Mask(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask = nn.Linear(5, 3)

    def forward(self, mask):
        return self.mask(mask).relu()


@pytest.mark.parametrize("style", ["layers", "functional"])
def test_an_input_a_layer_and_the_model_may_have_one_name(style):
    """Keras has each name once."""
    x = torch.randn(2, 5)
    model = Mask()
    made = diglot.translate(model, x, style=style)
    assert [t.name for t in made.model.inputs] == ["mask"]
    np.testing.assert_allclose(made.model(x.numpy()), model(x).detach().numpy(), atol=1e-6)
