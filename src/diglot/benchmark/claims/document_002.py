"""The claims of document 002: three architectures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from diglot.benchmark.claims.evidence import Evidence
from diglot.benchmark.claims.record import Claim, Finding, Verdict

_MIB = 2**20
_ROUNDING = 0.02
_LENGTHS = [64, 128, 256, 512]
_SIZES: dict[str, dict[str, int]] = {
    "Bert": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12},
    "GPT2": {"n_layer": 12, "n_embd": 768, "n_head": 12},
    "T5": {"num_layers": 12, "d_model": 768, "d_ff": 3072, "num_heads": 12, "d_kv": 64},
}


def _parameters(architecture: str, millions: float) -> Any:
    def judge(evidence: Evidence) -> Finding:
        found = evidence.way(
            "transformers_ways:parameters",
            needs="transformers",
            architecture=architecture,
            sizes=_SIZES[architecture],
        )
        true = found["parameters"] / 1e6
        holds = abs(true - millions) / millions <= _ROUNDING
        reason = f"{found['parameters']:,}: {true:.0f}M, said to be {millions:g}M."
        return Finding(Verdict.holds if holds else Verdict.fails, reason, found)

    return judge


def _attention(evidence: Evidence) -> dict[str, Any]:
    return evidence.way(
        "torch_ways:attention_memory", batch=8, features=512, heads=8, lengths=_LENGTHS
    )


def _attention_bytes(evidence: Evidence) -> Finding:
    found = _attention(evidence)
    said = 8 * 512**2 * 4
    true, layer, square = (found[name][-1] for name in ("weights", "layer", "layer_square"))
    factor, share = true / said, square / layer
    holds = factor == 1.0
    reason = (
        f"The weights of one layer, 8 heads, batch 8, 512 tokens, take {true / _MIB:.0f} MiB, "
        f"{factor:g} times the {said / _MIB:.0f} MiB of the formula, which forgets the heads, and the "
        f"layers besides. Matrices of that shape are {share:.0%} of what an encoder layer keeps for "
        f"the backward pass; a fused attention keeps none of them "
        f"({found['fused'][-1] / _MIB:.0f} MiB in all against {found['explicit'][-1] / _MIB:.0f})."
    )
    return Finding(Verdict.holds if holds else Verdict.fails, reason, {**found, "share": share})


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The power of the length that `values` grow with: the slope of a line through the logarithms."""
    x, y = [math.log(n) for n in lengths], [math.log(v) for v in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def _quadratic(evidence: Evidence) -> Finding:
    found = _attention(evidence)
    measured = {
        name: exponent(found["lengths"], found[name])
        for name in ("weights", "explicit", "fused", "layer")
    }
    weights, fused = measured["weights"] > 1.95, measured["fused"] > 1.95
    verdict = Verdict.fails
    if weights:
        verdict = Verdict.holds if fused else Verdict.depends
    reason = (
        f"From {_LENGTHS[0]} to {_LENGTHS[-1]} tokens the attention weights grow with the length to "
        f"the power of {measured['weights']:.2f}, what a whole encoder layer keeps with "
        f"{measured['layer']:.2f}; what fused attention keeps with {measured['fused']:.2f}."
    )
    return Finding(verdict, reason, measured)


def _twice(evidence: Evidence) -> Finding:
    found = evidence.way(
        "torch_ways:stack_memory", features=512, heads=8, layers=6, batch=4, length=128
    )
    measured = {name: both / one for name, (one, both) in found.items()}
    holds = all(1.6 <= ratio <= 2.6 for ratio in measured.values())
    reason = (
        f"An encoder–decoder of 6 + 6 layers has {measured['parameters']:.2f} times the parameters of "
        f"an encoder of 6 and keeps {measured['kept']:.2f} times the bytes for the backward pass, "
        "embeddings apart (1.6 to 2.6 times counts as about twice)."
    )
    return Finding(Verdict.holds if holds else Verdict.fails, reason, measured)


def _directions(evidence: Evidence) -> Finding:
    past = {
        kind: evidence.way("toy_training:changes_of_the_past", causal=kind == "causal")["change"]
        for kind in ("bidirectional", "causal")
    }
    seen = {
        kind: evidence.way(
            "toy_training:train", task="following", steps=200, causal=kind == "causal"
        )["accuracy"]
        for kind in ("bidirectional", "causal")
    }
    generates = past["causal"] < 1e-5 < past["bidirectional"]
    understands = seen["bidirectional"] > seen["causal"] + 0.2
    verdict = Verdict.holds if generates and understands else Verdict.fails
    reason = (
        "A token that is appended changes the outputs before it by "
        f"{past['bidirectional']:.1g} in a bidirectional model and {past['causal']:.1g} in a causal "
        "one: only the latter can go on token by token with what it has computed. On labels that "
        f"depend on the next word they reach {seen['bidirectional']:.2f} and {seen['causal']:.2f}."
    )
    return Finding(verdict, reason, {"change of the past": past, "accuracy": seen})


def _objectives(evidence: Evidence) -> Finding:
    gaps = evidence.way("transformers_ways:objectives", needs="transformers")
    holds = all(gap < 1e-5 for gap in gaps.values())
    parts = [f"{name} {gap:.1g}" for name, gap in gaps.items()]
    reason = (
        "The models' own losses less those of their objectives, computed by hand: "
        f"{', '.join(parts)}. (Which spans T5's texts leave out is its data's business.)"
    )
    return Finding(Verdict.holds if holds else Verdict.fails, reason, gaps)


def _temperature(evidence: Evidence) -> Finding:
    temperatures = [0.2, 0.7, 1.0, 2.0]
    tokens = evidence.way("torch_ways:greedy", temperatures=temperatures, steps=30)["tokens"]
    same = all(row == tokens[0] for row in tokens)
    varied = len(set(tokens[0]))
    reason = (
        f"30 tokens ({varied} different ones) chosen greedily at temperatures "
        f"{', '.join(map(str, temperatures))} are {'the same' if same else 'different'}."
    )
    return Finding(Verdict.holds if same else Verdict.fails, reason, {"tokens": tokens})


_META = "its parameters, built on the meta device from transformers' configuration"

CLAIMS = (
    Claim("C9", "002", "BERT-base has 110M parameters.", _META, _parameters("Bert", 110)),
    Claim("C10", "002", "GPT-2 has 117M parameters.", _META, _parameters("GPT2", 117)),
    Claim("C11", "002", "T5-base has 220M parameters.", _META, _parameters("T5", 220)),
    Claim(
        "C12",
        "002",
        "Attention takes batch · length² · 4 bytes, the dominant part of the memory.",
        "the real tensors of a layer of 8 heads, and what autograd keeps of it",
        _attention_bytes,
    ),
    Claim(
        "C13",
        "002",
        "Attention's memory is quadratic in the length.",
        "the exponent fitted to bytes at four lengths",
        _quadratic,
    ),
    Claim(
        "C14",
        "002",
        "An encoder–decoder takes about twice the memory of one stack.",
        "parameters, and what autograd keeps, of 6 + 6 layers against 6",
        _twice,
    ),
    Claim(
        "C15",
        "002",
        "Encoder-only models cannot generate; decoder-only ones understand less efficiently.",
        "whether appending a token changes the past; the same model with either mask on labels that "
        "depend on what follows",
        _directions,
    ),
    Claim(
        "C16",
        "002",
        "BERT learns masked words and next sentences, GPT the next word, T5 text to text.",
        "the loss of each model of transformers against its objective computed by hand",
        _objectives,
    ),
    Claim(
        "C17",
        "002",
        "Temperature has no effect on greedy decoding.",
        "greedy tokens of one model at four temperatures",
        _temperature,
    ),
)
