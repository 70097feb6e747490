"""From everything found to the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diglot.parity import misread
from diglot.parity.proof import Proof
from diglot.parity.sensitivity import IN_TRAINING, MOVES

if TYPE_CHECKING:
    from diglot.parity.prover import Prover

_KEPT_EXACT = {
    "dot_product_attention": {
        "what": "scale of attention",
        "why": "on TensorFlow, Keras rounds the constant 1/sqrt(d) of attention to float32 even in "
        "float64; here it was kept in float64, which changes nothing in float32",
        "bound": 6e-8,
    },
    "gelu": {
        "what": "constants of GELU",
        "why": "TensorFlow rounds the constants of its GELU to float32 even in float64; here they "
        "were kept in float64, which changes nothing in float32",
        "bound": 5e-9,
    },
    "leaky_relu": {
        "what": "slope of leaky ReLU",
        "why": "TensorFlow rounds the slope of its leaky ReLU to float32 even in float64; here it was "
        "kept in float64, which changes nothing in float32",
        "bound": 6e-8,
    },
    "Rescaling": {
        "what": "numbers of Rescaling",
        "why": "on TensorFlow, Keras rounds the scale and the offset of a Rescaling layer to float32 even in "
        "float64; here they were kept in float64, which changes nothing in float32",
        "bound": 6e-8,
    },
    "conv": {
        "what": "convolutions in groups",
        "why": "on the CPU TensorFlow differentiates them only where they are compiled; here each was "
        "made of depthwise or ordinary ones, which add the same products up",
    },
}


def conclude(prover: Prover, first: dict[str, Any] | None) -> Proof:
    """Fill in the verdict, its reason, and the lists of what is explained or not compared."""
    proof, found = prover.proof, prover.found
    proof.first_divergence = first
    for module, why in found.module_reasons.items():
        if module not in found.compared_modules:
            prover.skip(f"output of {module or 'the root module'}", why)
    for layer, what in prover.info.get("losses", {}).items():
        why = "the program computes no loss: that is for whoever trains it"
        prover.skip(f"what {layer} does for training alone ({what})", why)
    proof.not_compared = [{"what": what, "why": why} for what, why in found.not_compared]
    proof.explained += [dict(_KEPT_EXACT[name]) for name in sorted(found.exact)]
    proof.explained += [dict(misread.EXPLAINED)] if prover.model.misread else []
    proof.explained += _biased(found.biased) + _rounding(found.rounding)
    # Figures of float32 decide nothing.
    compared = {check.kind for check in proof.checks if check.count and check.dtype != "float32"}
    sensitivity = proof.sensitivity.get("verdict", "")
    if found.failures:
        proof.verdict = "differs"
        proof.reason = _reason(prover)
    elif "outputs" not in compared:
        reasons = [*found.refusals, *(item["why"] for item in proof.not_compared)]
        why = f": {reasons[0]}" if reasons else ""
        proof.verdict, proof.reason = "unproven", f"no output could be compared{why}"
    elif not proof.sensitivity or sensitivity != MOVES:
        proof.verdict = "unproven"
        proof.reason = sensitivity or "it was not measured whether the outputs move"
    elif IN_TRAINING in proof.sensitivity and not _trained(proof):
        proof.verdict = "unproven"
        proof.reason = "an output moves in training mode alone, which was not compared"
    else:
        proof.verdict = "proven"
    return proof


def _trained(proof: Proof) -> bool:
    """Tell whether outputs were compared in training mode."""
    return any(c.kind == "outputs" and c.mode == "train" and c.count for c in proof.checks)


def _reason(prover: Prover) -> str:
    """What failed, in one sentence."""
    failures = prover.found.failures
    worst = max(failures, key=lambda failure: failure.gap.error)
    text = (
        f"{len(failures)} of {sum(check.count for check in prover.proof.checks)} comparisons are "
        f"beyond the tolerance; the greatest relative difference is {worst.gap.error:.1e} "
        f"({worst.gap.kind}, {worst.gap.where or worst.gap.what})"
    )
    return text + (f": {worst.gap.note}" if worst.gap.note else "")


def _biased(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One explanation for all running variances that are the biased estimate."""
    if not items:
        return []
    counts = sorted({item["values"] for item in items})
    return [
        {
            "what": "running variance of batch norm",
            "why": "after a training step PyTorch keeps the unbiased variance, Keras 3 the biased "
            "one: smaller by N/(N-1) for N values per channel, which was checked",
            "where": sorted({item["target"] for item in items}),
            "factors": {str(n): n / (n - 1) for n in counts},
            "error": max(item["error"] for item in items),
        }
    ]


def _rounding(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One explanation for all gaps that rounding alone accounts for."""
    if not items:
        return []
    worst = max(items, key=lambda item: item["error"])
    return [
        {
            "what": f"rounding in {len(items)} figures",
            "why": "PyTorch's own figures move as much when weights and inputs move by 1e-14 of "
            "their size, so the difference is rounding, blown up by the network",
            "where": sorted({item["what"] for item in items}),
            "error": worst["error"],
            "rounding": worst["rounding"],
        }
    ]
