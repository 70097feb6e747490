"""Functional programs and sequences that came from PyTorch have their names there again."""

import importlib
from collections import OrderedDict

import pytest
import there_and_back
import torch
from marking import swept
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import diglot
from diglot.sources_keras import load_keras_source


def assert_nothing_is_lost(model, inputs, style="layers"):
    back = there_and_back.to_keras_and_back(model, inputs, style)
    assert not there_and_back.state_differences(model, back.model)
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9
    return back


FUNCTIONAL = [
    ("resnet.make", "self.layer2 = nn.Sequential("),
    ("extras.make_tuple_output", "self.units = nn.ModuleList("),
    ("extras.make_functional_style", 'self.register_buffer("threshold", '),
    ("extras_vision.make_patches", "self.cls_token = nn.Parameter("),
    ("hugging_face.make_bert", "self.layer = nn.ModuleList([BertLayer() for _ in range(2)])"),
    ("hugging_face.make_gpt2", "self.lm_head.weight = self.transformer.wte.weight"),
    ("teaching_transformer.make", "x = self.encoder(self.src_pos(self.src_embed(src)), src_mask)"),
    ("torch_transformers.make_gpt", "self.layers = nn.ModuleList("),
    ("unet.make", "x = self.up3(self.up2(self.up1(self.down3(down2), down2), down1), x)"),
    ("extras.make_called_twice", "return F.gelu(self.block(self.proj(x))) + x"),
    ("extras_vision.make_shuffle", "x = torch.cat([part_1, self.branch(part_2)], dim=1)"),
]


@pytest.mark.parametrize(("name", "held"), swept(FUNCTIONAL, {"teaching_transformer.make"}))
def test_a_functional_program_goes_back_to_the_names_of_its_source(name, held):
    module, _, function = name.rpartition(".")
    model, inputs = getattr(importlib.import_module(module), function)()
    assert held in assert_nothing_is_lost(model, inputs, "functional").source


SEQUENCES = {
    "a function": [nn.Embedding(9, 4), nn.Dropout(0.1), nn.Linear(4, 2), nn.LogSoftmax(-1)],
    "registered": [nn.Embedding(9, 4), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)],
    "nested": [nn.Sequential(nn.Embedding(9, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 2))],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_that_is_the_whole_model_keeps_its_numbers(name):
    model, ids = nn.Sequential(*SEQUENCES[name]).eval(), torch.randint(0, 9, (3, 5))
    assert "model = nn.Sequential(" in assert_nothing_is_lost(model, ids).source


PADS = [
    "nn.ZeroPad2d((1, 0, 2, 1))",
    "nn.ConstantPad2d(1, 0.5)",
    "nn.ReplicationPad2d((2, 1, 0, 1))",
]


@pytest.mark.parametrize("said", PADS)
def test_padding_in_a_sequence_is_of_its_own_kind(said):
    layers = [nn.Conv2d(3, 4, 3), eval(said), nn.Conv2d(4, 2, 1)]
    back = assert_nothing_is_lost(nn.Sequential(*layers).eval(), torch.randn(2, 3, 8, 11))
    assert said in back.source


class Places(nn.Module):
    """Lists in lists, and sequences that begin with a function or are left with one layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(4, 6))
        self.stages = nn.ModuleList(
            [nn.ModuleList([nn.Linear(6, 6) for _ in range(2)]) for _ in range(2)]
        )
        self.out = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.3))])

    def forward(self, x):
        x = self.embed(x * 2 + 1)
        for stage in self.stages:
            x = x + sum(F.relu(layer(x)) for layer in stage)
        return self.out[0](x)


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4, bias=False)


class Borrowed(nn.Module):
    """Weights of modules that are not called, of one name at the end."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Held(), Held()

    def forward(self, x):
        return x * self.first.norm.weight - x.square() * self.second.norm.weight


class Normed(nn.Module):
    """Convolutions of which direction and length are weights; each is held twice."""

    def __init__(self):
        super().__init__()
        self.conv1 = weight_norm(nn.Conv1d(4, 5, 2))
        self.conv2 = weight_norm(nn.Conv1d(5, 3, 2, dilation=2))
        self.net = nn.Sequential(self.conv1, nn.ReLU(), self.conv2)

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("style", ["layers", "functional"])
@pytest.mark.parametrize(
    ("made", "shape"), [(Places, (3, 5, 4)), (Borrowed, (3, 4)), (Normed, (2, 4, 11))]
)
def test_weights_have_their_places_again(made, shape, style):
    torch.manual_seed(0)
    model = made()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    assert_nothing_is_lost(model.eval(), torch.randn(shape), style)


def test_weights_of_one_name_at_the_end_are_two():
    model = Borrowed()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    there = diglot.translate(model, torch.randn(3, 4))
    assert "self.norm_weight = " in there.source
    assert "self.second_norm_weight = " in there.source
    assert diglot.prove(there, thorough=False, steps=1)


def test_a_functional_programs_file_is_read_with_the_map_beside_it(tmp_path):
    model = nn.Sequential(OrderedDict(first=nn.Linear(4, 5), act=nn.GELU(), last=nn.Linear(5, 2)))
    diglot.translate(model.eval(), torch.randn(3, 4), style="functional").save(tmp_path)
    source = load_keras_source(str(tmp_path / "model.keras"))
    back = diglot.translate(source.model, to="torch")
    assert not there_and_back.state_differences(model, back.model)


def test_a_module_that_two_names_hold_is_proven_with_weights_of_all_kinds():
    torch.manual_seed(0)
    back = there_and_back.to_keras_and_back(Normed().eval(), torch.randn(2, 4, 11))
    assert "self.conv1 = self.net[0]" in back.source
    proof = diglot.prove(back)
    assert proof, proof.first_divergence


class Gated(nn.Module):
    """Its last residual is computed, and nobody reads it."""

    def __init__(self):
        super().__init__()
        self.mixes, self.skips, self.residuals = (nn.ModuleList() for _ in range(3))
        for _ in range(3):
            self.mixes.append(nn.Linear(6, 5))
            self.skips.append(nn.Linear(5, 4))
            self.residuals.append(nn.Linear(5, 6))

    def forward(self, x):
        total = 0
        for mix, skip, residual in zip(self.mixes, self.skips, self.residuals, strict=True):
            h = torch.tanh(mix(x))
            total = total + skip(h)
            x = x + residual(h)
        return total


class GatedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.skip, self.residual = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(5, 6)

    def forward(self, x):
        h = torch.tanh(self.mix(x))
        return x + self.residual(h), self.skip(h)


class GatedBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([GatedBlock() for _ in range(3)])

    def forward(self, x):
        total = 0
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        return total


@pytest.mark.parametrize("make", [Gated, GatedBlocks])
def test_the_last_layer_of_a_list_comes_back_although_nobody_reads_what_it_gives(make):
    assert_nothing_is_lost(make(), torch.randn(3, 6))


@pytest.mark.parametrize("make", [Gated, GatedBlocks])
def test_in_a_graph_of_layers_it_is_no_part_of_the_model_and_named_as_left_behind(make):
    model, inputs = make(), torch.randn(3, 6)
    there = diglot.translate(model.eval(), inputs, style="functional")
    left = {item["source"] for item in there.weight_map.unmapped}
    assert left == {name for name in model.state_dict() if "2" in name and "residual" in name}
    assert diglot.prove(there).verdict == "proven"
