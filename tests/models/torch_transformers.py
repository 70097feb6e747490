"""Transformers assembled from the layers of torch.nn: encoder-only, decoder-only and both."""

import math

import torch
from randomise import seeded
from torch import nn


class PositionalEncoding(nn.Module):
    """Adds fixed sinusoids to (batch, length, d_model), then drops out."""

    def __init__(self, d_model, max_len=512, dropout=0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return self.dropout(x + self.pe[:, : x.size(1)])


class EncoderOnlyTransformer(nn.Module):
    """Token ids (batch, length) and a padding mask (True = ignore) to logits per token."""

    def __init__(
        self,
        vocab_size,
        d_model=512,
        nhead=8,
        num_layers=6,
        dim_feedforward=2048,
        max_len=512,
        dropout=0.1,
        activation="relu",
        norm_first=False,
    ):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.pos_encoder = PositionalEncoding(d_model, max_len, dropout)
        layer = nn.TransformerEncoderLayer(
            d_model,
            nhead,
            dim_feedforward,
            dropout,
            activation=activation,
            batch_first=True,
            norm_first=norm_first,
        )
        self.transformer = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, src, src_key_padding_mask=None):
        x = self.embedding(src) * math.sqrt(self.d_model)
        x = self.pos_encoder(x)
        x = self.transformer(x, src_key_padding_mask=src_key_padding_mask)
        return self.head(self.norm(x))


class DecoderOnlyTransformer(nn.Module):
    """A causal language model on nn.TransformerDecoder, which attends to its own input twice."""

    def __init__(
        self, vocab_size, d_model=512, nhead=8, num_layers=6, dim_feedforward=2048, max_len=512
    ):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab_size, d_model)
        self.pos_encoder = PositionalEncoding(d_model, max_len)
        layer = nn.TransformerDecoderLayer(d_model, nhead, dim_feedforward, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, num_layers)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, tokens):
        length = tokens.size(1)
        mask = torch.triu(torch.ones(length, length, device=tokens.device), diagonal=1).bool()
        x = self.embedding(tokens) * math.sqrt(self.d_model)
        x = self.pos_encoder(x)
        x = self.decoder(x, x, tgt_mask=mask, memory_mask=mask)
        return self.head(x)


class CausalLanguageModel(nn.Module):
    """A GPT: nn.TransformerEncoder, pre-norm, GELU, causal mask, learned positions."""

    def __init__(self, vocab_size, d_model, nhead, num_layers, dim_feedforward, max_len):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(max_len, d_model)
        self.dropout = nn.Dropout(0.1)
        layer = nn.TransformerEncoderLayer(
            d_model,
            nhead,
            dim_feedforward,
            dropout=0.1,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            layer, num_layers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False
        )
        self.lm_head = nn.Linear(d_model, vocab_size, bias=False)

    def forward(self, tokens):
        length = tokens.shape[1]
        positions = torch.arange(length, device=tokens.device)
        causal_mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        x = self.blocks(self.dropout(x), mask=causal_mask, is_causal=True)
        return self.lm_head(x)


