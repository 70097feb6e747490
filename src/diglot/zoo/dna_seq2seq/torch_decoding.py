"""Greedy and beam decoding, in PyTorch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from diglot.zoo.dna_seq2seq.torch_model import Transformer, causal_mask, padding_mask

PAD, SOS, EOS = 0, 5, 6


def next_logits(model: Transformer, memory: Tensor, src_mask: Tensor, tgt: Tensor) -> Tensor:
    """Logits (batch, vocab) of the token after tgt."""
    x = model.decode(memory, src_mask, tgt, padding_mask(tgt) & causal_mask(tgt))
    return model.project(x[:, -1])


@torch.no_grad()
def greedy(model: Transformer, src: Tensor, maxlen: int) -> Tensor:
    """Of each source (batch, length), the descendant that takes the likeliest token at every step."""
    model.eval()
    src_mask = padding_mask(src)
    memory = model.encode(src, src_mask)
    tgt = torch.full((len(src), 1), SOS)
    done = torch.zeros(len(src), dtype=torch.bool)
    while tgt.shape[1] <= maxlen and not done.all():
        token = next_logits(model, memory, src_mask, tgt).argmax(dim=-1)
        tgt = torch.cat([tgt, torch.where(done, PAD, token)[:, None]], dim=1)
        done |= token == EOS
    return tgt[:, 1:]


@torch.no_grad()
def beam(model: Transformer, src: Tensor, maxlen: int, width: int = 4) -> Tensor:
    """Of one source (length,), the likeliest descendant among the width best at every step."""
    model.eval()
    src_mask = padding_mask(src[None])
    memory = model.encode(src[None], src_mask)
    tgt, scores = torch.tensor([[SOS]]), torch.zeros(1)
    best, best_score = tgt[0], -torch.inf
    for _ in range(maxlen):
        # All beams are decoded as one batch that looks at the same source.
        logits = next_logits(model, memory.expand(len(tgt), -1, -1), src_mask, tgt)
        totals = scores[:, None] + F.log_softmax(logits, dim=-1)  # (beams, vocab)
        scores, index = totals.flatten().topk(min(width, totals.numel()))
        row, token = index // totals.shape[1], index % totals.shape[1]
        tgt = torch.cat([tgt[row], token[:, None]], dim=1)
        ended = token == EOS
        if ended.any() and scores[ended].max() > best_score:
            best, best_score = tgt[ended][0], scores[ended][0]  # topk sorts: the first is the best
        tgt, scores = tgt[~ended], scores[~ended]
        if not len(tgt) or scores[0] <= best_score:  # a longer sequence is never likelier
            break
    return (best if best_score > -torch.inf else tgt[0])[1:]
