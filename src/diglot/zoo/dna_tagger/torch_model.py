"""An encoder-only Transformer that tags every token, in PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAD = 0


class TokenAndPositionEmbedding(nn.Module):
    """Token ids (batch, length) to vectors (batch, length, embed_dim); positions are learned, too."""

    def __init__(self, maxlen: int, vocab_size: int, embed_dim: int):
        super().__init__()
        self.token_emb = nn.Embedding(vocab_size, embed_dim)
        self.pos_emb = nn.Embedding(maxlen, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device)
        return self.token_emb(x) + self.pos_emb(positions)


class MultiHeadAttention(nn.Module):
    """Self-attention with heads of any width: nn.MultiheadAttention can only divide embed_dim by them."""

    def __init__(self, num_heads: int, key_dim: int, embed_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, num_heads * key_dim)
        self.key = nn.Linear(embed_dim, num_heads * key_dim)
        self.value = nn.Linear(embed_dim, num_heads * key_dim)
        self.output = nn.Linear(num_heads * key_dim, embed_dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # (batch, length, heads * key_dim) -> (batch, heads, length, key_dim)
        query, key, value = (
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None])
        return self.output(x.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Attention and a feed-forward network, each followed by Norm(x + Sublayer(x)): post-norm."""

    def __init__(self, embed_dim: int, num_heads: int, ff_dim: int, rate: float = 0.1):
        super().__init__()
        self.att = MultiHeadAttention(num_heads, embed_dim, embed_dim)
        self.ffn1 = nn.Linear(embed_dim, ff_dim)
        self.ffn2 = nn.Linear(ff_dim, embed_dim)
        self.layernorm1 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.layernorm2 = nn.LayerNorm(embed_dim, eps=1e-6)
        self.dropout1 = nn.Dropout(rate)
        self.dropout2 = nn.Dropout(rate)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.layernorm1(x + self.dropout1(self.att(x, mask)))
        ffn_output = self.ffn2(F.relu(self.ffn1(x)))
        return self.layernorm2(x + self.dropout2(ffn_output))


class Tagger(nn.Module):
    """Token ids (batch, length), padded with PAD at the end, to logits (batch, length, vocab_size)."""

    def __init__(
        self,
        maxlen: int,
        vocab_size: int,
        embed_dim: int,
        num_heads: int,
        ff_dim: int,
        num_transformer_blocks: int,
        dropout_rate: float = 0.1,
    ):
        super().__init__()
        self.embedding = TokenAndPositionEmbedding(maxlen, vocab_size, embed_dim)
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, num_heads, ff_dim, dropout_rate)
            for _ in range(num_transformer_blocks)
        )
        self.classifier = nn.Linear(embed_dim, vocab_size)

    def forward(self, ancestor: Tensor) -> Tensor:
        mask = (ancestor != PAD)[:, None, :]  # (batch, 1, length): nobody attends to padding
        x = self.embedding(ancestor)
        for block in self.blocks:
            x = block(x, mask)
        return self.classifier(x)


def build_model(**sizes) -> nn.Module:
    return Tagger(**sizes)


def loss_function(outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over all tokens that are no padding."""
    losses = F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    return (losses * weights).sum() / weights.sum()