class EncoderDecoderTransformer(nn.Module):
    """Source and target ids to target logits; positions equal to `pad_id` are padding."""

    def __init__(
        self,
        src_vocab_size,
        tgt_vocab_size,
        d_model=512,
        nhead=8,
        num_layers=6,
        dim_feedforward=2048,
        max_len=512,
        dropout=0.1,
        pad_id=0,
    ):
        super().__init__()
        self.d_model = d_model
        self.pad_id = pad_id
        self.src_embedding = nn.Embedding(src_vocab_size, d_model)
        self.tgt_embedding = nn.Embedding(tgt_vocab_size, d_model)
        self.pos_encoder = PositionalEncoding(d_model, max_len, dropout)
        encoder_layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, batch_first=True
        )
        decoder_layer = nn.TransformerDecoderLayer(
            d_model, nhead, dim_feedforward, dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(encoder_layer, num_layers, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder_layer, num_layers)
        self.fc_out = nn.Linear(d_model, tgt_vocab_size)

    def encode(self, src, src_padding_mask):
        src = self.pos_encoder(self.src_embedding(src) * math.sqrt(self.d_model))
        return self.encoder(src, src_key_padding_mask=src_padding_mask)

    def forward(self, src, tgt):
        src_padding_mask = src == self.pad_id
        size = tgt.size(1)
        tgt_mask = torch.triu(torch.ones(size, size, device=tgt.device), diagonal=1) == 1
        memory = self.encode(src, src_padding_mask)
        tgt = self.pos_encoder(self.tgt_embedding(tgt) * math.sqrt(self.d_model))
        output = self.decoder(
            tgt, memory, tgt_mask=tgt_mask, memory_key_padding_mask=src_padding_mask
        )
        return self.fc_out(output)


class SequenceFirstTransformer(nn.Module):
    """nn.Transformer whole, with the length as the first axis (its default)."""

    def __init__(self, d_model, nhead, num_layers, dim_feedforward):
        super().__init__()
        self.transformer = nn.Transformer(
            d_model, nhead, num_layers, num_layers, dim_feedforward, dropout=0.1
        )

    def forward(self, src, tgt):
        tgt_mask = self.transformer.generate_square_subsequent_mask(tgt.size(0), src.device)
        return self.transformer(src, tgt, tgt_mask=tgt_mask)


class AttentionPooling(nn.Module):
    """nn.MultiheadAttention on its own: one learned query reads keys of another width."""

    def __init__(self, features, embed_dim, num_heads, num_classes):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.attention = nn.MultiheadAttention(
            embed_dim, num_heads, kdim=features, vdim=features, batch_first=True
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.fc = nn.Linear(embed_dim, num_classes)

    def forward(self, x, padding_mask):
        query = self.query.expand(x.size(0), -1, -1)
        pooled, weights = self.attention(query, x, x, key_padding_mask=padding_mask)
        return self.fc(self.norm(pooled.squeeze(1))), weights


def _tokens(vocab, batch, length):
    """Ids (batch, length), the last row padded with zeros from two before the end."""
    tokens = torch.randint(1, vocab, (batch, length))
    tokens[-1, length - 2 :] = 0
    return tokens


@seeded
def make_encoder_only():
    """Post-norm, relu, with a padding mask."""
    model = EncoderOnlyTransformer(37, 24, 4, 2, 40, max_len=29)
    src = _tokens(37, 3, 7)
    return model, {"src": src, "src_key_padding_mask": src == 0}


@seeded
def make_encoder_only_norm_first():
    """Pre-norm, GELU, without a mask."""
    model = EncoderOnlyTransformer(37, 24, 4, 2, 40, max_len=29, activation="gelu", norm_first=True)
    return model, _tokens(37, 3, 7)


@seeded
def make_decoder_only():
    return DecoderOnlyTransformer(37, 24, 4, 2, 40, max_len=29), _tokens(37, 3, 7)


@seeded
def make_gpt():
    return CausalLanguageModel(37, 24, 4, 2, 40, 29), _tokens(37, 3, 7)


@seeded
def make_encoder_decoder():
    model = EncoderDecoderTransformer(31, 37, 24, 4, 2, 40, max_len=29)
    return model, (_tokens(31, 3, 7), _tokens(37, 3, 5))


@seeded
def make_sequence_first():
    model = SequenceFirstTransformer(24, 4, 1, 40)
    return model, (torch.randn(7, 3, 24), torch.randn(5, 3, 24))


@seeded
def make_attention_pooling():
    model = AttentionPooling(10, 24, 4, 6)
    padding_mask = torch.zeros(3, 7, dtype=torch.bool)
    padding_mask[2, 5:] = True
    return model, (torch.randn(3, 7, 10), padding_mask)


make = make_encoder_only
