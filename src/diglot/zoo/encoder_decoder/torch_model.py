"""An encoder-decoder Transformer, as T5: text in, text out, in PyTorch."""

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


class EncoderDecoderTransformer(nn.Module):
    """Predict each next token of a target from those before it and from the whole source."""

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
        self.embedding = nn.Embedding(vocab_size, d_model)  # source and target share it
        self.register_buffer("positions", sinusoids(max_length, d_model))
        self.dropout = nn.Dropout(dropout)
        sizes = (d_model, num_heads, d_ff, dropout)
        layer = nn.TransformerEncoderLayer(*sizes, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        layer = nn.TransformerDecoderLayer(*sizes, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, num_layers)
        self.output = nn.Linear(d_model, vocab_size)
        # The blocks are copies of one layer: without this they would all start alike.
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        # times sqrt(d_model): as large as the positions that are added
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * self.scale  # (batch, length, d_model)
        return self.dropout(x + self.positions[: tokens.shape[1]])

    def encode(self, source: Tensor) -> Tensor:
        return self.encoder(self.embed(source))  # (batch, source, d_model)

    def decode(self, memory: Tensor, target: Tensor) -> Tensor:
        length = target.shape[1]
        # True where a position (row) must not look: to the right of itself.
        future = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)
        x = self.decoder(self.embed(target), memory, tgt_mask=future)
        return self.output(x)  # (batch, target, vocab): logits

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(self.encode(source), target)


@torch.no_grad()
def generate(
    model: EncoderDecoderTransformer, source: Tensor, start: int, end: int, count: int
) -> Tensor:
    """The likeliest tokens, one after the other, after `start`: until `end` in each row, or `count`."""
    model.eval()
    memory = model.encode(source)  # once
    tokens = torch.full((len(source), 1), start, device=source.device)
    for _ in range(count):
        chosen = model.decode(memory, tokens)[:, -1].argmax(dim=-1, keepdim=True)
        tokens = torch.cat([tokens, chosen], dim=1)
        if (tokens == end).any(dim=1).all():
            break
    return tokens[:, 1:]


def build_model(**sizes) -> nn.Module:
    return EncoderDecoderTransformer(**sizes)


def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
    # (batch, target, vocab) and (batch, target): the mean over all tokens
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
