"""The claims of document 004: TensorFlow and Keras for the PyTorch-minded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diglot.benchmark.claims.evidence import Evidence
from diglot.benchmark.claims.record import Claim, Finding, Verdict, by_share

_EAGER = {"TensorFlow": "TensorFlow 2: eager", "PyTorch": "PyTorch: eager"}
_COMPILED = {
    "tf.function": ("TensorFlow 2: tf.function", "TensorFlow"),
    "XLA": ("TensorFlow 2: tf.function with XLA", "TensorFlow"),
    "torch.compile": ("PyTorch: torch.compile", "PyTorch"),
}
_MODES = {
    "tf.function": ("keras", "latency_compiled"),
    "XLA": ("keras", "latency_xla"),
    "torch.compile": ("torch", "latency_compiled"),
}


def speed_ups(evidence: Evidence) -> dict[str, dict[str, float]]:
    """How many times faster than eager each kind of graph is: for arithmetic on a large array, and
    for one example through every pair's model."""
    found: dict[str, dict[str, float]] = {name: {} for name in _COMPILED}
    graphs = evidence.graphs
    for name, (way, framework) in _COMPILED.items():
        eager = graphs.get(_EAGER[framework])
        if way in graphs and eager is not None:
            found[name]["arithmetic"] = eager["large_seconds"] / graphs[way]["large_seconds"]
    for pair, about in evidence.comparison.items():
        for name, (framework, figure) in _MODES.items():
            eager = about["figures"]["latency_eager"][framework]["median"]
            compiled = about["figures"][figure][framework]["median"]
            if eager and compiled:
                found[name][pair] = eager / compiled
    return found


def _faster(found: Mapping[str, Mapping[str, float]]) -> Finding:
    """A graph is faster where it saves a tenth of the time or more."""
    values = [value for part in found.values() for value in part.values()]
    if not values:
        return Finding(Verdict.unmeasured, "Nothing could be measured.")
    parts = [
        f"{name}: " + ", ".join(f"{what} {value:.2f}" for what, value in part.items())
        for name, part in found.items()
        if part
    ]
    good = sum(value > 1.1 for value in values)
    reason = (
        f"Times faster than the same framework's eager code, {good} of {len(values)} by more than a "
        f"tenth. {'; '.join(parts)}."
    )
    return Finding(
        by_share(good, len(values)), reason, {name: dict(p) for name, p in found.items()}
    )


def _static(evidence: Evidence) -> Finding:
    speeds = speed_ups(evidence)
    finding = _faster({name: speeds[name] for name in ("tf.function", "XLA")})
    fused = evidence.way("keras_ways:fused_by_xla")
    reason = f"XLA makes {fused['steps']} of {fused['operations']} operations. {finding.reason}"
    return Finding(finding.verdict, reason, {"fused": fused, "faster": finding.measured})


def _eager(evidence: Evidence) -> Finding:
    return _faster(speed_ups(evidence))


def _layouts(evidence: Evidence) -> Finding:
    sizes: dict[str, Any] = {"batch": 8, "size": 56, "channels": 64, "seconds": 2.0}
    torch = evidence.way("torch_ways:convolution", **sizes)
    keras = evidence.way("keras_ways:convolution", **sizes)
    ratio = torch["NCHW"] / torch["NHWC"]
    verdict = Verdict.fails if ratio < 0.95 else Verdict.depends
    if ratio > 1.05:
        verdict = Verdict.holds
    parts = [
        f"{name} {value if isinstance(value, str) else f'{value * 1e3:.1f} ms'}"
        for name, value in keras.items()
    ]
    reason = (
        f"On this CPU a convolution of 3×3 in PyTorch takes {torch['NCHW'] * 1e3:.1f} ms in NCHW and "
        f"{torch['NHWC'] * 1e3:.1f} ms in NHWC ({ratio:.2f} times as fast); in TensorFlow: "
        f"{', '.join(parts)}. CUDA and TPU were not measured."
    )
    return Finding(verdict, reason, {"torch": torch, "tensorflow": keras})


