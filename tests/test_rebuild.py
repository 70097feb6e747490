"""Exported programs as ordinary modules again."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import Dim

from diglot.rebuild import rebuild
from diglot.sources import load_source

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs

AUTO = Dim.AUTO


class Block(nn.Module):
    def __init__(self, width, stride):
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(2 * width, eps=1e-3, momentum=0.3)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 1), Block(6, 2), nn.Dropout(0.3))
        self.norm = nn.LayerNorm(12)
        self.heads = nn.ModuleList([nn.Linear(12, 5), nn.Linear(12, 7, bias=False)])

    def forward(self, images, scale):
        x = self.norm(self.blocks(images).mean((2, 3))) * scale
        return {"first": self.heads[0](x), "second": F.gelu(self.heads[1](x))}


class Residual(nn.Module):
    """Calls what it is handed, as teaching code does."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x, layer):
        return x + layer(self.norm(x))


class Sibling(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(6, 6)
        self.residual = Residual()

    def forward(self, x):
        return self.residual(x, lambda y: self.dense(y))


INPUTS = {"images": torch.randn(2, 3, 12, 16), "scale": torch.randn(2, 12)}


def exported(training):
    net = Net().train(training)
    shapes = {"images": {0: AUTO}, "scale": {0: AUTO}}
    return net, torch.export.export(net, (), INPUTS, dynamic_shapes=shapes)


@pytest.mark.parametrize("training", [False, True])
def test_layers_are_themselves_again_with_their_names(training):
    net, program = exported(training)
    model = rebuild(program)
    assert type(model).__name__ == "Net" and type(model.blocks) is nn.Sequential
    block = model.blocks[1]
    assert type(block).__name__ == "Block"
    assert type(block) is type(model.blocks[0])
    assert (block.conv.stride, block.conv.bias, block.conv.in_channels) == ((2, 2), None, 6)
    assert (block.bn.eps, block.bn.momentum) == (1e-3, 0.3)
    assert block.act.negative_slope == 0.2
    assert model.heads[0].bias is not None
    counted = {key for key in net.state_dict() if "num_batches" not in key}
    assert {key for key in model.state_dict() if "num_batches" not in key} == counted


def test_it_computes_the_same_at_other_sizes():
    net, program = exported(False)
    model = rebuild(program)
    other = {"images": torch.randn(5, 3, 12, 16), "scale": torch.randn(5, 12)}
    expected, got = net(**other), model(**other)
    assert list(got) == ["first", "second"]
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value)


def test_a_module_that_calls_a_sibling_dissolves_into_its_caller():
    sibling = Sibling().eval()
    x = torch.randn(3, 6)
    model = rebuild(torch.export.export(sibling, (x,), dynamic_shapes=({0: AUTO},)))
    assert type(model.dense) is nn.Linear
    assert set(model.state_dict()) == set(sibling.state_dict())
    torch.testing.assert_close(model(x[:2]), sibling(x[:2]))


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    model = rebuild(torch.export.export(net, (torch.randn(2, 4),)))
    assert len(list(model.parameters())) == 3


def test_a_saved_program_translates_and_is_proven(tmp_path):
    import diglot

    _, program = exported(False)
    torch.export.save(program, tmp_path / "net.pt2")
    source = load_source(str(tmp_path / "net.pt2"))
    translation = diglot.translate(source.model, source.example_inputs, dynamic=source.dynamic)
    assert "class Block(" in translation.source and "Dense(5" in translation.source
    proof = diglot.prove(translation)
    assert proof, proof.first_divergence
