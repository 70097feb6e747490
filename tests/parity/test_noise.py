"""Models that draw random numbers: translated, and compared with every draw at one fixed value."""

import pytest
import torch
from torch import nn

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs


class VAE(nn.Module):
    """The usual one: the reparameterisation draws its noise in ``forward``."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(7, 5)
        self.mu = nn.Linear(5, 3)
        self.log_var = nn.Linear(5, 3)
        self.decoder = nn.Linear(3, 7)

    def reparameterize(self, mu, log_var):
        std = torch.exp(0.5 * log_var)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        h = torch.relu(self.encoder(x))
        mu, log_var = self.mu(h), self.log_var(h)
        z = self.reparameterize(mu, log_var)
        return torch.sigmoid(self.decoder(z)), mu, log_var


def test_a_vae_is_proven():
    """Outputs, gradients (of ``log_var``, too) and training steps, the noise being the same on both sides."""
    translation = diglot.translate(VAE(), torch.randn(4, 7))
    assert "keras.random.normal(ops.shape(std), seed=self.seed_generator)" in translation.source
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.first_divergence


def test_a_vae_in_a_folder_is_proven(tmp_path):
    """So is the exported program that is saved beside the translation, gradients included."""
    diglot.translate(VAE(), torch.randn(4, 7)).save(tmp_path)
    proof = diglot.prove(diglot.load(tmp_path))
    assert proof.verdict == "proven", proof.first_divergence


def test_the_translation_really_draws():
    """Outside a proof two calls differ."""
    translation = diglot.translate(VAE(), torch.randn(4, 7))
    x = torch.randn(4, 7).numpy()
    first, second = (translation.model(x)[0] for _ in range(2))
    assert abs(first - second).numpy().max() > 1e-4


def test_noise_that_is_scaled_otherwise_is_found():
    """A planted fault: half the noise."""
    translation = diglot.translate(VAE(), torch.randn(4, 7))
    translation.source = translation.source.replace("eps * std", "eps * std * 0.5")
    assert diglot.prove(translation).verdict == "differs"
