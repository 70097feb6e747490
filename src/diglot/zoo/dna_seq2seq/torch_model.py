"""The encoder-decoder Transformer from scratch, in PyTorch."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAD = 0


class InputEmbeddings(nn.Module):
    """Token ids (batch, length) to vectors (batch, length, d_model), scaled by √d_model."""

    def __init__(self, d_model: int, vocab_size: int):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) * math.sqrt(self.d_model)


class PositionalEncoding(nn.Module):
    """Adds sinusoids, one wavelength for each pair of features: a fixed table, no parameter."""

    def __init__(self, d_model: int, seq_len: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(seq_len).unsqueeze(1)  # (seq_len, 1)
        frequency = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, seq_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * frequency)
        pe[0, :, 1::2] = torch.cos(position * frequency)
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.pe[:, : x.shape[1]])


class LayerNormalization(nn.Module):
    """Unlike nn.LayerNorm: the unbiased standard deviation, and eps added to it, outside the root."""

    def __init__(self, features: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        std = x.std(dim=-1, keepdim=True)
        return self.alpha * (x - mean) / (std + self.eps) + self.bias


class FeedForwardBlock(nn.Module):
    """Two linear layers, the same at every position."""

    def __init__(self, d_model: int, d_ff: int, dropout: float):
        super().__init__()
        self.linear_1 = nn.Linear(d_model, d_ff)
        self.dropout = nn.Dropout(dropout)
        self.linear_2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.dropout(F.relu(self.linear_1(x))))


class MultiHeadAttentionBlock(nn.Module):
    """Scaled dot-product attention in h heads; the weights of the last call stay in attention_scores."""

    def __init__(self, d_model: int, h: int, dropout: float):
        super().__init__()
        assert d_model % h == 0, "d_model is not divisible by h"
        self.h = h
        self.d_k = d_model // h
        self.w_q = nn.Linear(d_model, d_model, bias=False)
        self.w_k = nn.Linear(d_model, d_model, bias=False)
        self.w_v = nn.Linear(d_model, d_model, bias=False)
        self.w_o = nn.Linear(d_model, d_model, bias=False)
        self.dropout = nn.Dropout(dropout)

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, h, length, d_k)."""
        return x.unflatten(-1, (self.h, self.d_k)).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        query = self.split_heads(self.w_q(q))
        key = self.split_heads(self.w_k(k))
        value = self.split_heads(self.w_v(v))
        scores = query @ key.transpose(-2, -1) / math.sqrt(self.d_k)  # (batch, h, q, k)
        self.attention_scores = scores.masked_fill(~mask, -1e9).softmax(dim=-1)
        x = self.dropout(self.attention_scores) @ value  # (batch, h, q, d_k)
        return self.w_o(x.transpose(1, 2).flatten(2))


