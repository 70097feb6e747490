"""The claims of document 003: frameworks for document classification."""

from __future__ import annotations

from diglot.benchmark.claims.evidence import Evidence, ratios
from diglot.benchmark.claims.record import Claim, Finding, Verdict, by_share
from diglot.errors import BadInput

COMPARABLE = 1.5
_BGE = "BAAI/bge-large-en-v1.5"


def is_comparable(ratio: float) -> bool:
    """Within a factor of 1.5 either way."""
    return 1 / COMPARABLE <= ratio <= COMPARABLE


def _comparable(evidence: Evidence, figures: tuple[str, ...]) -> Finding:
    """Whether Keras and PyTorch are comparable in `figures`, over all pairs."""
    measured = {name: ratios(evidence.comparison, name) for name in figures}
    found = [ratio for part in measured.values() for ratio in part.values()]
    if not found:
        return Finding(Verdict.unmeasured, "No pair could be measured.")
    labels = {
        name: values["label"]
        for pair in evidence.comparison.values()
        for name, values in pair["figures"].items()
    }
    parts = [
        f"{labels[name]}: " + ", ".join(f"{pair} {ratio:.2f}" for pair, ratio in part.items())
        for name, part in measured.items()
        if part
    ]
    good = sum(map(is_comparable, found))
    reason = (
        f"Keras's through PyTorch's, {good} of {len(found)} within a factor of {COMPARABLE}. "
        f"{'; '.join(parts)}."
    )
    return Finding(by_share(good, len(found)), reason, measured)


def _width(evidence: Evidence) -> Finding:
    try:
        found = evidence.way("transformers_ways:hidden_size", needs="transformers", name=_BGE)
    except BadInput as error:
        reason = (
            f"The configuration of {_BGE} lies on the hub, which cannot be reached: {error.message}"
        )
        return Finding(Verdict.unmeasured, reason[:300])
    holds = found["hidden_size"] == 768
    reason = f"The configuration of {_BGE} says {found['hidden_size']}."
    return Finding(Verdict.holds if holds else Verdict.fails, reason, found)


def _training(evidence: Evidence) -> Finding:
    return _comparable(evidence, ("step",))


def _inference(evidence: Evidence) -> Finding:
    figures = ("latency_eager", "latency_compiled", "throughput_eager", "throughput_compiled")
    return _comparable(evidence, figures)


def _memory(evidence: Evidence) -> Finding:
    return _comparable(evidence, ("memory",))


def _utilisation(evidence: Evidence) -> Finding:
    evidence.gpu("torch")
    evidence.gpu("tensorflow")
    measured = {
        framework: evidence.way(f"gpu_ways:{framework}_utilisation", seconds=5.0)["percent"]
        for framework in ("torch", "keras")
    }
    verdict = by_share(sum(percent >= 90 for percent in measured.values()), len(measured))
    parts = [f"{framework} {percent:.0f} %" for framework, percent in measured.items()]
    reason = f"Median utilisation while training large Dense layers: {', '.join(parts)}."
    return Finding(verdict, reason, measured)


def _negligible(evidence: Evidence) -> Finding:
    return _comparable(evidence, ("step", "memory", "throughput_compiled"))


def _bridges(evidence: Evidence) -> Finding:
    found = evidence.way("transformers_ways:bridges", needs="transformers")
    missing = [name for name in ("TFAutoModel", "onnx_tf") if not found[name]]
    version = found["transformers"]
    if not found["TFAutoModel"]:
        onnx = "is installed" if found["onnx_tf"] else "is not installed, so it was not tried"
        reason = f"transformers {version} has no TFAutoModel any more; onnx_tf {onnx}."
        return Finding(Verdict.fails, reason, {**found, "missing": missing})
    verdict = Verdict.holds if not missing else Verdict.depends
    reason = f"transformers {version} has TFAutoModel; missing: {', '.join(missing) or 'nothing'}."
    return Finding(verdict, reason, found)


_COMPARED = "medians of every pair (zoo compare); comparable is within a factor of 1.5"

CLAIMS = (
    Claim(
        "C18",
        "003",
        "The features of bge-large-en-v1.5 are 768 wide.",
        "the model's own configuration, where the hub can be reached",
        _width,
    ),
    Claim("C19", "003", "Training is comparably fast.", f"time of a step: {_COMPARED}", _training),
    Claim(
        "C20",
        "003",
        "Inference on a CPU is comparably fast.",
        f"one example and batches, eager and compiled: {_COMPARED}",
        _inference,
    ),
    Claim(
        "C21",
        "003",
        "They use similar amounts of memory.",
        f"peak of a training process less its framework: {_COMPARED}",
        _memory,
    ),
    Claim(
        "C22",
        "003",
        "Both use a GPU excellently.",
        "utilisation while training large Dense layers, on a machine with a GPU",
        _utilisation,
    ),
    Claim(
        "C23",
        "003",
        "The difference is negligible for most uses.",
        f"time of a step, memory, compiled batches: {_COMPARED}",
        _negligible,
    ),
    Claim(
        "C24",
        "003",
        "Models migrate by way of onnx_tf, or with TFAutoModel(from_pt=True).",
        "whether what the recipe imports exists",
        _bridges,
    ),
)
