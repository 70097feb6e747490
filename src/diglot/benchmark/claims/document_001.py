"""The claims of document 001: a small MLP on MNIST."""

from __future__ import annotations

from diglot.benchmark.claims.document_000 import same_scores
from diglot.benchmark.claims.evidence import Evidence
from diglot.benchmark.claims.record import Claim, Finding, Verdict


def _similar(evidence: Evidence) -> Finding:
    return same_scores(evidence, "001")


def _devices(evidence: Evidence) -> Finding:
    evidence.gpu("torch")
    evidence.gpu("tensorflow")
    measured = {
        "torch": evidence.way("gpu_ways:torch_device"),
        "keras": evidence.way("gpu_ways:keras_device"),
    }
    holds = measured["keras"]["gpu"] and not measured["torch"]["gpu"]
    reason = (
        f"A fresh layer's weights lie on {measured['keras']['device']} in Keras and on "
        f"{measured['torch']['device']} in PyTorch."
    )
    return Finding(Verdict.holds if holds else Verdict.fails, reason, measured)


def _graphs(evidence: Evidence) -> Finding:
    torch = evidence.way("torch_ways:calls_of_forward", steps=5)
    keras = evidence.way("keras_ways:calls_of_call", steps=5)
    eager, traced = keras["direct"], keras["fit"]
    holds = torch["calls"] == 5 and eager["calls"] == 5 and traced["calls"] < 5 and eager["values"]
    reason = (
        f"In 5 training steps PyTorch ran the model's Python code {torch['calls']} times, Keras's fit "
        f"{traced['calls']} times, to trace it; called directly, Keras ran it {eager['calls']} times."
    )
    verdict = Verdict.holds if holds else Verdict.fails
    return Finding(verdict, reason, {"torch": torch, "keras": keras})


CLAIMS = (
    Claim(
        "C6",
        "001",
        "Both frameworks achieve similar performance on MNIST.",
        "test scores of the document's pairs, medians over seeds (zoo compare)",
        _similar,
    ),
    Claim(
        "C7",
        "001",
        "Keras uses the GPU by itself; PyTorch must be told to.",
        "where a fresh layer's weights lie, on a machine with a GPU",
        _devices,
    ),
    Claim(
        "C8",
        "001",
        "TensorFlow 2 is eager by default with a static graph underneath; PyTorch's graph is dynamic.",
        "how often a model's Python code runs in five training steps",
        _graphs,
    ),
)
