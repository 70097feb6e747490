"""An encoder-only Transformer, as BERT, with the two heads of its pretraining, in PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sinusoids(length: int, width: int) -> Tensor:
    """The fixed positions of "Attention is all you need": (length, width)."""
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = position * rate  # (length, width / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class EncoderOnlyTransformer(nn.Module):
    """A vector for each token, which knows the tokens on both sides of it."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        d_ff: int = 2048,
        max_length: int = 512,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.segment_embedding = nn.Embedding(2, d_model)
        self.register_buffer("positions", sinusoids(max_length, d_model))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(d_model, num_heads, d_ff, dropout, batch_first=True)
        norm = nn.LayerNorm(d_model)
        self.blocks = nn.TransformerEncoder(layer, num_layers, norm, enable_nested_tensor=False)
        # The blocks are copies of one layer: without this they would all start alike.
        for parameter in self.blocks.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        # times sqrt(d_model): as large as the positions that are added
        for embedding in (self.embedding, self.segment_embedding):
            nn.init.normal_(embedding.weight, std=d_model**-0.5)

    def forward(self, tokens: Tensor, segments: Tensor, padding: Tensor) -> Tensor:
        # tokens, segments and padding (True: no token) are (batch, length).
        x = (self.embedding(tokens) + self.segment_embedding(segments)) * self.scale
        x = self.dropout(x + self.positions[: tokens.shape[1]])  # (batch, length, d_model)
        return self.blocks(x, src_key_padding_mask=padding)


class MLMHead(nn.Module):
    """The logits of the word at each position: (batch, length, vocab)."""

    def __init__(self, d_model: int, vocab_size: int):
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.norm(F.gelu(self.dense(x))))


class Pretraining(nn.Module):
    """Which words were there, and whether the second sentence followed the first one."""

    def __init__(self, vocab_size: int, d_model: int = 512, **sizes):
        super().__init__()
        self.encoder = EncoderOnlyTransformer(vocab_size, d_model, **sizes)
        self.words = MLMHead(d_model, vocab_size)
        self.follows = nn.Linear(d_model, 2)

    def forward(self, tokens: Tensor, segments: Tensor, padding: Tensor) -> dict[str, Tensor]:
        x = self.encoder(tokens, segments, padding)
        # The first token of a row stands for all of it.
        return {"words": self.words(x), "follows": self.follows(x[:, 0])}


def build_model(**sizes) -> nn.Module:
    return Pretraining(**sizes)


def loss_function(
    outputs: dict[str, Tensor], targets: dict[str, Tensor], weights: dict[str, Tensor]
) -> Tensor:
    # Words count where they were hidden: weight 1, elsewhere 0.
    losses = F.cross_entropy(
        outputs["words"].flatten(0, 1), targets["words"].flatten(), reduction="none"
    )
    hidden = weights["words"].flatten()
    words = (losses * hidden).sum() / hidden.sum()
    return words + F.cross_entropy(outputs["follows"], targets["follows"])
