"""Models that do something else in training than in evaluation: one program holds both."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from keras import layers, ops
from torch import nn

import diglot
from diglot.errors import BadInput

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class VAE(nn.Module):
    """Samples in training, takes the mean in evaluation; its decoder has batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(7, 6)
        self.decoder = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 7)
        )

    def reparameterize(self, mu, log_var):
        if self.training:
            std = torch.exp(0.5 * log_var)
            return mu + torch.randn_like(std) * std
        return mu

    def forward(self, x):
        mu, log_var = self.encoder(x).chunk(2, dim=1)
        z = self.reparameterize(mu, log_var)
        return self.decoder(z), mu, log_var


class Head(nn.Module):
    """Scores for the loss, probabilities for the user (detectors do so), by a layer that only they pass."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(5, 4)
        self.temperature = nn.Linear(4, 4)

    def forward(self, x):
        x = self.scores(x)
        if not self.training:
            x = torch.softmax(self.temperature(x), dim=-1)
        return x


class GaussianNoise(nn.Module):
    """Adds noise in training."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(5, 3)

    def forward(self, x):
        return self.scores(x + 0.3 * torch.randn_like(x) if self.training else x)


class Calibrated(nn.Module):
    """Weighs its results in evaluation, by numbers that training does not read."""

    def __init__(self):
        super().__init__()
        self.scores = nn.Linear(5, 3)

    def forward(self, x):
        x = self.scores(x)
        return x if self.training else x * torch.tensor([0.5, 2.0, 3.0])


class Detector(nn.Module):
    """Two of them."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([Head(), Head()])

    def forward(self, x):
        return torch.stack([head(x) for head in self.heads], dim=1)


class Helped(nn.Module):
    """With a layer that training alone calls: its weights are there before."""

    def __init__(self):
        super().__init__()
        self.first, self.helper = nn.Linear(5, 4), nn.Linear(4, 4)

    def forward(self, x):
        x = self.first(x)
        if self.training:
            x = x + self.helper(torch.tanh(x))
            x = x / (x * x).sum(-1, keepdim=True).sqrt()
        return x


class Centred(nn.Module):
    """Statistics of its own, gathered in training alone."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x):
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean(0))
            return x - x.mean(0)
        return x - self.mean


class Codebook(nn.Module):
    """Two tables of moving averages, one of them made of the other, without gradients."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4)
        self.register_buffer("count", torch.ones(6))
        self.register_buffer("codes", torch.randn(6, 4))

    def forward(self, x):
        z = self.linear(x)
        nearest = (z.unsqueeze(1) - self.codes).pow(2).sum(-1).argmin(1)
        chosen = self.codes[nearest]
        if self.training:
            with torch.no_grad():
                found = nn.functional.one_hot(nearest, 6).to(z.dtype)
                self.count.data.mul_(0.9).add_(found.sum(0), alpha=0.1)
                self.codes.lerp_(found.t() @ z / self.count.unsqueeze(1), 0.1)
        return z + (chosen - z).detach(), z - self.codes[0]


class Step(nn.Module):
    """One of a flow's."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        return torch.tanh(self.norm(self.linear(x)))


class Flow(nn.Module):
    """Runs its layers forwards in training, backwards in evaluation; what comes before and after is shared."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 3)
        self.steps = nn.ModuleList([Step() for _ in range(3)])

    def forward(self, x):
        x = self.first(x)
        for step in self.steps if self.training else reversed(self.steps):
            x = x + step(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("model", "size", "line"),
    [
        (VAE, 7, "if training"),
        (Detector, 5, "if training else "),
        (Calibrated, 5, "if training else "),
        (Helped, 5, " if training else "),
        (Centred, 5, "        if training:\n            self.mean.assign(self.mean * 0.9 + "),
        (Codebook, 5, "if training:"),
        (Flow, 5, "        else:\n            for step in reversed(self.steps):\n"),
    ],
    ids=["vae", "detector", "calibrated", "helped", "centred", "codebook", "flow"],
)
def test_both_modes_are_proven(model, size, line):
    """In evaluation and in training mode."""
    translation = diglot.translate(model(), torch.randn(4, size))
    assert line in translation.source
    assert "training=None" in translation.source
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.first_divergence
    assert {check.mode for check in proof.checks} == {"eval", "train"}


def test_the_modes_survive_a_folder(tmp_path):
    """The source that is saved beside the translation knows both modes, too."""
    diglot.translate(VAE(), torch.randn(4, 7)).save(tmp_path)
    assert diglot.prove(diglot.load(tmp_path)).verdict == "proven"


def test_a_program_in_memory_has_its_modes(tmp_path):
    """Its file is gone: what decides by ``self.training`` there cannot be read."""
    model = diglot.translate(GaussianNoise(), torch.randn(4, 5)).model
    there = diglot.translate(model, to="torch")
    assert "self.training" in there.source
    back = diglot.translate(there.model, torch.randn(4, 5))
    assert "if training" in back.source
    assert diglot.prove(back).verdict == "proven"


class Auxiliary(nn.Module):
    """A second result in training alone."""

    def __init__(self):
        super().__init__()
        self.main, self.auxiliary = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x):
        if self.training:
            return self.main(x), self.auxiliary(x)
        return self.main(x)


class Several(nn.Module):
    """Shortens its result in evaluation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x):
        x = self.linear(x)
        return x if self.training else x[:, :3]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Auxiliary, "returns 2 tensors in training, 1 in evaluation"),
        (Several, "its values differ in shape"),
    ],
)
def test_what_no_one_program_holds_is_refused(model, reason):
    """With the line that decides."""
    with pytest.raises(BadInput, match=reason) as refusal:
        diglot.translate(model(), torch.randn(4, 5))
    assert "test_modes.py:" in str(refusal.value)


