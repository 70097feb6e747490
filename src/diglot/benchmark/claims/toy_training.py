"""A small Transformer encoder trained on small tasks, for claims about architectures."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays

_VOCABULARY = 8
_TASKS = {
    "copy": lambda tokens: tokens,
    "reverse": lambda tokens: tokens.flip(1),
    "following": lambda tokens: tokens.roll(-1, 1),
}


class Encoder(nn.Module):
    """Tokens (batch, length) -> logits (batch, length, vocabulary)."""

    def __init__(
        self,
        length: int,
        features: int,
        layers: int,
        norm_first: bool = True,
        positions: str = "sinusoidal",
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(_VOCABULARY, features)
        self.positions = nn.Embedding(length, features)
        if positions != "learned":
            table = sinusoids(length, features) if positions == "sinusoidal" else 0.0
            self.positions.weight.data[:] = table
            self.positions.weight.requires_grad_(False)
        block = nn.TransformerEncoderLayer(
            features, 4, 4 * features, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        norm = nn.LayerNorm(features) if norm_first else None
        self.blocks = nn.TransformerEncoder(block, layers, norm, enable_nested_tensor=False)
        for weight in self.blocks.parameters():  # the layers were copied with equal weights
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        self.output = nn.Linear(features, _VOCABULARY)
        self.causal = causal

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.tokens(tokens) + self.positions.weight[:length]
        mask = nn.Transformer.generate_square_subsequent_mask(length) if self.causal else None
        return self.output(self.blocks(x, mask=mask, is_causal=self.causal))


def sinusoids(length: int, features: int) -> Tensor:
    """Fixed positions (length, features): sines in even places, cosines in odd ones."""
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, features, 2) / features)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def train(
    arrays: Arrays,
    task: str,
    steps: int,
    rate: float = 3e-3,
    batch: int = 64,
    features: int = 32,
    length: int = 12,
    layers: int = 2,
    **kind: Any,
) -> Answer:
    """Train an Encoder with Adam from a fixed seed; gives its last loss and its accuracy on tokens
    that it has not seen. `task` is "copy", "reverse" or "following" (the token that comes next)."""
    torch.manual_seed(0)
    model = Encoder(length, features, layers, **kind)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(_VOCABULARY, (batch, length))
        logits = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), _TASKS[task](tokens).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tokens = torch.randint(_VOCABULARY, (512, length))
    with torch.no_grad():
        right = model(tokens).argmax(-1) == _TASKS[task](tokens)
    return {"loss": statistics.fmean(losses[-10:]), "accuracy": right.float().mean().item()}, {}


def changes_of_the_past(arrays: Arrays, causal: bool) -> Answer:
    """How much the outputs at earlier positions change when one more token is appended."""
    torch.manual_seed(0)
    model = Encoder(12, 32, 2, causal=causal).eval()
    tokens = torch.randint(_VOCABULARY, (1, 12))
    with torch.no_grad():
        change = (model(tokens)[:, :11] - model(tokens[:, :11])).abs().max()
    return {"change": change.item()}, {}