class ResidualConnection(nn.Module):
    """x + sublayer(norm(x)): pre-norm."""

    def __init__(self, features: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = LayerNormalization(features)

    def forward(self, x: Tensor, sublayer) -> Tensor:
        return x + self.dropout(sublayer(self.norm(x)))


class EncoderBlock(nn.Module):
    """Every position looks at all the others, both ways."""

    def __init__(self, d_model: int, h: int, d_ff: int, dropout: float):
        super().__init__()
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = nn.ModuleList(
            ResidualConnection(d_model, dropout) for _ in range(2)
        )

    def forward(self, x: Tensor, src_mask: Tensor) -> Tensor:
        x = self.residual_connections[0](x, lambda x: self.self_attention_block(x, x, x, src_mask))
        return self.residual_connections[1](x, self.feed_forward_block)


class Encoder(nn.Module):
    """A stack of EncoderBlocks; after pre-norm blocks a last norm is needed."""

    def __init__(self, num_layers: int, d_model: int, h: int, d_ff: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderBlock(d_model, h, d_ff, dropout) for _ in range(num_layers)
        )
        self.norm = LayerNormalization(d_model)

    def forward(self, x: Tensor, src_mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, src_mask)
        return self.norm(x)


class DecoderBlock(nn.Module):
    """Every position looks back at the target so far, then at the whole source."""

    def __init__(self, d_model: int, h: int, d_ff: int, dropout: float):
        super().__init__()
        self.self_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.cross_attention_block = MultiHeadAttentionBlock(d_model, h, dropout)
        self.feed_forward_block = FeedForwardBlock(d_model, d_ff, dropout)
        self.residual_connections = nn.ModuleList(
            ResidualConnection(d_model, dropout) for _ in range(3)
        )

    def forward(self, x: Tensor, memory: Tensor, src_mask: Tensor, tgt_mask: Tensor) -> Tensor:
        x = self.residual_connections[0](x, lambda x: self.self_attention_block(x, x, x, tgt_mask))
        x = self.residual_connections[1](
            x, lambda x: self.cross_attention_block(x, memory, memory, src_mask)
        )
        return self.residual_connections[2](x, self.feed_forward_block)


class Decoder(nn.Module):
    """A stack of DecoderBlocks and the last norm."""

    def __init__(self, num_layers: int, d_model: int, h: int, d_ff: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderBlock(d_model, h, d_ff, dropout) for _ in range(num_layers)
        )
        self.norm = LayerNormalization(d_model)

    def forward(self, x: Tensor, memory: Tensor, src_mask: Tensor, tgt_mask: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory, src_mask, tgt_mask)
        return self.norm(x)


class ProjectionLayer(nn.Module):
    """Vectors to logits over the vocabulary."""

    def __init__(self, d_model: int, vocab_size: int):
        super().__init__()
        self.proj = nn.Linear(d_model, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Transformer(nn.Module):
    """Source ids and the target ids so far to logits of the next one: (batch, target length, vocab)."""

    def __init__(
        self,
        vocab_size: int,
        seq_len: int,
        d_model: int = 512,
        num_layers: int = 6,
        h: int = 8,
        d_ff: int = 2048,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.src_embed = InputEmbeddings(d_model, vocab_size)
        self.tgt_embed = InputEmbeddings(d_model, vocab_size)
        self.src_pos = PositionalEncoding(d_model, seq_len, dropout)
        self.tgt_pos = PositionalEncoding(d_model, seq_len, dropout)
        self.encoder = Encoder(num_layers, d_model, h, d_ff, dropout)
        self.decoder = Decoder(num_layers, d_model, h, d_ff, dropout)
        self.projection_layer = ProjectionLayer(d_model, vocab_size)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def encode(self, src: Tensor, src_mask: Tensor) -> Tensor:
        return self.encoder(self.src_pos(self.src_embed(src)), src_mask)

    def decode(self, memory: Tensor, src_mask: Tensor, tgt: Tensor, tgt_mask: Tensor) -> Tensor:
        return self.decoder(self.tgt_pos(self.tgt_embed(tgt)), memory, src_mask, tgt_mask)

    def project(self, x: Tensor) -> Tensor:
        return self.projection_layer(x)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        src_mask, tgt_mask = padding_mask(src), padding_mask(tgt) & causal_mask(tgt)
        memory = self.encode(src, src_mask)
        return self.project(self.decode(memory, src_mask, tgt, tgt_mask))


def padding_mask(ids: Tensor) -> Tensor:
    """(batch, 1, 1, length): True where there is something to look at."""
    return (ids != PAD)[:, None, None, :]


def causal_mask(ids: Tensor) -> Tensor:
    """(length, length): True on and below the diagonal, so that nobody looks ahead."""
    position = torch.arange(ids.shape[1], device=ids.device)
    return position[:, None] >= position[None, :]


def build_model(**sizes) -> nn.Module:
    return Transformer(**sizes)


def loss_function(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over all tokens that are no padding."""
    losses = F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    return (losses * weights).sum() / weights.sum()