def _all_memory(evidence: Evidence) -> Finding:
    evidence.gpu("tensorflow")
    plain, growing = (evidence.way("gpu_ways:memory_taken", growth=g) for g in (False, True))
    holds = plain["share"] > 0.8 > growing["share"]
    reason = (
        f"After one small tensor TensorFlow holds {plain['share']:.0%} of the GPU's memory, with memory "
        f"growth {growing['share']:.0%}."
    )
    verdict = Verdict.holds if holds else Verdict.fails
    return Finding(verdict, reason, {"plain": plain, "growth": growing})


def _old_code(evidence: Evidence) -> Finding:
    found = evidence.way("keras_ways:old_code")
    failing = [name for name, error in found.items() if error is not None]
    running = [name for name, error in found.items() if error is None]
    expected = set(found) - {"tf.compat.v1"}
    verdict = Verdict.holds if set(failing) >= expected else by_share(len(failing), len(found))
    reason = f"These fail: {', '.join(failing)}. These run: {', '.join(running) or 'none'}."
    return Finding(verdict, reason, found)


def _same_as_xla(evidence: Evidence) -> Finding:
    fused = {
        "XLA": evidence.way("keras_ways:fused_by_xla"),
        "torch.compile": evidence.way("torch_ways:fused_by_inductor"),
    }
    both = all(found["steps"] < found["operations"] for found in fused.values())
    speeds = speed_ups(evidence)
    finding = _faster({name: speeds[name] for name in fused})
    # Both fuse; whether that pays is what C25 and C26 ask.
    parts = [f"{name} {f['operations']} operations to {f['steps']}" for name, f in fused.items()]
    reason = f"Of (x + y) · 2 make {', '.join(parts)}. {finding.reason}"
    verdict = Verdict.holds if both else Verdict.fails
    return Finding(verdict, reason, {"fused": fused, "faster": finding.measured})


def printed_run(node: Any, feed_dict: Mapping[str, float]) -> float:
    """The document's evaluator of a lazy graph: it has cases for placeholders and for operations."""
    from diglot.zoo.static_graph.lazy_graph import OPERATIONS

    if node.op == "placeholder":
        return feed_dict[node.name]
    return OPERATIONS[node.op](*(printed_run(item, feed_dict) for item in node.inputs))


def _lazy_graph(evidence: Evidence) -> Finding:
    from diglot.zoo.static_graph import lazy_graph

    z = (lazy_graph.placeholder("x") + lazy_graph.placeholder("y")) * 2
    feed = {"x": 3, "y": 4}
    measured: dict[str, Any] = {"with the case": lazy_graph.run(z, feed)}
    try:
        measured["as printed"] = printed_run(z, feed)
        verdict, ends = Verdict.holds, f"gives {measured['as printed']}"
    except KeyError as error:
        measured["as printed"] = f"KeyError: {error}"
        verdict, ends = Verdict.fails, f"fails: it has no case for {error}"
    reason = (
        f"z = (x + y) · 2 for 3 and 4, evaluated as the document does, {ends}; with one more case it "
        f"gives {measured['with the case']}."
    )
    return Finding(verdict, reason, measured)


CLAIMS = (
    Claim(
        "C25",
        "004",
        "Static graphs are optimised before they run (fused), and run faster.",
        "XLA's program for two operations; tf.function and XLA against eager",
        _static,
    ),
    Claim(
        "C26",
        "004",
        "Eager code is slower unless it is compiled.",
        "every kind of graph against eager: arithmetic, and every pair's model (zoo compare)",
        _eager,
    ),
    Claim(
        "C27",
        "004",
        "NCHW suits CUDA; NHWC suits CPU and TPU.",
        "a convolution in either layout, in both frameworks, on this CPU",
        _layouts,
    ),
    Claim(
        "C28",
        "004",
        "TensorFlow takes all of a GPU's memory unless memory growth is set.",
        "the GPU's free memory before and after one small tensor, on a machine with a GPU",
        _all_memory,
    ),
    Claim(
        "C29",
        "004",
        "TensorFlow 1 code does not run on TensorFlow 2; Keras 2 and 3 differ.",
        "idioms of each, run",
        _old_code,
    ),
    Claim(
        "C30",
        "004",
        "torch.compile now does what XLA does.",
        "operations that each fuses, and what it gains",
        _same_as_xla,
    ),
    Claim(
        "C31",
        "004",
        "The example of a lazy graph works as printed.",
        "the document's evaluator, which has no case for constants, on z = (x + y) · 2",
        _lazy_graph,
    ),
)
