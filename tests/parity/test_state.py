"""A state that every call writes, in evaluation as in training: each comparison starts from the same."""

import json

import pytest
import torch
from torch import nn

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class Follower(nn.Module):
    """Follows what it sees; its history is never cut."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.register_buffer("seen", torch.zeros(5))

    def forward(self, x):
        self.seen = 0.9 * self.seen + (self.linear(x) ** 2).mean(0)
        return self.linear(x) + self.seen


class Counted(nn.Module):
    """Binds its buffer anew in training, where no output depends on it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.register_buffer("seen", torch.ones(5))

    def forward(self, x):
        if self.training:
            self.seen = 0.9 * self.seen + 1.0
        return self.linear(x)


class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return x - self.mean


class Clipped(nn.Module):
    """Writes to a weight that trains, before it is read and with a count behind it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.calls = self.calls + 1.0
            with torch.no_grad():
                self.linear.weight.copy_(self.linear.weight / self.linear.weight.norm())
        return self.linear(x)


class Around(nn.Module):
    def __init__(self, *modules):
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x


class Cached(nn.Module):
    """Its table is bound anew in each call, as long as the sequence; one is registered there."""

    def __init__(self, registers):
        super().__init__()
        self.registers = registers
        self.register_buffer("rates", 0.5 ** torch.arange(6))
        if not registers:
            self.register_buffer("table", torch.ones(3, 6), persistent=False)

    def forward(self, x):
        table = torch.outer(torch.arange(x.shape[1]).float(), self.rates).cos()
        if self.registers:
            self.register_buffer("table", table, persistent=False)
        else:
            self.table = table
        return x * self.table


class Unsaved(nn.Module):
    """A state that no file holds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("hidden", torch.zeros(6), persistent=False)

    def forward(self, x):
        self.hidden = 0.5 * self.hidden + x.mean((0, 1)).detach()
        return x + self.hidden


@pytest.fixture(scope="module")
def translation():
    torch.manual_seed(0)
    return diglot.translate(Follower(), torch.randn(3, 6))


def test_a_state_that_calls_write_is_proven(translation):
    """Nothing is put down to rounding, no case is refused: a state left behind by the call before would do both."""
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.first_divergence
    outputs = [check for check in proof.checks if check.kind == "outputs"]
    assert len(outputs) == 13 and all(check.count for check in outputs)
    assert not proof.explained
    written = {check.mode for check in proof.checks if check.kind == "buffers" and check.count}
    assert written == {"eval", "train"}


def test_a_state_that_is_written_otherwise_is_found(translation, tmp_path):
    """Though it is zero at first."""
    translation.save(tmp_path)
    program = tmp_path / "model.py"
    assert program.read_text().count("* 0.9") == 1
    program.write_text(program.read_text().replace("* 0.9", "* 0.8"))
    proof = diglot.prove(diglot.load(tmp_path))
    assert proof.verdict == "differs"
    assert "random weights" in proof.first_divergence["where"]


@pytest.mark.parametrize(
    "module",
    [Around(Counted()), Around(Centred(), Centred()), Clipped(), Around(Clipped())],
    ids=["counted", "twice", "clipped", "clipped within"],
)
def test_what_parts_of_a_model_keep_is_kept(module):
    made = diglot.translate(module, torch.randn(3, 6))
    proof = diglot.prove(made)
    assert proof.verdict == "proven", proof.first_divergence
    kept = {name for name, _ in module.named_buffers()}
    assert kept <= {entry.sources[0] for entry in made.weight_map.entries}


@pytest.mark.parametrize("registers", [False, True], ids=["bound", "registered"])
def test_a_cache_is_no_state(registers):
    """Its sizes stay open, and translating leaves the model as it was."""
    module = Around(nn.Linear(6, 6), Cached(registers))
    before = dict(module.named_buffers())
    for _ in range(2):
        made = diglot.translate(module, torch.randn(3, 5, 6))
        assert {n: id(b) for n, b in module.named_buffers()} == {
            n: id(b) for n, b in before.items()
        }
    assert ".assign(" not in made.source and "ops.shape(x)[1]" in made.source
    assert diglot.prove(made)


def test_a_state_that_no_file_holds_is_one():
    made = diglot.translate(Around(nn.Linear(6, 6), Unsaved()), torch.randn(3, 5, 6))
    assert "self.hidden.assign(" in made.source
    assert diglot.prove(made)


def test_a_state_that_is_lost_is_found(tmp_path):
    """The file that a translation without it would be: nothing else of the model shows it."""
    made = diglot.translate(Around(Counted()), torch.randn(3, 6))
    made.save(tmp_path)
    folder = json.loads((tmp_path / "weight_map.json").read_text())
    folder["entries"] = [e for e in folder["entries"] if e["sources"] != ["parts.0.seen"]]
    (tmp_path / "weight_map.json").write_text(json.dumps(folder))
    proof = diglot.prove(diglot.load(tmp_path))
    assert proof.verdict == "differs"
    assert "a call changes it" in str(proof.first_divergence)


def test_a_call_that_ends_midway_leaves_no_trace():
    """PyTorch's batch norm cannot train on one value; those before it in the model have counted the call by then."""
    import keras
    from keras import layers

    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    x = layers.BatchNormalization()(layers.Dense(5)(layers.Flatten()(x)))
    proof = diglot.prove(diglot.translate(keras.Model(inputs, x), to="torch"), thorough=False)
    assert proof, str(proof)