class RealNVP(keras.Model):
    """Keras's own example of a normalizing flow; its second result is 0 in evaluation."""

    def __init__(self, count=2):
        super().__init__()
        self.count = count
        self.masks = np.array([[0, 1], [1, 0]] * (count // 2), dtype="float32")
        self.couplings = [self.coupling() for _ in range(count)]

    def coupling(self):
        x = keras.Input((2,))
        s, t = (layers.Dense(2)(layers.Dense(4, activation="tanh")(x)) for _ in range(2))
        return keras.Model(x, [s, t])

    def call(self, x, training=True):
        log_det, direction = 0, -1 if training else 1
        for i in range(self.count)[::direction]:
            masked, rest = x * self.masks[i], 1 - self.masks[i]
            s, t = self.couplings[i](masked)
            s *= rest
            gate = (direction - 1) / 2
            x = rest * (x * ops.exp(direction * s) + direction * t * ops.exp(gate * s)) + masked
            log_det += gate * ops.sum(s, axis=1)
        return x, log_det


def test_a_flow_of_keras_and_back():
    """Each mode a body of its own, both ways; the program is exported and compiled like any other."""
    model = RealNVP()
    model(np.zeros((2, 2), "float32"))
    there = diglot.translate(model, np.random.randn(4, 2).astype("float32"), to="torch")
    training, evaluation = there.source.split("        if self.training:")[1].split("        else:")
    order = ["self.couplings[1](", "self.couplings[0]("]
    assert training.index(order[0]) < training.index(order[1])
    assert evaluation.index(order[1]) < evaluation.index(order[0])
    proof = diglot.prove(there)
    assert proof.verdict == "proven", proof.first_divergence
    torch.export.export(there.model.train(), (torch.randn(3, 2),))
    back = diglot.translate(there.model, torch.randn(4, 2))
    assert "        if training:" in back.source
    assert diglot.prove(back).verdict == "proven"


class MonteCarlo(nn.Module):
    """Drops in evaluation as well, in the middle alone."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 40)

    def forward(self, x):
        x = nn.functional.dropout(self.linear(x), 0.2, self.training)
        x = nn.functional.dropout(x, 0.5)
        return nn.functional.dropout(x, 0.2, training=self.training)


def test_dropout_that_has_no_mode():
    """Monte Carlo dropout drops in evaluation, and there and back; it became a layer that does not."""
    there = diglot.translate(MonteCarlo(), torch.randn(3, 5))
    assert there.source.count("training=True") == 1
    x = np.ones((2, 5), "float32")
    assert not np.allclose(there.model(x), there.model(x))
    back = diglot.translate(there.model, x, to="torch")
    assert back.source.count("F.dropout(") == 1 and back.source.count("nn.Dropout(") == 2
    assert diglot.prove(back).verdict == "proven"


class Counter(keras.Model):
    """Counts its calls in a variable of TensorFlow's own."""

    def __init__(self):
        super().__init__()
        self.linear, self.count = layers.Dense(3), tf.Variable(0.0, trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return self.linear(x) / self.count


def test_variables_of_tensorflow_are_written_to():
    """And not those of the model that is read."""
    model = Counter()
    model(np.zeros((2, 5), "float32"))
    translation = diglot.translate(model, np.random.randn(3, 5).astype("float32"), to="torch")
    assert float(model.count) == 1.0
    assert "self.count = count\n" in translation.source
    assert diglot.prove(translation).verdict == "proven"
