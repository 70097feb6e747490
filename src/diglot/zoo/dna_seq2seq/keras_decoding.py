"""Greedy and beam decoding, in Keras."""

import numpy as np
from keras import ops

from diglot.zoo.dna_seq2seq.keras_model import causal_mask, padding_mask

PAD, SOS, EOS = 0, 5, 6


def next_logits(transformer, memory, src_mask, tgt):
    """Logits (batch, vocab) of the token after tgt."""
    x = transformer.decode(memory, src_mask, tgt, padding_mask(tgt) & causal_mask(tgt))
    return transformer.project(x[:, -1])


def greedy(model, src, maxlen):
    """Of each source (batch, length), the descendant that takes the likeliest token at every step."""
    transformer = model.get_layer("transformer")
    src_mask = padding_mask(src)
    memory = transformer.encode(src, src_mask)
    tgt = np.full((len(src), 1), SOS)
    done = np.zeros(len(src), dtype=bool)
    while tgt.shape[1] <= maxlen and not done.all():
        logits = next_logits(transformer, memory, src_mask, tgt)
        token = ops.convert_to_numpy(ops.argmax(logits, axis=-1))
        tgt = np.concatenate([tgt, np.where(done, PAD, token)[:, None]], axis=1)
        done |= token == EOS
    return tgt[:, 1:]


def beam(model, src, maxlen, width=4):
    """Of one source (length,), the likeliest descendant among the width best at every step."""
    transformer = model.get_layer("transformer")
    src_mask = padding_mask(src[None])
    memory = transformer.encode(src[None], src_mask)
    tgt, scores = np.array([[SOS]]), np.zeros(1, "float32")
    best, best_score = tgt[0], -np.inf
    for _ in range(maxlen):
        # All beams are decoded as one batch that looks at the same source.
        logits = next_logits(transformer, ops.repeat(memory, len(tgt), axis=0), src_mask, tgt)
        totals = scores[:, None] + ops.convert_to_numpy(ops.log_softmax(logits))  # (beams, vocab)
        index = np.argsort(-totals, axis=None, kind="stable")[:width]
        row, token = np.divmod(index, totals.shape[1])
        scores, tgt = totals[row, token], np.concatenate([tgt[row], token[:, None]], axis=1)
        ended = token == EOS
        if ended.any() and scores[ended].max() > best_score:
            best, best_score = tgt[ended][0], scores[ended][0]  # sorted: the first is the best
        tgt, scores = tgt[~ended], scores[~ended]
        if not len(tgt) or scores[0] <= best_score:  # a longer sequence is never likelier
            break
    return (best if best_score > -np.inf else tgt[0])[1:]
