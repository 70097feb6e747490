"""A decoder-only Transformer, as GPT: a causal language model, in PyTorch."""

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


class DecoderOnlyTransformer(nn.Module):
    """Predict at each position the next token, from itself and those before it.

    In torch.nn a GPT is an *encoder* under a causal mask: the layers of nn.TransformerDecoder attend
    to a memory as well. With ``self_memory`` they do, and the memory is their own input.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        d_ff: int = 2048,
        max_length: int = 512,
        dropout: float = 0.1,
        self_memory: bool = False,
    ):
        super().__init__()
        self.scale = math.sqrt(d_model)
        self.self_memory = self_memory
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.register_buffer("positions", sinusoids(max_length, d_model))
        self.dropout = nn.Dropout(dropout)
        sizes = (d_model, num_heads, d_ff, dropout)
        if self_memory:
            layer = nn.TransformerDecoderLayer(*sizes, batch_first=True)
            self.blocks = nn.TransformerDecoder(layer, num_layers)
        else:
            layer = nn.TransformerEncoderLayer(*sizes, batch_first=True)
            self.blocks = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.output = nn.Linear(d_model, vocab_size)
        # The blocks are copies of one layer: without this they would all start alike.
        for parameter in self.blocks.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        # times sqrt(d_model): as large as the positions that are added
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = self.embedding(tokens) * self.scale  # (batch, length, d_model)
        x = self.dropout(x + self.positions[:length])
        # True where a position (row) must not look: to the right of itself.
        future = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        if self.self_memory:
            x = self.blocks(x, x, tgt_mask=future, memory_mask=future)
        else:
            x = self.blocks(x, mask=future)
        return self.output(x)  # (batch, length, vocab): logits

    def extend(self, tokens: Tensor, start: int, cache: dict) -> Tensor:
        """The logits of `tokens` (batch, new), which stand at `start` and after.

        `cache` holds every attention's keys and values of the positions before `start`, and grows by
        the new ones. They never change, since no position sees a later one: forward() would compute
        them again for each token that is generated.
        """
        end = start + tokens.shape[1]
        x = self.embedding(tokens) * self.scale + self.positions[start:end]
        seen = torch.ones(end - start, end, dtype=torch.bool, device=x.device).tril(start)
        memory = x
        for block in self.blocks.layers:
            x = block.norm1(x + attend(block.self_attn, x, x, seen, cache))
            if self.self_memory:
                x = block.norm2(x + attend(block.multihead_attn, x, memory, seen, cache))
            norm = block.norm3 if self.self_memory else block.norm2
            x = norm(x + block.linear2(F.relu(block.linear1(x))))
        return self.output(x)


def attend(
    attention: nn.MultiheadAttention, x: Tensor, source: Tensor, seen: Tensor, cache: dict
) -> Tensor:
    """What x (batch, new, d_model) sees of `source` and of the earlier sources in the cache."""
    query, key, value = (
        F.linear(part, weight, bias).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for part, weight, bias in zip(
            (x, source, source),
            attention.in_proj_weight.chunk(3),
            attention.in_proj_bias.chunk(3),
            strict=True,
        )
    )  # (batch, heads, new, d_model / heads)
    if attention in cache:
        earlier_key, earlier_value = cache[attention]
        key = torch.cat([earlier_key, key], dim=2)
        value = torch.cat([earlier_value, value], dim=2)
    cache[attention] = key, value
    x = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    return attention.out_proj(x.transpose(1, 2).flatten(2))


@torch.no_grad()
def generate(
    model: DecoderOnlyTransformer,
    tokens: Tensor,
    count: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    cached: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Put `count` tokens behind tokens (batch, length), one after the other; see `choose`."""
    longest = len(model.positions)
    if tokens.shape[1] + count > longest:
        raise ValueError(f"The model has positions for {longest} tokens in all.")
    model.eval()
    cache, start = {}, 0
    for _ in range(count):
        if cached:
            logits = model.extend(tokens[:, start:], start, cache)
            start = tokens.shape[1]
        else:
            logits = model(tokens)
        chosen = choose(logits[:, -1], temperature, top_k, top_p, generator)
        tokens = torch.cat([tokens, chosen], dim=1)
    return tokens


def choose(
    logits: Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token (batch, 1) for logits (batch, vocab): the likeliest at temperature 0, else a draw."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = likeliest(logits / temperature, top_k, top_p)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)


def likeliest(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """The logits with -inf for all but the top_k likeliest tokens, or but the fewest that together
    have the probability top_p."""
    if top_k is not None:
        least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p is not None:
        falling = logits.sort(descending=True).values
        probability = falling.softmax(dim=-1)
        before = probability.cumsum(dim=-1) - probability  # that of the likelier ones
        least = falling.masked_fill(before >= top_p, torch.inf).amin(dim=-1, keepdim=True)
        logits = logits.masked_fill(logits < least, -torch.inf)
    return logits


def build_model(**sizes) -> nn.Module:
    return DecoderOnlyTransformer(**sizes)


def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
    # (batch, length, vocab) and (batch, length): the mean over all tokens
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
