"""Small sequence models, each with something that real ones do and translators tend to miss."""

import torch
import torch.nn.functional as F
from randomise import seeded
from torch import nn


class TiedLanguageModel(nn.Module):
    """The output projection is the embedding matrix: one Parameter under two names."""

    def __init__(self, vocab_size, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.mix = nn.Linear(dim, dim)
        self.lm_head = nn.Linear(dim, vocab_size, bias=False)
        self.lm_head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.lm_head(torch.tanh(self.mix(self.embedding(tokens))))


@seeded
def make_tied():
    return TiedLanguageModel(31, 10), torch.randint(0, 31, (3, 7))


class TiedByFunction(nn.Module):
    """The output projection uses the embedding's weight through F.linear."""

    def __init__(self, vocab_size, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, tokens):
        hidden = self.embedding(tokens).mean(dim=1)
        return F.linear(hidden, self.embedding.weight, self.bias)


@seeded
def make_tied_by_function():
    return TiedByFunction(31, 10), torch.randint(0, 31, (3, 7))


class RMSNorm(nn.Module):
    """x / rms(x), computed in float32 whatever the input."""

    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        dtype = x.dtype
        x = x.float()
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.to(dtype)


class SwiGLU(nn.Module):
    """The gated feed-forward of LLaMA."""

    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def rotate(x):
    """Rotary positions for (batch, length, heads, dim)."""
    length, dim = x.shape[1], x.shape[-1]
    frequencies = 1.0 / 10000 ** (torch.arange(0, dim, 2).float() / dim)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    cos, sin = angles.cos()[None, :, None, :], angles.sin()[None, :, None, :]
    x1, x2 = x[..., 0::2], x[..., 1::2]
    return torch.stack((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).flatten(-2)


class RotaryAttention(nn.Module):
    """Causal attention with rotary positions and scaled_dot_product_attention."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x):
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.unbind(2)
        q, k = rotate(q).transpose(1, 2), rotate(k).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, dim))


class LlamaBlock(nn.Module):
    """RMSNorm, rotary attention, RMSNorm, SwiGLU, each with its residual."""

    def __init__(self, dim, heads, hidden_dim):
        super().__init__()
        self.attention_norm = RMSNorm(dim)
        self.attention = RotaryAttention(dim, heads)
        self.ffn_norm = RMSNorm(dim)
        self.feed_forward = SwiGLU(dim, hidden_dim)

    def forward(self, x):
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


@seeded
def make_llama_block():
    return LlamaBlock(24, 3, 40), torch.randn(2, 7, 24)


class SentenceEncoder(nn.Module):
    """Masked mean pooling and a unit-length result, as sentence embedders do."""

    def __init__(self, vocab_size, dim):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        self.dense = nn.Linear(dim, dim)

    def forward(self, input_ids, attention_mask):
        x = torch.tanh(self.dense(self.embedding(input_ids)))
        mask = attention_mask.unsqueeze(-1).expand(x.size()).float()
        pooled = torch.sum(x * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)
        return F.normalize(pooled, p=2, dim=1)


@seeded
def make_masked_mean():
    attention_mask = torch.ones(3, 7, dtype=torch.int64)
    attention_mask[2, 4:] = 0
    input_ids = torch.randint(0, 31, (3, 7))
    return SentenceEncoder(31, 10), {"input_ids": input_ids, "attention_mask": attention_mask}


class EinsumAttention(nn.Module):
    """Attention spelled with einsum, with a learned bias per head."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(dim, 2 * dim)
        self.head_bias = nn.Parameter(torch.randn(heads, 1, 1))
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x, context):
        b, n, d = x.shape
        q = self.to_q(x).reshape(b, n, self.heads, d // self.heads)
        k, v = self.to_kv(context).chunk(2, dim=-1)
        k = k.reshape(b, -1, self.heads, d // self.heads)
        v = v.reshape(b, -1, self.heads, d // self.heads)
        scores = torch.einsum("bihd,bjhd->bhij", q, k) * self.scale + self.head_bias
        attention = torch.softmax(scores, dim=-1)
        out = torch.einsum("bhij,bjhd->bihd", attention, v)
        return self.to_out(out.reshape(b, n, d))


@seeded
def make_einsum():
    return EinsumAttention(12, 3), (torch.randn(2, 5, 12), torch.randn(2, 7, 12))
