"""A state that every call writes, in evaluation as in training: each comparison starts from the same."""

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
