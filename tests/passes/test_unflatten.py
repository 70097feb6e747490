"""Features of a Linear that become feature maps: the Linear's columns are turned, nothing is transposed."""

import numpy as np
import pytest
import torch
from torch import nn

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class Project(nn.Module):
    """A Linear with what usually follows it, in a module of its own."""

    def __init__(self, norm):
        super().__init__()
        self.fc = nn.Linear(5, 4 * 3 * 2)
        self.norm = norm

    def forward(self, z):
        return torch.relu(self.norm(self.fc(z)))


class Decoder(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.project = Project(norm)
        self.up = nn.ConvTranspose2d(4, 2, 3, stride=2)

    def forward(self, z):
        return self.up(self.project(z).view(-1, 4, 3, 2))


class Encoder(nn.Module):
    """Hands flattened maps on to another module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return torch.flatten(torch.relu(self.conv(x)), 1)


class Autoencoder(nn.Module):
    """The same Linear takes turned rows and gives turned columns."""

    def __init__(self):
        super().__init__()
        self.encode = Encoder()
        self.middle = nn.Linear(4 * 3 * 2, 6 * 3 * 4)
        self.decode = nn.Sequential(
            nn.LeakyReLU(), nn.Unflatten(1, (6, 3, 4)), nn.Conv2d(6, 2, 3, padding=1)
        )

    def forward(self, x):
        return self.decode(self.middle(self.encode(x)))


class Generator(nn.Module):
    """Noise as maps of one pixel."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(5, 3, 4)

    def forward(self, z):
        return self.up(z.view(-1, 5, 1, 1))


class ReadTwice(nn.Module):
    """The features are returned, too: they keep PyTorch's order."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 4 * 3 * 2)
        self.conv = nn.Conv2d(4, 2, 2)

    def forward(self, z):
        z = self.fc(z)
        return z, self.conv(z.view(-1, 4, 3, 2))


NORMS = {
    "none": nn.Identity,
    "batch": lambda: nn.BatchNorm1d(24),
    "layer": lambda: nn.LayerNorm(24),
}


@pytest.mark.parametrize("norm", NORMS)
def test_the_columns_of_the_linear_are_turned(norm):
    """The bias and the norm's weights with them; and back: what is trained in Keras fits PyTorch again."""
    translation = diglot.translate(Decoder(NORMS[norm]()), torch.randn(3, 5))
    assert "transpose(" not in translation.source
    assert norm == "none" or diglot.prove(translation).verdict == "proven"
    state = {k: v.numpy() for k, v in translation.source_model.state_dict().items()}
    target = translation.weight_map.apply(state)
    back = translation.weight_map.invert(target, {k: np.zeros_like(v) for k, v in state.items()})
    assert all(np.array_equal(back[name], state[name]) for name in back)


def test_the_same_linear_may_take_a_flatten_and_give_maps():
    """Its rows and its columns are turned; what the encoder hands on is compared with nothing."""
    translation = diglot.translate(Autoencoder(), torch.randn(3, 2, 5, 4))
    assert "transpose(" not in translation.source
    assert diglot.prove(translation).verdict == "proven"


def test_maps_of_one_pixel_are_only_reshaped():
    model, z = Generator().eval(), torch.randn(3, 5)
    translation = diglot.translate(model, z)
    assert "transpose(" not in translation.source
    gap = translation.model(z.numpy()) - model(z).detach().permute(0, 2, 3, 1).numpy()
    assert np.abs(gap).max() < 1e-5


def test_features_that_others_read_keep_their_order():
    model, z = ReadTwice().eval(), torch.randn(3, 5)
    translation = diglot.translate(model, z)
    assert "ops.transpose(" in translation.source
    for got, expected, turn in zip(
        translation.model(z.numpy()), model(z), (False, True), strict=True
    ):
        expected = expected.detach().permute(0, 2, 3, 1) if turn else expected.detach()
        assert np.abs(got - expected.numpy()).max() < 1e-5
