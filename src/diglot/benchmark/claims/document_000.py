"""The claims of document 000: Transformers in PyTorch and in Keras."""

from __future__ import annotations

from typing import Any

from diglot.benchmark.claims.evidence import Evidence
from diglot.benchmark.claims.record import Claim, Finding, Verdict, by_share
from diglot.zoo.source import code_lines

SAME_SCORE = 0.02


def same_scores(evidence: Evidence, document: str) -> Finding:
    """Whether the two sides of every pair of a document end with the same test score."""
    pairs = {n: p for n, p in evidence.comparison.items() if p["document"] == document}
    if not pairs:
        reason = f"No pair of document {document} could be measured."
        return Finding(Verdict.unmeasured, reason)
    measured: dict[str, Any] = {}
    for name, pair in pairs.items():
        medians = {f: pair["figures"]["score"][f]["median"] for f in ("torch", "keras")}
        gap = abs(medians["torch"] - medians["keras"]) / max(map(abs, medians.values()))
        measured[name] = {"score": pair["score"], **medians, "gap": gap}
    verdict = by_share(sum(m["gap"] <= SAME_SCORE for m in measured.values()), len(measured))
    parts = [
        f"{name}: test {m['score']} {m['torch']:.4f} and {m['keras']:.4f}"
        for name, m in measured.items()
    ]
    reason = f"{'; '.join(parts)} (PyTorch, Keras; within {SAME_SCORE:.0%} is similar)."
    return Finding(verdict, reason, measured)


def _similar(evidence: Evidence) -> Finding:
    return same_scores(evidence, "000")


def _stable(evidence: Evidence) -> Finding:
    common = {"task": "copy", "steps": 60, "rate": 3e-3, "batch": 16, "features": 16, "length": 8}
    measured = {
        f"{norm}-norm, {layers} layers": evidence.way(
            "toy_training:train", **common, layers=layers, norm_first=norm == "pre"
        )["accuracy"]
        for layers in (2, 24)
        for norm in ("pre", "post")
    }
    shallow = measured["post-norm, 2 layers"] / measured["pre-norm, 2 layers"]
    deep = measured["post-norm, 24 layers"] / measured["pre-norm, 24 layers"]
    holds = deep < 0.5 < shallow
    parts = [f"{name} {value:.2f}" for name, value in measured.items()]
    reason = f"Accuracy after 60 steps of copying, without warm-up: {', '.join(parts)}."
    return Finding(Verdict.holds if holds else Verdict.fails, reason, measured)


def _concise(evidence: Evidence) -> Finding:
    from diglot.zoo import find_exhibit

    measured: dict[str, Any] = {}
    for pair in evidence.pairs:
        measured[pair.name] = [code_lines(pair.torch_source()), code_lines(pair.keras_source())]
    folder = find_exhibit("training-steps").folder
    files = ("torch_loop.py", "fit.py")
    measured["a training step"] = [
        code_lines((folder / file).read_text(encoding="utf-8")) for file in files
    ]
    verdict = by_share(sum(keras < torch for torch, keras in measured.values()), len(measured))
    parts = [f"{name} {torch} and {keras}" for name, (torch, keras) in measured.items()]
    reason = f"Lines of code in PyTorch and Keras: {'; '.join(parts)}."
    return Finding(verdict, reason, measured)


def _debugging(evidence: Evidence) -> Finding:
    torch = evidence.way("torch_ways:calls_of_forward", steps=5)
    keras = evidence.way("keras_ways:calls_of_call", steps=5)
    measured = {"torch": torch, "keras": keras}
    as_said = torch["values"] and not keras["fit"]["values"]
    escape = keras["eager_fit"]["values"] and keras["direct"]["values"]
    verdict = Verdict.fails
    if as_said:
        verdict = Verdict.depends if escape else Verdict.holds
    reason = (
        "While training, values inside the model can be looked at in PyTorch and, in Keras, "
        f"{'not' if as_said else 'also'} inside fit; with run_eagerly=True, and when the model is "
        f"called directly, they {'can' if escape else 'cannot'}."
    )
    return Finding(verdict, reason, measured)


def _positions(evidence: Evidence) -> Finding:
    measured = {
        kind: evidence.way("toy_training:train", task="reverse", steps=300, positions=kind)[
            "accuracy"
        ]
        for kind in ("learned", "sinusoidal", "none")
    }
    both = min(measured["learned"], measured["sinusoidal"])
    verdict = Verdict.holds if both > 0.95 > measured["none"] else Verdict.fails
    parts = [f"{kind} {value:.2f}" for kind, value in measured.items()]
    reason = f"Accuracy of reversing sequences of 12, by kind of positions: {', '.join(parts)}."
    return Finding(verdict, reason, measured)


CLAIMS = (
    Claim(
        "C1",
        "000",
        "The PyTorch and the Keras Transformer reach similar results.",
        "test scores of the document's pairs, medians over seeds (zoo compare)",
        _similar,
    ),
    Claim(
        "C2",
        "000",
        "Normalising before each sublayer is more stable in deep Transformers than after it.",
        "the same encoder of 2 and of 24 layers trained with both, on a copying task",
        _stable,
    ),
    Claim(
        "C3",
        "000",
        "Keras is more concise.",
        "lines of code of every pair's two models, and of a training step",
        _concise,
    ),
    Claim(
        "C4",
        "000",
        "PyTorch is easier to debug, since it runs eagerly; Keras defers to a graph.",
        "whether a model's code sees values, in each way of training",
        _debugging,
    ),
    Claim(
        "C5",
        "000",
        "Learned and sinusoidal positions are both effective.",
        "the same encoder with either, and with none, on reversing sequences",
        _positions,
    ),
)
