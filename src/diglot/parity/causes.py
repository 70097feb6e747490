"""Likely causes of a difference: hypotheses tried on the numbers, then settings compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diglot.parity.sides import FORWARD, Sides
from diglot.parity.tolerances import relative

CLOSE = 1e-6
"""A variant that comes this near to the translation's figures is taken for the cause."""

# PyTorch attribute -> Keras attribute, for settings that are told apart by reading them.
_SETTINGS = {
    "eps": "epsilon",
    "negative_slope": "negative_slope",
    "approximate": "approximate",
    "num_heads": "num_heads",
    "groups": "groups",
}

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0.0),
}


def weight_cause(expected: np.ndarray, found: np.ndarray | None, note: str = "") -> str:
    """Why a weight in the target is not what the map makes of the source's."""
    if found is None:
        what = "the translation has no such weight"
        return f"{what}: {note}" if note and note != "missing" else what
    if found.size == expected.size:
        if not found.any():
            return "the weight is zero in the translation: it was not filled"
        if expected.ndim == 2 and relative(expected.T, found.reshape(expected.T.shape)) < CLOSE:
            return "the weight is transposed"
        for axis in range(expected.ndim):
            if relative(np.flip(expected, axis), found.reshape(expected.shape)) < CLOSE:
                return f"the weight is reversed along axis {axis}"
        if relative(np.sort(expected, axis=None), np.sort(found, axis=None)) < CLOSE:
            return "the weight holds the right numbers in another order: a wrong transposition"
    ratio = _ratio(expected, found)
    if ratio is not None:
        return f"the weight is {ratio:.6g} times what it should be"
    return "the weight holds other numbers than the source's"


def momentum_cause(
    before: np.ndarray,
    torch: np.ndarray,
    keras: np.ndarray,
    momentum: float,
    sides: Sides = FORWARD,
) -> str:
    """Why a running mean or variance moved differently; `momentum` is PyTorch's."""
    step, moved = torch - before, keras - before
    still = [name for name, d in ((sides.torch, step), (sides.keras, moved)) if not np.abs(d).max()]
    if len(still) == 1:
        return f"the running statistics are not updated in {still[0]}"
    if momentum and not still:
        ratio = _ratio(step, moved, loose=0.5)
        if ratio is not None:
            weight = momentum * ratio
            needed = f"PyTorch needs momentum {weight:.3g}"
            if not sides.to_torch:
                needed = f"Keras needs momentum {1 - momentum:g}"
            return (
                f"batch norm momentum: the new batch weighs {weight:.3g} in {sides.keras} and "
                f"{momentum:g} in {sides.torch}, where {needed}"
            )
    return "the running statistics are updated in another way"


def output_cause(torch: list[np.ndarray], keras: list[np.ndarray], sides: Sides = FORWARD) -> str:
    """What the numbers themselves say of two outputs that should be equal."""
    source, target = (keras, torch) if sides.to_torch else (torch, keras)
    names = ("Keras", "PyTorch") if sides.to_torch else ("PyTorch", "Keras")
    for a, b in zip(source, target, strict=False):
        if a.shape != b.shape:
            return (
                f"the shapes differ, {list(a.shape)} in {names[0]} and {list(b.shape)} in {names[1]}: "
                "padding, strides or a reshape"
            )
        if a.dtype.kind not in "fc" or relative(a, b) <= CLOSE * 1e-4:
            continue
        if not np.isfinite(b).all() and np.isfinite(a).all():
            return "the translation gives NaN or infinity"
        if relative(a, b) < 1e-5:
            return "something computes in float32 here, or in an approximate formula"
        if relative(np.sort(a, axis=None), np.sort(b, axis=None)) < CLOSE:
            return "the right numbers in another order: axes are swapped or mixed up in a reshape"
        cause = _activation_cause(a, b)
        if cause:
            return cause
        ratio = _ratio(a, b)
        if ratio is not None:
            return f"a factor: the translation gives {ratio:.6g} times {names[0]}'s output"
        offset = b - a
        if a.ndim >= 2 and offset.size:
            for axis in range(1, a.ndim):
                lead = np.moveaxis(offset, axis, 0).reshape(a.shape[axis], -1)
                if np.ptp(lead, axis=1).max() < CLOSE * np.abs(offset).max():
                    return f"a constant is added along axis {axis}: a bias is missing or doubled"
    return ""


def _activation_cause(source: np.ndarray, target: np.ndarray) -> str:
    """An activation that one side applies and the other does not."""
    if source.shape != target.shape:
        return ""
    with np.errstate(over="ignore"):
        for name, function in _ACTIVATIONS.items():
            if relative(source, function(target)) < CLOSE:
                return f"the activation is missing: {name} of it is the source's"
            if relative(target, function(source)) < CLOSE:
                return f"an activation too many: it is {name} of the source's"
    return ""


def settings_cause(module: Any, described: dict[str, Any]) -> str:
    """Settings in which a PyTorch module and its Keras layer, as described, disagree."""
    settings = described.get("settings") or {}
    differing = []
    for ours, theirs in _SETTINGS.items():
        a, b = getattr(module, ours, None), settings.get(theirs)
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a != b:
            differing.append(f"{theirs} is {b:g} in Keras, {ours} is {a:g} in PyTorch")
    has_bias = getattr(module, "bias", None) is not None
    if "use_bias" in settings and hasattr(module, "bias") and has_bias != settings["use_bias"]:
        differing.append("one side has a bias and the other has none")
    return "; ".join(differing)


def _ratio(a: np.ndarray, b: np.ndarray, loose: float = CLOSE) -> float | None:
    """c where b = c * a within `loose`, else None (also where c is 1)."""
    if a.shape != b.shape or not np.abs(a).max():
        return None
    place = np.unravel_index(int(np.abs(a).argmax()), a.shape)
    ratio = float(b[place] / a[place])
    if abs(ratio - 1) < CLOSE or not np.isfinite(ratio) or ratio == 0:
        return None
    scale = np.abs(b).max()
    return ratio if np.abs(b - ratio * a).max() <= loose * scale else None
